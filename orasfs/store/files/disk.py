"""Plain file work on the cache's disk: reads that do not wait, durable names, errors in our words.

Owns the translation of `OSError` for everything the cache does on disk. Knows nothing of digests
or of trio; everything but `read_now` may block.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orasfs.errors import StorageFailure, StorageFull

_PROBE_BYTES = 64 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_WRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# What a filesystem answers that does not know RWF_NOWAIT.
_NO_NOWAIT = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an `OSError` of the block into our own; `what` says what was being done.

    Raises:
        StorageFull: no space or no quota is left.
        StorageFailure: any other failure of the disk.
    """
    try:
        yield
    except OSError as error:
        kind = StorageFull if error.errno in _FULL else StorageFailure
        raise kind(f"{what}: {error.strerror or error}") from error


def cannot_be_written(error: StorageFailure | StorageFull) -> bool:
    """Tell whether it failed only because nothing can be written there, though it may be read."""
    cause = error.__cause__
    return isinstance(error, StorageFull) or (
        isinstance(cause, OSError) and cause.errno in _NOT_WRITABLE
    )


def read_now(fd: int, offset: int, size: int) -> bytes | None:
    """Return exactly `size` bytes if the page cache has them all, else None."""
    probe = bytearray(min(size, _PROBE_BYTES))
    try:
        # A large read is tried into one small buffer over and over: to have two large ones, this
        # and the answer, makes malloc give memory back and forth, at ten times the cost.
        count = os.preadv(fd, _repeated(probe, size), offset, os.RWF_NOWAIT)
        if count == size == len(probe):
            return bytes(probe)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _NO_NOWAIT:
            return None  # the ordinary read that follows reports it
        count = size
    if count != size:
        return None
    content = os.pread(fd, size, offset)
    return content if len(content) == size else None


def _repeated(buffer: bytearray, size: int) -> list[bytearray | memoryview]:
    """Return `buffer` as often as makes `size` bytes."""
    whole, rest = divmod(size, len(buffer) or 1)
    return [*[buffer] * whole, *([memoryview(buffer)[:rest]] if rest else [])]


def read_fully(fd: int, offset: int, size: int) -> bytes:
    """Return exactly `size` bytes at `offset`. Blocks.

    Raises:
        StorageFailure: the file is shorter, or the disk failed.
    """
    with translated("read from the cache"):
        content = os.pread(fd, size, offset)
        while len(content) < size:
            more = os.pread(fd, size - len(content), offset + len(content))
            if not more:
                msg = f"read from the cache: the file ends at byte {offset + len(content)}"
                raise StorageFailure(msg)
            content += more
    return content


def write_fully(fd: int, content: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `content` at `offset`; the `OSError` of a failure is the caller's."""
    view = memoryview(content)
    while view:
        count = os.pwrite(fd, view, offset)
        offset += count
        view = view[count:]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
