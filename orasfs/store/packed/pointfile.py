"""The file of a layer's seek points: a table of chunks, and the digest of that.

Owns `index.points` beside a layer's index. It is apart from what a pass leaves, since it is made
later and by another process (`orasfs.store.packed.pointmaker`), and a pass that is made again
takes nothing of it. An empty file says that the layer was looked at and has none. Blocking.

INVARIANT: what is opened is what was written, or is not there.
"""

import hashlib
import mmap
from pathlib import Path

from orasfs.errors import InvalidContent
from orasfs.tree.chunktable import DIGEST_BYTES, ChunkTable

NAME = "index.points"


def seal(table: bytes) -> bytes:
    """Return what the file is to have."""
    return table + hashlib.sha256(table).digest()


def open_points(directory: Path) -> ChunkTable | None:
    """Open the table of a layer; None if there is none, or it is damaged.

    Its windows stay in the file, which is mapped.
    """
    try:
        with (directory / NAME).open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            if hashlib.sha256(content[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
                return None
        return ChunkTable.from_bytes(content[:-DIGEST_BYTES])
    except (OSError, ValueError, InvalidContent):  # an empty file cannot be mapped
        return None


def size_of(directory: Path) -> int | None:
    """Return the size of the file in bytes, None if there is none; 0 says there are no points."""
    try:
        return (directory / NAME).stat().st_size
    except OSError:
        return None
