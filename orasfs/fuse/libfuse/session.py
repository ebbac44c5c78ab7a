"""The FUSE session by pyfuse3: mount, serve until told to stop, unmount.

Owns pyfuse3's life cycle. Knows the port of the filesystem and nothing behind it.

INVARIANT: whatever ends `serve`, the mount is gone when it returns.
INVARIANT: nothing in this process touches a path below the mountpoint: it would wait for itself.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyfuse3
import trio

from orasfs.errors import MountFailed
from orasfs.fuse.libfuse.adapter import FuseAdapter
from orasfs.fuse.options import mount_options
from orasfs.fuse.place import detach_if_there, device_at, raise_read_ahead
from orasfs.fuse.service import Service

logger = logging.getLogger(__name__)

GRACE_SECONDS = 3.0  # what requests under way get to end by themselves when we stop
MAX_REQUESTS = 1000  # requests that may wait at once; the kernel bounds only background ones
IDLE_TASKS = 4


class LibraryCache:
    """Carries notifications to the kernel by pyfuse3 (orasfs.fuse.notifier.KernelCache)."""

    def invalidate_inode(self, ino: int) -> None:
        """Drop cached pages and attributes of an inode."""
        pyfuse3.invalidate_inode(ino)

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Drop a name."""
        pyfuse3.invalidate_entry(parent, name)


async def serve(service: Service) -> None:
    """Mount a filesystem and answer the kernel; as `orasfs.fuse.session.serve`."""
    mountpoint = service.mountpoint
    adapter = FuseAdapter(service.operations, os.getuid(), os.getgid())
    try:
        pyfuse3.init(adapter, mountpoint, mount_options(service.options))
    except RuntimeError as error:
        raise MountFailed(f"{mountpoint}: cannot mount: {error}") from error
    device = device_at(mountpoint)
    try:
        with service.notifier.speaking_to(LibraryCache()), unheard_answers_ignored():
            await _answer(adapter, service)
    finally:
        pyfuse3.close(unmount=device_at(mountpoint) == device)  # see `detach_if_there`
        # Libfuse takes an aborted connection for one that is unmounted.
        detach_if_there(mountpoint, device)
        logger.info("unmounted mountpoint=%s", mountpoint)


async def _answer(adapter: FuseAdapter, service: Service) -> None:
    mountpoint = service.mountpoint
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce, adapter, mountpoint, service.on_ready)
        nursery.start_soon(_terminate_on, service.stop, nursery.cancel_scope)
        try:
            await pyfuse3.main(min_tasks=IDLE_TASKS, max_tasks=MAX_REQUESTS)
        except* ConnectionAbortedError:
            # What the kernel says in place of ENODEV, which is the usual end, if it had to abort
            # requests: for `umount -f`, or for an unmount with some still under way.
            logger.info("the kernel has ended the session mountpoint=%s", mountpoint)
        nursery.cancel_scope.cancel()


class _IsHeard(logging.Filter):
    """Leaves out of pyfuse3's log that nobody waited for an answer any more.

    ENOENT of an answer says just that (fuse(4)): the mount was gone before a file that was open in
    it was closed. Nobody has lost anything, so it is no error.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log a record."""
        is_about_answer = "fuse_reply_" in str(record.msg)
        return not (is_about_answer and record.args == (os.strerror(errno.ENOENT),))


@contextmanager
def unheard_answers_ignored() -> Iterator[None]:
    """Keep pyfuse3 from logging errors that are none."""
    log, is_heard = logging.getLogger("pyfuse3"), _IsHeard()
    log.addFilter(is_heard)
    try:
        yield
    finally:
        log.removeFilter(is_heard)


async def _announce(adapter: FuseAdapter, mountpoint: str, on_ready: Callable[[], None]) -> None:
    await adapter.initialized.wait()
    # The kernel takes its own value from our first answer, so ours is set behind it.
    raise_read_ahead(mountpoint)
    logger.info("mounted mountpoint=%s", mountpoint)
    on_ready()


async def _terminate_on(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    pyfuse3.terminate()
    await trio.sleep(GRACE_SECONDS)
    logger.warning("requests still under way are given up after_seconds=%s", GRACE_SECONDS)
    scope.cancel()
