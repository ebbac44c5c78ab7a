"""The FUSE session: mount, serve until told to stop, unmount, by the transport that was chosen.

Owns nothing but the way to the transport, of which only the chosen one is loaded.
"""

import importlib
from collections.abc import Callable
from typing import Protocol, cast

import trio

from orasfs.fuse.notifier import SessionNotifier
from orasfs.fuse.options import SessionOptions, Transport
from orasfs.vfs.operations import MountOperations

_MODULES = {
    Transport.PYFUSE3: "orasfs.fuse.libfuse.session",
    Transport.DEVICE: "orasfs.fuse.device.session",
}


class Serve(Protocol):
    """What a transport's module offers as `serve`."""

    async def __call__(
        self,
        operations: MountOperations,
        mountpoint: str,
        options: SessionOptions,
        *,
        notifier: SessionNotifier,
        on_ready: Callable[[], None],
        stop: trio.Event,
    ) -> None:
        """Serve, as `serve` below."""
        ...


async def serve(
    operations: MountOperations,
    mountpoint: str,
    options: SessionOptions,
    *,
    notifier: SessionNotifier,
    on_ready: Callable[[], None],
    stop: trio.Event,
) -> None:
    """Mount `operations` and answer the kernel until somebody unmounts it or `stop` is set.

    Args:
        operations: the filesystem.
        mountpoint: an absolute path without symbolic links.
        options: how to mount.
        notifier: works as long as the session lives.
        on_ready: called once the kernel has been answered for the first time.
        stop: ends the session. Requests under way get a few seconds, then an error.

    Raises:
        MountFailed: the kernel or fusermount3 refused; fusermount3 has said why on stderr.
    """
    module = importlib.import_module(_MODULES[options.transport])
    # Each of them has a `serve` of that shape, and is checked where it is tested.
    transport = cast("Serve", module.serve)
    await transport(
        operations, mountpoint, options, notifier=notifier, on_ready=on_ready, stop=stop
    )
