"""One block of a tar: what the 512 bytes of a header say. Pure.

Owns V7, ustar, star and GNU headers, their numbers and checksums, and the sparse maps that old GNU
headers carry. Knows nothing of what precedes or follows a block. Sources: POSIX.1-2017 pax
(ustar interchange format), GNU tar manual "Basic Tar Format", star(5).
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from orasfs.errors import InvalidContent

BLOCK = 512
MAX_SIZE = 2**63 - 1

_NUMBERS = struct.Struct("100x8s16x12s12s8s")  # mode; size, mtime, checksum
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
# The same numbers as nearly all writers write them: with zeros in front, and an end.
_PLAIN = re.compile(
    rb"([0-7]{6}[0-7 ])[ \0].{16}([0-7]{11})[ \0]([0-7]{11})[ \0]([0-7]{6})[ \0]{2}", re.DOTALL
)
_MODE_AT, _CHECKSUM_AT, _KIND_AT, _MAGIC_AT, _PREFIX_AT, _TRAILER_AT = 100, 148, 156, 257, 345, 508
_SPARSE_IN_HEADER = 386, 4, 482  # offset of the map, entries in it, offset of "is extended"
_SPARSE_IN_EXTENSION = 0, 21, 504
_REAL_SIZE = slice(483, 495)
_SIGNED_LIMIT = 0x80


class Header(NamedTuple):
    """A header block; a tuple, since each member makes one.

    Attributes:
        kind: the type flag, one byte.
        name: with the ustar prefix.
        target: of a link.
        mode: the permission bits.
        size: bytes of data that follow, as the header says.
        mtime: seconds since the epoch.
        block: the bytes themselves, for what only one format has.
    """

    kind: bytes
    name: bytes
    target: bytes
    mode: int
    size: int
    mtime: int
    block: bytes


def parse_header(block: bytes, offset: int) -> Header:
    """Read a header block that is not all zeros.

    Args:
        block: 512 bytes.
        offset: where in the tar it is, for the message.

    Raises:
        InvalidContent: its checksum is wrong, or a number in it is.
    """
    plain = _PLAIN.match(block, _MODE_AT)
    if plain is None:
        mode, size, mtime = _numbers(block, offset)
    else:
        digits, length, seconds, checksum = plain.groups()
        if not _is_sum(block, int(checksum, 8)):
            raise InvalidContent(f"tar: no header at offset {offset}: wrong checksum")
        mode, size, mtime = int(digits, 8), int(length, 8), int(seconds, 8)
    path = _text(block, 0, 100)
    magic = block[_MAGIC_AT : _MAGIC_AT + 6]
    if block[_PREFIX_AT] and (
        magic == b"ustar\0" or (magic == b"ustar " and block[263:265] != b" \0")
    ):
        is_star = block[_TRAILER_AT:] == b"tar\0"
        path = _text(block, _PREFIX_AT, 131 if is_star else 155) + b"/" + path
    target = _text(block, 157, 100) if block[157] else b""
    return Header(block[_KIND_AT : _KIND_AT + 1], path, target, mode & 0o7777, size, mtime, block)


def sparse_in_header(header: Header, offset: int) -> tuple[list[tuple[int, int]], int, bool]:
    """Return segments, real size, and whether an extension follows, of a GNU sparse header.

    Raises:
        InvalidContent: a number in it is wrong.
    """
    segments, is_extended = _segments(header.block, *_SPARSE_IN_HEADER, offset)
    return segments, _number(header.block[_REAL_SIZE], "real size", offset), is_extended


def sparse_in_extension(block: bytes, offset: int) -> tuple[list[tuple[int, int]], bool]:
    """Return segments of an extension block, and whether another one follows.

    Raises:
        InvalidContent: a number in it is wrong.
    """
    return _segments(block, *_SPARSE_IN_EXTENSION, offset)


def _segments(
    block: bytes, start: int, count: int, flag: int, offset: int
) -> tuple[list[tuple[int, int]], bool]:
    def read() -> Iterator[tuple[int, int]]:
        for position in range(start, start + count * 24, 24):
            if not block[position]:
                return  # an unused entry ends the map
            yield (
                _number(block[position : position + 12], "sparse map", offset),
                _number(block[position + 12 : position + 24], "sparse map", offset),
            )

    return list(read()), block[flag] not in b"\0 0"


def _numbers(block: bytes, offset: int) -> tuple[int, int, int]:
    """Return mode, size and mtime, however they are written."""
    mode, size, mtime, checksum = _NUMBERS.unpack_from(block)
    if not _is_sum(block, _number(checksum, "checksum", offset)):
        raise InvalidContent(f"tar: no header at offset {offset}: wrong checksum")
    length = _number(size, "size", offset)
    if not 0 <= length <= MAX_SIZE:
        raise InvalidContent(f"tar: impossible size in the header at offset {offset}")
    return _number(mode, "mode", offset), length, _number(mtime, "mtime", offset)


def _number(digits: bytes, what: str, offset: int) -> int:
    """Read octal digits, or GNU's base 256 (the first bit set; two's complement)."""
    if digits[0] & 0x80:
        width = 8 * len(digits) - 1
        value = int.from_bytes(digits, "big") & ((1 << width) - 1)
        return value - (1 << width) if digits[0] & 0x40 else value
    match = _OCTAL.fullmatch(digits)
    if match is None:
        raise InvalidContent(f"tar: no number as {what} in the header at offset {offset}")
    return int(match[1] or b"0", 8)


def _text(block: bytes, start: int, size: int) -> bytes:
    stop = block.find(b"\0", start, start + size)
    return block[start : stop if stop >= 0 else start + size]


def _is_sum(block: bytes, expected: int) -> bool:
    """Check the sum of all bytes, its own eight counted as spaces; old tars summed signed ones."""
    own = block[_CHECKSUM_AT:_KIND_AT]
    # Adler-32 begun at 0 has in its low half the sum modulo 65521, which 256 bytes do not reach.
    low, high = zlib.adler32(block[:256], 0), zlib.adler32(block[256:], 0)
    total = (low & 0xFFFF) + (high & 0xFFFF) - sum(own) + 8 * 0x20
    if total == expected:
        return True
    signed = sum(byte >= _SIGNED_LIMIT for byte in block) - sum(
        byte >= _SIGNED_LIMIT for byte in own
    )
    return total - 256 * signed == expected
