"""Who has a file of the cache open, told by flock(2), so that a process that dies tells it too.

A reader holds a shared lock on what it has open; who wants to evict asks for an exclusive one and
leaves the file alone if that is refused. What is being written is locked exclusively by its writer
(`orasfs.store.files.ingest`). Nothing here waits.

INVARIANT: a lease saves a file from eviction, never a reader from wrong bytes: an open file keeps
its bytes whatever becomes of its name. So where locks cannot be had, all goes on without them.
"""

import contextlib
import fcntl
import os
from pathlib import Path


def hold(fd: int) -> None:
    """Keep an open file from being evicted until its last descriptor is closed."""
    with contextlib.suppress(OSError):  # somebody is just giving it its name, or taking it
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def take(path: Path) -> int | None:
    """Open a file that nobody else has open and lock it; None if somebody has.

    The caller closes it.

    Raises:
        OSError: there is no such file, or it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
