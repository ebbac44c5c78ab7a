"""Extended headers of a tar: PAX records, times, and three forms of sparse maps. Pure.

Owns the grammar of a record, "LENGTH KEY=VALUE" and a newline (POSIX.1-2017 pax, "pax Extended
Header"), and GNU tar's sparse formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").
Only the keys that change what a reader sees are kept.
"""

import re
from array import array
from dataclasses import dataclass, field

from orasfs.errors import ContentRefused, InvalidContent
from orasfs.tree.layerindex import Extent
from orasfs.tree.tarheader import MAX_SIZE

MAX_SEGMENTS = 250_000  # of one sparse file: a map is held in memory while it is read

_SPARSE = b"GNU.sparse."
_KEPT = frozenset({b"path", b"linkpath", b"size", b"mtime"})
_NUMBER = re.compile(rb"[0-9]{1,19}")
_TIME = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_MAX_TIME_NS = 2**63 - 1
_LENGTH_DIGITS = 8
_MAX_LINE = 20

Segment = tuple[int, int]


@dataclass(slots=True)
class Records:
    """The records of extended headers that matter, and the pairs of sparse format 0.0."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    pairs: list[Segment] = field(default_factory=list)


def parse_records(data: bytes, offset: int) -> Records:
    """Read the data of one extended header. An empty value says that the key does not count.

    Args:
        data: without the padding.
        offset: where in the tar it begins, for the message.

    Raises:
        InvalidContent: it breaks the grammar.
    """
    records = Records()
    pending: list[int] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + _LENGTH_DIGITS)
        digits = data[position:space] if space > 0 else b""
        length = int(digits) if _NUMBER.fullmatch(digits) else 0
        record = data[space + 1 : position + length]
        key, equals, value = record[:-1].partition(b"=")
        if (
            not equals
            or not key
            or len(record) != length - len(digits) - 1
            or record[-1:] != b"\n"
        ):
            raise InvalidContent(f"tar: damaged extended header at offset {offset + position}")
        position += length
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pending.append(parse_number(value, offset))
        elif key in _KEPT or key.startswith(_SPARSE):
            records.values[key] = value
    if len(pending) % 2:
        raise InvalidContent(f"tar: damaged sparse map at offset {offset}")
    records.pairs = list(zip(pending[::2], pending[1::2], strict=True))
    return records


def parse_number(text: bytes, offset: int) -> int:
    """Read a decimal number.

    Raises:
        InvalidContent: it is none, or does not fit into 63 bits.
    """
    value = int(text) if _NUMBER.fullmatch(text) else -1
    if not 0 <= value <= MAX_SIZE:
        raise InvalidContent(f"tar: no number in the extended header at offset {offset}")
    return value


def parse_time_ns(text: bytes, offset: int) -> int:
    """Read a PAX time exactly, digits behind the ninth dropped.

    Raises:
        InvalidContent: it is none.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise InvalidContent(f"tar: no time in the extended header at offset {offset}")
    fraction = (match[3] or b"")[:9].ljust(9, b"0")
    value = int(match[2]) * 1_000_000_000 + int(fraction)
    return clamp_time_ns(-value if match[1] else value)


def clamp_time_ns(value: int) -> int:
    """Return the nearest time that 64 bits of nanoseconds can hold: the years 1677 to 2262."""
    return max(-_MAX_TIME_NS, min(_MAX_TIME_NS, value))


def parse_map(text: bytes, offset: int) -> list[Segment]:
    """Read the map of sparse format 0.1: offsets and lengths in turn, with commas.

    Raises:
        InvalidContent: it is not one.
    """
    numbers = [parse_number(part, offset) for part in text.split(b",")] if text else []
    if len(numbers) % 2:
        raise InvalidContent(f"tar: damaged sparse map at offset {offset}")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


class MapReader:
    """Reads the map of sparse format 1.0 from the blocks in which the file's data begin."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._rest = b""
        self._numbers = array("Q")

    def feed(self, block: bytes) -> bool:
        """Take a block; return whether the map is complete.

        Raises:
            InvalidContent: it is no map.
        """
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._numbers.append(parse_number(line, self._offset))
            if self._numbers[0] > MAX_SEGMENTS:
                raise ContentRefused(f"tar: over {MAX_SEGMENTS} segments in a sparse file")
            if len(self._numbers) == 1 + 2 * self._numbers[0]:
                return True
        if len(self._rest) > _MAX_LINE:
            raise InvalidContent(f"tar: damaged sparse map at offset {self._offset}")
        return False

    def segments(self) -> list[Segment]:
        """Return the segments, after `feed` said that they are complete."""
        return list(zip(self._numbers[1::2], self._numbers[2::2], strict=True))


def extents_of(
    segments: list[Segment], tar_offset: int, stored: int, size: int
) -> tuple[Extent, ...]:
    """Return where the bytes of a sparse file are, adjacent segments joined.

    Args:
        segments: offset and length in the file; their bytes are stored one after the other.
        tar_offset: where the stored bytes begin.
        stored: how many there are.
        size: of the file, with its holes.

    Raises:
        InvalidContent: segments overlap, are not in order, or are not all stored.
    """
    extents: list[Extent] = []
    end = used = 0
    for offset, length in segments:
        if offset < end or offset + length > size or used + length > stored:
            raise InvalidContent(f"tar: impossible sparse map at offset {tar_offset}")
        if extents and offset == end and length:
            last = extents.pop()
            extents.append(Extent(last.file_offset, last.tar_offset, last.length + length))
        elif length:
            extents.append(Extent(offset, tar_offset + used, length))
        end = offset + length
        used += length
    return tuple(extents)
