"""The FUSE session: mount, serve until told to stop, unmount, by the transport that was chosen.

Owns nothing but the way to the transport, of which only the chosen one is loaded.
"""

import importlib
from typing import Protocol, cast

from orasfs.fuse.options import Transport
from orasfs.fuse.service import Service

_MODULES = {
    Transport.PYFUSE3: "orasfs.fuse.libfuse.session",
    Transport.DEVICE: "orasfs.fuse.device.session",
}


class Serve(Protocol):
    """What a transport's module offers as `serve`."""

    async def __call__(self, service: Service) -> None:
        """Serve, as `serve` below."""
        ...


async def serve(service: Service) -> None:
    """Mount a filesystem and answer the kernel until somebody unmounts it or `stop` is set.

    Raises:
        MountFailed: the kernel or fusermount3 refused; fusermount3 may have said why on stderr.
    """
    module = importlib.import_module(_MODULES[service.options.transport])
    # Each of them has a `serve` of that shape, and is checked where it is tested.
    transport = cast("Serve", module.serve)
    await transport(service)
