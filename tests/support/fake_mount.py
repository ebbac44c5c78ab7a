"""Mounts the fake filesystem in this process: `python -m tests.support.fake_mount … MOUNTPOINT`.

Takes the arguments of `orasfs mount -f`, of which only the mountpoint, `log_file` and `transport`
matter.
"""

import signal
import sys
from pathlib import Path

import trio

from orasfs.daemon import logs
from orasfs.daemon.config import parse_options
from orasfs.fuse.notifier import SessionNotifier
from orasfs.fuse.options import SessionOptions, Transport, chosen_transport, may_pass_through
from orasfs.fuse.service import Service
from orasfs.fuse.session import serve
from tests.fakes.operations import FakeOperations


async def serve_fake(mountpoint: str, transport: Transport) -> None:
    """Serve until SIGTERM or unmounted."""
    stop = trio.Event()
    notifier = SessionNotifier()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def heed() -> None:
                async for _ in signals:
                    stop.set()

            nursery.start_soon(heed)
            options = SessionOptions("a,b \\é", transport=transport)
            operations = FakeOperations(notifier)
            await serve(Service(operations, mountpoint, options, notifier, lambda: None, stop))
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    words = [word.removeprefix("-o") for word in sys.argv[1:] if word.startswith("-o")]
    config = parse_options(words)
    logs.set_up("DEBUG", config.log_file or Path("/dev/null"), stderr_level="DEBUG")
    chosen = chosen_transport(Transport(config.transport), may_pass_through)
    trio.run(serve_fake, sys.argv[-1], chosen)
