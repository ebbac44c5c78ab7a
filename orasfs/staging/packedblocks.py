"""Blocks of packed layers that were compressed ahead: what became of which bytes.

Owns where they are kept: in a file without a name below the draft's directory, which nobody has to
remove. They are found by the digest of what they are made of, so nothing can be out of date: a
block that is not wanted any more is only never asked for.
"""

import errno
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import IO, NamedTuple

from isal import isal_zlib

from orasfs.staging.layerblob import compress_block
from orasfs.staging.localdisk import translated

MOST_BLOCKS = 200_000  # about 20 GB of files, and 40 MB of memory


class _Place(NamedTuple):
    """Where in the file a block is, and the CRC of what must be there."""

    start: int
    size: int
    crc: int


class PackedBlocks:
    """The blocks of one draft. Any thread may call any method.

    Args:
        directory: where they are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._places: dict[bytes, _Place] = {}
        self._file: IO[bytes] | None = None
        self._size = 0

    def __repr__(self) -> str:
        return f"<PackedBlocks {len(self._places)}>"

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return len(self._places) >= MOST_BLOCKS

    def find(self, content: bytes) -> bytes | None:
        """Return what `layerblob.compress_block` makes of this, if that is known."""
        if not self._places:
            return None
        key = hashlib.sha256(content).digest()
        with self._lock:  # around the reading: the number of a closed file is soon another one's
            place = self._places.get(key)
            if place is None or self._file is None:
                return None
            try:
                packed = os.pread(self._file.fileno(), place.size, place.start)
            except OSError:
                return None
        return packed if isal_zlib.crc32(packed) == place.crc else None

    def add(self, content: bytes) -> None:
        """Compress a block, unless that was done.

        Raises:
            StorageFull: the disk is full.
            LocalFailure: it failed otherwise.
        """
        key = hashlib.sha256(content).digest()
        if key in self._places or self.is_full:
            return
        packed = compress_block(content)
        with self._lock, translated("compress ahead of the commit"):
            if self._file is None:
                self._file = tempfile.TemporaryFile(  # noqa: SIM115 - `clear` closes it
                    dir=self._directory, buffering=0
                )
            if os.pwrite(self._file.fileno(), packed, self._size) < len(packed):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._places[key] = _Place(self._size, len(packed), isal_zlib.crc32(packed))
            self._size += len(packed)

    def clear(self) -> None:
        """Forget all, and give the room back."""
        with self._lock:
            self._places.clear()
            file, self._file, self._size = self._file, None, 0
        if file is not None:
            file.close()
