"""The FUSE session: mount, serve until told to stop, unmount; and what is told to the kernel.

Owns pyfuse3's life cycle and the mount options that it needs. Knows the port of the filesystem
and nothing behind it.

INVARIANT: whatever ends `serve`, the mount is gone when it returns.
INVARIANT: nothing in this process touches a path below the mountpoint: it would wait for itself.
"""

import errno
import logging
import os
import queue
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyfuse3
import trio

from orasfs.errors import MountFailed
from orasfs.fuse.adapter import FuseAdapter
from orasfs.fuse.mountinfo import mount_at, read_mounts
from orasfs.vfs.operations import Ino, MountOperations

logger = logging.getLogger(__name__)

READ_AHEAD_KIB = 1024
GRACE_SECONDS = 3.0  # what requests under way get to end by themselves when we stop
MAX_REQUESTS = 1000  # requests that may wait at once; the kernel bounds only background ones
IDLE_TASKS = 4
NOTIFIER_JOIN_SECONDS = 2.0
SETTLE_SECONDS = 1.0  # for the kernel to forget; then who waits may see what was before
DETACH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to mount.

    Attributes:
        source: what /proc/mounts shows as the device.
        allow_other: whether other users than the mounting one may look in.
        read_only: whether the kernel itself refuses to write.
        flags: further options for the kernel, for example "noexec".
    """

    source: str
    allow_other: bool = False
    read_only: bool = False
    flags: tuple[str, ...] = ()


def mount_options(options: SessionOptions) -> set[str]:
    """Return the mount options as libfuse takes them.

    `max_read` must not be among them: pyfuse3 cannot set the connection's value, which libfuse
    then compares with it.
    """
    chosen = {
        *pyfuse3.default_options,  # default_permissions: the kernel checks the mode bits
        f"fsname={_escaped(options.source)}",
        "subtype=orasfs",
        "nosuid",
        "nodev",
        *options.flags,
    }
    if options.allow_other:
        chosen.add("allow_other")
    if options.read_only:
        chosen.add("ro")
    return chosen


def _escaped(source: str) -> str:
    """Escape what libfuse's parser splits at; pyfuse3 passes ASCII only."""
    ascii_only = os.fsencode(source).decode("ascii", "replace").replace("\ufffd", "?")
    printable = re.sub(r"[\x00-\x1f\x7f]", "?", ascii_only)
    return printable.replace("\\", "\\\\").replace(",", "\\,")


async def serve(
    operations: MountOperations,
    mountpoint: str,
    options: SessionOptions,
    *,
    notifier: "SessionNotifier",
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
    adapter = FuseAdapter(operations, os.getuid(), os.getgid())
    try:
        pyfuse3.init(adapter, mountpoint, mount_options(options))
    except RuntimeError as error:
        raise MountFailed(f"{mountpoint}: cannot mount: {error}") from error
    device = _device_at(mountpoint)
    try:
        with notifier, unheard_answers_ignored():
            await _answer(adapter, mountpoint, on_ready, stop)
    finally:
        # Detached from its place, a mount lives as long as its files are open; by now another one
        # may be at that place, and is not ours to unmount.
        pyfuse3.close(unmount=_device_at(mountpoint) == device)
        if device is not None and _device_at(mountpoint) == device:
            _detach(mountpoint)
        logger.info("unmounted mountpoint=%s", mountpoint)


def _detach(mountpoint: str) -> None:
    """Unmount what libfuse leaves: it takes an aborted connection for one that is unmounted."""
    command = ("fusermount3", "-u", "-z", "-q", "--", mountpoint)
    try:
        subprocess.run(command, timeout=DETACH_SECONDS, check=True)  # noqa: S603 - no shell
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("a dead mount is left mountpoint=%s error=%s", mountpoint, error)


async def _answer(
    adapter: FuseAdapter, mountpoint: str, on_ready: Callable[[], None], stop: trio.Event
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce, adapter, mountpoint, on_ready)
        nursery.start_soon(_terminate_on, stop, nursery.cancel_scope)
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


def raise_read_ahead(mountpoint: str, *, sys: Path = Path("/sys")) -> None:
    """Let the kernel read ahead 1 MiB at a time, three times as fast as its 128 KiB.

    Does nothing where /sys is not ours to write: it is a matter of speed only.
    """
    device = _device_at(mountpoint)
    if device is None:
        return
    try:
        knob = sys / "class/bdi" / device / "read_ahead_kb"
        if int(knob.read_text()) < READ_AHEAD_KIB:
            knob.write_text(f"{READ_AHEAD_KIB}\n")
    except (OSError, ValueError) as error:
        logger.debug("read-ahead stays as it is error=%s", error)


def _device_at(mountpoint: str) -> str | None:
    """Return the device of what is mounted at a path, None where nothing is, or nobody says."""
    try:
        mount = mount_at(mountpoint, read_mounts())
    except OSError:
        return None
    return mount.device if mount else None


class SessionNotifier:
    """Tells the kernel to forget, from a thread of its own (vfs.operations.Notifier).

    A notification waits in the kernel for requests on the same directory or pages; sent from a
    request's own task it would wait for itself. As a context manager it sends what has been told
    and ends; the session must be there all the while.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon thread: one that the kernel lets wait must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="fuse-notifier", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._queue.put(None)
        self._thread.join(NOTIFIER_JOIN_SECONDS)

    def invalidate_content(self, ino: Ino) -> None:
        """Drop cached pages of the inode."""
        self._queue.put(lambda: pyfuse3.invalidate_inode(ino))

    def invalidate_entry(self, parent: Ino, name: str) -> None:
        """Drop a name from the kernel's cache."""
        self._queue.put(lambda: pyfuse3.invalidate_entry(parent, os.fsencode(name)))

    async def settle(self) -> None:
        """Wait until all that was told has arrived, but for a second at most."""
        arrived = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def answer() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(arrived.set)

        self._queue.put(answer)
        with trio.move_on_after(SETTLE_SECONDS):
            await arrived.wait()

    def _work(self) -> None:
        while (notify := self._queue.get()) is not None:
            try:
                notify()
            except OSError as error:  # ENOENT: the kernel does not have it, which is as good
                logger.debug("notification not taken error=%s", error)
