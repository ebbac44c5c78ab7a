"""Gzip that can be read from several places although it is one member: how these are marked.

Owns the form. The compressed stream is begun anew in many places: at a byte boundary, and knowing
nothing of what is before. To every reader of gzip this is one ordinary member (RFC 1952), so even
those that take no more than one have all of it. Its header has a comment that announces the form
(not an extra field, which some readers stumble over), and before each place but the first one are
two empty stored blocks (RFC 1951, 3.2.4), of which compressors never write two. Pure.

What is told here is a hint: compressed bytes may look like a mark by chance or on purpose. Whoever
reads from such a place must have a digest of what comes of it.
"""

import zlib
from collections.abc import Iterator

HEAD = b"\x1f\x8b\x08\x10" + bytes(5) + b"\xff" + b"restarts\0"
_STORED_NOTHING = b"\0\0\xff\xff"  # its length and the complement, behind three bits and padding
MARK = _STORED_NOTHING + b"\0" + _STORED_NOTHING
# What follows Z_SYNC_FLUSH, which ends in the first half of it.
REST_OF_MARK = MARK[len(_STORED_NOTHING) :]
_INTO_MARK = 3
LEAST_APART = 256  # bytes of the blob
END = b"\x03\0"  # a last block, with nothing in it


def is_announced(head: bytes | bytearray | memoryview) -> bool:
    """Tell whether a blob that begins so is of this form."""
    return bytes(head[: len(HEAD)]) == HEAD


class MarkFinder:
    """Finds marks in a blob that comes in pieces, also those that lie across two.

    Args:
        least_apart: how many bytes behind a mark the next one begins, or is not taken for one: a
            blob of nothing but marks would take its time.
    """

    def __init__(self, least_apart: int = LEAST_APART) -> None:
        self._least_apart = least_apart
        self._before = b""
        self._passed = 0  # bytes to come that are behind a mark

    def __repr__(self) -> str:
        return "<MarkFinder>"

    def split(self, piece: bytes | bytearray | memoryview) -> Iterator[tuple[memoryview, bool]]:
        """Yield the piece in parts, and whether each ends with a mark."""
        view = memoryview(piece)
        known = len(self._before)
        content = self._before + bytes(view)
        start, look_from = 0, self._passed
        while (found := content.find(MARK, look_from)) >= 0:
            end = found + len(MARK)
            yield view[start : end - known], True
            start, look_from = end - known, end + self._least_apart
        if start < len(view):
            yield view[start:], False
        self._before = content[max(look_from, len(content) - len(MARK) + 1) :]
        self._passed = max(look_from - len(content), 0)


def parts_of_marks(content: bytes) -> Iterator[bytes]:
    """Yield content in parts none of which has a mark in it.

    Nor has what they are when each is stored as a block of its own (RFC 1951, 3.2.4).
    """
    start = 0
    while (found := content.find(MARK, start)) >= 0:
        stop = found + _INTO_MARK
        yield content[start:stop]
        start = stop
    yield content[start:]


def inflate(compressed: bytes | memoryview, size: int) -> bytes:
    """Return what is compressed from a place on, `size` bytes at most.

    It is something else if the place or the blob is wrong.
    """
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed, size)
    except zlib.error:
        return b""
