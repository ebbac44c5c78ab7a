"""Looking at the files of a cache: what one is, which there are, which are not there any more.

Owns how the disk is read for the ledger. Blocking; yields in batches, so that a scan of a large
cache can be stopped, and holds nobody up.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from orasfs.store.content.entries import Entry, Kind, kind_of
from orasfs.store.files import chunkmapfile

T = TypeVar("T")

_BATCH = 500
_BLOCK_BYTES = 512  # of st_blocks, whatever the filesystem's blocks are
_PLACES = ("blobs", "orasfs")


def look(root: Path, name: str, now: int) -> Entry | None:
    """Return a file as it is; None if it is not there, or not to be counted.

    Args:
        root: the cache.
        name: the path below it.
        now: when it was last used, if it was used later than changed.
    """
    kind = kind_of(name)
    path = root / name
    try:
        status = path.lstat()
    except OSError:
        return None
    if kind is None or not stat.S_ISREG(status.st_mode):
        return None
    size = status.st_blocks * _BLOCK_BYTES
    if kind is Kind.PARTIAL:
        size += _size(chunkmapfile.path_of(path))
    return Entry(name, kind, size, now)


def files(root: Path) -> Iterator[Sequence[Entry]]:
    """Yield all files that are there, each used when it was changed or read last.

    Not those of ingest/, of which those know more who write them.
    """
    for batch in _batches(_names(root)):
        yield [entry for name in batch if (entry := _dated(root, name)) is not None]


def missing(root: Path, entries: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield those of the entries whose file is not there."""
    for batch in _batches(entries):
        yield [
            entry
            for entry in batch
            if not entry.path.startswith("ingest/") and not (root / entry.path).exists()
        ]


def _dated(root: Path, name: str) -> Entry | None:
    try:
        status = (root / name).lstat()
    except OSError:
        return None
    return look(root, name, int(max(status.st_mtime, status.st_atime)))


def _names(root: Path) -> Iterator[str]:
    for place in _PLACES:
        for directory, _, names in os.walk(root / place):
            below = Path(directory).relative_to(root).as_posix()
            yield from (f"{below}/{name}" for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * _BLOCK_BYTES
    except OSError:
        return 0


def _batches(found: Iterable[T]) -> Iterator[Sequence[T]]:
    iterator = iter(found)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
