"""Gzip that can be read from several places although it is one member: where these are.

Owns the form. Deflate is begun anew each `STEP_BYTES` of what is compressed: at a byte boundary,
and knowing nothing of what is before. To every reader of gzip this is one ordinary member (RFC
1952), so even those that read no more than one have all of it. Its header has a comment that
announces the form (not an extra field, which some readers stumble over); behind it comes an empty
member whose extra field has the length of each *stretch* in the blob (32 bits each), and how many
there are. Pure.

What is told here is a hint: whoever reads a stretch must have its digest from elsewhere.
"""

import struct
import zlib
from collections.abc import Sequence

STEP_BYTES = 1024 * 1024
HEAD = b"\x1f\x8b\x08\x10" + bytes(5) + b"\xff" + b"restarts=1048576\0"
MAX_TAIL_BYTES = 64 * 1024 + 64
_MEMBER = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff"
_EMPTY = b"\x03\0" + bytes(8)  # deflate of nothing, its CRC and size
_FIELD = b"OS"
_MARK = struct.Struct("<I8s")  # how many stretches, and what tells that this is an end
_NAME = b"ORASFSRS"
_MAX_FIELD_BYTES = 0xFFFF
_FIELD_HEAD_BYTES = 6  # of all extra fields the length; of this one the name and the length


def is_announced(head: bytes | bytearray | memoryview) -> bool:
    """Tell whether a blob that begins so is of this form."""
    return bytes(head[: len(HEAD)]) == HEAD


def tail(lengths: Sequence[int]) -> bytes:
    """Return what follows the member: where its stretches are; empty if they are too many.

    Args:
        lengths: in bytes of the blob, the header before the first one not counted.
    """
    size = 4 * len(lengths) + _MARK.size
    if size + 4 > _MAX_FIELD_BYTES:
        return b""
    places = struct.pack(f"<{len(lengths)}I", *lengths) + _MARK.pack(len(lengths), _NAME)
    field = _FIELD + struct.pack("<H", size) + places
    return _MEMBER + struct.pack("<H", len(field)) + field + _EMPTY


def places(end: bytes, blob_size: int) -> tuple[Sequence[int], int] | None:
    """Return where the stretches begin in the blob, and where the last one ends at the latest.

    Args:
        end: the blob's last bytes, `MAX_TAIL_BYTES` if it has as many.
        blob_size: the size of the blob.

    Returns: None if they are not told, or cannot be right.
    """
    mark = len(end) - len(_EMPTY) - _MARK.size
    if mark < 0 or not end.endswith(_EMPTY):
        return None
    count, name = _MARK.unpack_from(end, mark)
    first = mark - 4 * count
    start = first - len(_MEMBER) - _FIELD_HEAD_BYTES
    if name != _NAME or start < 0 or not end.startswith(_MEMBER, start):
        return None
    lengths = struct.unpack_from(f"<{count}I", end, first)
    stop = blob_size - (len(end) - start)
    begins = [len(HEAD)]
    for length in lengths[:-1]:
        begins.append(begins[-1] + length)
    is_right = count and all(lengths) and begins[-1] + lengths[-1] == stop
    return (begins, stop) if is_right else None


def inflate(compressed: bytes | memoryview, size: int) -> bytes:
    """Return what a stretch makes, `size` bytes at most; something else if it is damaged."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed, size)
    except zlib.error:
        return b""
