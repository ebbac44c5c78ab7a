"""The daemon's process: signals, logs, the event loop, and the exit status.

Owns the process-wide things, so that `compose` has none. A clean unmount is exit status 0, whether
a signal, `umount` or fusermount3 asked for it.
"""

import faulthandler
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from orasfs.daemon import logs
from orasfs.daemon.compose import mount_and_serve
from orasfs.daemon.config import MountConfig
from orasfs.errors import MountFailed, OrasfsError

logger = logging.getLogger(__name__)

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(config: MountConfig, *, stderr_level: str, on_ready: Callable[[], None]) -> None:
    """Mount in this process and return when it is unmounted.

    Args:
        config: what and how; all paths absolute.
        stderr_level: what of the log goes to stderr, whatever goes to the file.
        on_ready: called once the mount answers the kernel.

    Raises:
        OrasfsError: it could not be mounted, with the reason.
    """
    try:
        ring = logs.set_up(config.log_level, config.log_file, stderr_level=stderr_level)
    except OSError as error:
        raise MountFailed(f"{config.log_file}: {error.strerror}") from error
    os.chdir("/")  # a daemon must not keep the directory busy that it was started in
    _raise_file_limit()
    with _stack_dumps(config.log_file):
        try:
            trio.run(_main, config, ring, on_ready)
        except ExceptionGroup as group:
            raise _reason(group) from group


def _raise_file_limit() -> None:
    """Take as many descriptors as we may: each blob that somebody has open is one here.

    The soft limit is low (1024) for the sake of programs that use select(2); this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        logger.debug("limit of open files stays soft=%s error=%s", soft, error)


async def _main(config: MountConfig, ring: logs.LogRing, on_ready: Callable[[], None]) -> None:
    stop = trio.Event()
    # The receiver is there before the mount: no signal meets the default action while mounted.
    with trio.open_signal_receiver(*END_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, signals, stop)
            await mount_and_serve(config, ring, on_ready=on_ready, stop=stop)
            nursery.cancel_scope.cancel()


async def _heed(signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for number in signals:
        logger.info("unmounting signal=%s", signal.Signals(number).name)
        stop.set()


def _reason(group: ExceptionGroup[Exception]) -> BaseException:
    """Return the one deliberate failure of a group, if that is all there is, else the group."""
    deliberate, others = group.split(OrasfsError)
    if deliberate is None or others is not None:
        return group
    first: BaseException = deliberate
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


@contextmanager
def _stack_dumps(log_file: Path | None) -> Iterator[None]:
    """Let SIGUSR1 write the stacks of all threads to the log file, or to stderr."""
    output = log_file.open("a") if log_file else None
    try:
        faulthandler.register(signal.SIGUSR1, file=output or sys.stderr)
        yield
    finally:
        faulthandler.unregister(signal.SIGUSR1)
        if output is not None:
            output.close()
