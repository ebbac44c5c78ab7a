"""One block of a tar: what the 512 bytes of a header say. Pure.

Owns V7, ustar, star and GNU headers, their numbers and checksums, and the sparse maps that old GNU
headers carry. Knows nothing of what precedes or follows a block. Sources: POSIX.1-2017 pax
(ustar interchange format), GNU tar manual "Basic Tar Format", star(5).
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from orasfs.errors import InvalidContent

BLOCK = 512
MAX_SIZE = 2**63 - 1

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_SPARSE_IN_HEADER = 386, 4, 482  # offset of the map, entries in it, offset of "is extended"
_SPARSE_IN_EXTENSION = 0, 21, 504
_REAL_SIZE = slice(483, 495)
_SIGNED_LIMIT = 0x80


@dataclass(frozen=True, slots=True)
class Header:
    """A header block.

    Attributes:
        kind: the type flag, one byte.
        name: with the ustar prefix.
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
    name, mode, _, _, size, mtime, checksum, kind, target, magic, version, *rest = _HEADER.unpack(
        block
    )
    if not _is_sum(block, _number(checksum, "checksum", offset)):
        raise InvalidContent(f"tar: no header at offset {offset}: wrong checksum")
    path = _text(name)
    if magic == b"ustar\0" or (magic == b"ustar " and version != b" \0"):
        prefix = _text(rest[4][:131] if block[508:] == b"tar\0" else rest[4])
        path = prefix + b"/" + path if prefix else path
    length = _number(size, "size", offset)
    if not 0 <= length <= MAX_SIZE:
        raise InvalidContent(f"tar: impossible size in the header at offset {offset}")
    return Header(
        kind,
        path,
        _text(target),
        _number(mode, "mode", offset) & 0o7777,
        length,
        _number(mtime, "mtime", offset),
        block,
    )


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


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _is_sum(block: bytes, expected: int) -> bool:
    """Check the sum of all bytes, its own eight counted as spaces; old tars summed signed ones."""
    own = block[148:156]
    total = sum(block) - sum(own) + 8 * 0x20
    if total == expected:
        return True
    high = sum(byte >= _SIGNED_LIMIT for byte in block) - sum(
        byte >= _SIGNED_LIMIT for byte in own
    )
    return total - 256 * high == expected
