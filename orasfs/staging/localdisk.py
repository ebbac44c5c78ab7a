"""The disk that drafts are kept on: its failures in our words, and durable small files.

Owns the translation of `OSError`; knows no draft.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orasfs.errors import LocalFailure, StorageFull

RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2

_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an `OSError` inside into ours; `what` says what was tried.

    Raises:
        StorageFull: the disk is full.
        LocalFailure: it failed otherwise; with the operating system's number.
    """
    try:
        yield
    except OSError as error:
        raise failure(what, error) from error


def failure(what: str, error: OSError) -> StorageFull | LocalFailure:
    """Return our error for an operating system's."""
    text = f"{what}: {error.strerror or error}"
    if error.errno == errno.ENOSPC:
        return StorageFull(text)
    return LocalFailure(text, error.errno or errno.EIO)


def refusal(what: str, number: int) -> LocalFailure:
    """Return the error that the operating system would have given with this number."""
    return LocalFailure(f"{what}: {os.strerror(number)}", number)


def rename(old: str, new: str, flags: int) -> None:
    """Rename as renameat2(2), with its flags; the `OSError` of a failure is the caller's."""
    if not flags:
        os.rename(old, new)  # noqa: PTH104 - these are strings with surrogates
        return
    done = _libc.renameat2(
        _AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags)
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old)


def sync_directory(path: str | Path) -> None:
    """Make the names in a directory durable. Blocks; the `OSError` is the caller's."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file so that after a crash it is the old or the new one, whole.

    Raises:
        StorageFull: the disk is full; the old one stays.
        LocalFailure: it failed otherwise; the old one stays.
    """
    new = path.with_name(f"{path.name}.new")
    with translated(f"write {path.name}"):
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_directory(path.parent)
