"""Reads the index of a gzip file that other tools write: GZIDX, version 0 and 1.

Owns the form, which is that of indexed_gzip's zran.c and of rapidgzip: a header, the places of all
points, and the windows of those that have one. Pure: reads a file that is at hand.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from orasfs.errors import InvalidContent

_HEADER = struct.Struct("<5sBBQQIII")  # magic; version; flags; sizes; spacing; window; points
_PLACE = struct.Struct("<QQB")  # in the blob, in what it makes, bits of the byte before
_MAGIC = b"GZIDX"
_HAS_WINDOW = struct.Struct("<?")  # from version 1 on; before, all but the first have one
_MAX_WINDOW_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Point:
    """A block of deflate.

    Attributes:
        start: of its bytes in what the whole makes.
        bit: where it begins in the blob, counted in bits.
        window: what is before it, as far as it is needed.
    """

    start: int
    bit: int
    window: bytes


def read_points(file: BinaryIO) -> tuple[int, Iterator[Point]]:
    """Return how many bytes the whole makes, and the points that are told, in their order.

    Raises:
        InvalidContent: it is no such index, or it is truncated; also while iterating.
    """
    magic, version, _, _, size, _, window, count = _HEADER.unpack(_read(file, _HEADER.size))
    if magic != _MAGIC or version > 1 or window > _MAX_WINDOW_BYTES:
        raise InvalidContent("gzip index: not one of a version that is known")
    places = []
    for number in range(count):
        byte, start, bits = _PLACE.unpack(_read(file, _PLACE.size))
        has_window = number > 0
        if version:
            (has_window,) = _HAS_WINDOW.unpack(_read(file, _HAS_WINDOW.size))
        places.append((start, 8 * byte - bits, window if has_window else 0))
    return size, (Point(start, bit, _read(file, length)) for start, bit, length in places)


def _read(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) != size:
        raise InvalidContent("gzip index: truncated")
    return found
