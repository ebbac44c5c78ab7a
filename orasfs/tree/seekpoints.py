"""Gzip that is entered in the middle: decoding from a bit on, and what must be known for it.

A block of deflate (RFC 1951) begins at any bit, and refers to the 32 KiB before it, its *window*.
With both known, decoding needs nothing else of what is before. Windows are kept compressed, and
unpacked one at a time, so that the table of a large layer costs memory of the page cache only.

A decoder begins at a byte; it is brought to a bit by blocks of nothing in front, which fill the
bits before. To shift what is compressed instead would be wrong: a stored block begins at a byte
of the blob. Pure.

INVARIANT: what comes out for a wrong place or window is anything. Whoever decodes must know the
digest of what is to come out.
"""

import itertools
import sys
import zlib
from array import array
from collections.abc import Iterator

from isal import igzip_lib

from orasfs.errors import InvalidContent
from orasfs.tree.compression import MAX_PIECE_BYTES, open_decompressor

WINDOW_BYTES = 32 * 1024
_WINDOW_BITS = 15
_INPUT_BYTES = 1 << 16  # a decoder copies what it has not used: keep that small
_TRAILER_BYTES = 8  # of a gzip member: its CRC and size
_GZIP_MAGIC = b"\x1f\x8b"

# Blocks of nothing, as (value, bits); their lengths make up any number of bits modulo 8.
_EMPTY_FIXED = (0b010, 10)  # a block of fixed codes whose first is its end


def inflate(compressed: memoryview, bit: int, window: bytes) -> Iterator[bytes | memoryview]:
    """Yield what a blob of gzip makes from a block on, in pieces of at most a mebibyte.

    Goes on through members that follow.

    Args:
        compressed: the blob from the byte on in which the block begins.
        bit: where in that byte, 0 the lowest.
        window: what is before; may be shorter, or empty, if so much is not referred to.

    Raises:
        InvalidContent: there is no such block.
    """
    decoder = igzip_lib.IgzipDecompressor(
        flag=igzip_lib.DECOMP_DEFLATE, hist_bits=_WINDOW_BITS, zdict=window
    )
    used = 0
    for part in _parts(compressed, bit):
        used += len(part)
        data: bytes | memoryview = part
        while not decoder.eof and (data or not decoder.needs_input):
            try:
                piece = decoder.decompress(data, MAX_PIECE_BYTES)
            # isal's stub says that the class is an instance
            except igzip_lib.IsalError as error:  # type: ignore[misc]
                raise InvalidContent(f"layer: damaged deflate block: {error}") from error
            data = b""
            if piece:
                yield piece
        if decoder.eof:
            break
    lead = len(_LEADS[bit]) - (bit > 0)
    rest = compressed[used - lead - len(decoder.unused_data) + _TRAILER_BYTES :]
    if decoder.eof and bytes(rest[: len(_GZIP_MAGIC)]) == _GZIP_MAGIC:
        yield from open_decompressor(rest).feed(rest)


def _parts(compressed: memoryview, bit: int) -> Iterator[bytes | memoryview]:
    """Yield what to feed a decoder: blocks of nothing, that byte's upper bits, and the rest."""
    if not compressed:
        return
    lead = bytearray(_LEADS[bit] or b"\0")
    lead[-1] |= compressed[0] >> bit << bit
    yield bytes(lead)
    for start in range(1, len(compressed), _INPUT_BYTES):
        yield compressed[start : start + _INPUT_BYTES]


def _empty_dynamic() -> tuple[int, int]:
    """Return a block of nothing with codes of its own: of an odd number of bits, unlike the other.

    Two literals have codes of one bit, of which the end of the block is one.
    """
    used, order = {1, 18}, (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
    fields = [(0b100, 3), (0, 5), (0, 5), (len(order) - 4, 4)]
    fields += [(int(symbol in used), 3) for symbol in order]
    zeros = [(1, 1), (138 - 11, 7), (1, 1), (117 - 11, 7)]  # 255 literals that do not occur
    lengths = [(0, 1), (0, 1), (0, 1)]  # two literals and a distance, of one bit each
    return _joined([*fields, *zeros, *lengths, (1, 1)])


def _joined(fields: list[tuple[int, int]]) -> tuple[int, int]:
    value = bits = 0
    for field, length in fields:
        value |= field << bits
        bits += length
    return value, bits


def _leads() -> tuple[bytes, ...]:
    """Return, for each bit, the least blocks of nothing that end before it in their last byte."""
    found: dict[int, tuple[int, int]] = {0: (0, 0)}
    for dynamic, fixed in itertools.product(range(2), range(4)):
        lead = _joined([_empty_dynamic()] * dynamic + [_EMPTY_FIXED] * fixed)
        found.setdefault(lead[1] % 8, lead)
    return tuple(
        found[bit][0].to_bytes(-(-found[bit][1] // 8), "little") for bit in range(len(found))
    )


_LEADS = _leads()


class Windows:
    """The windows of blocks, by number, compressed; made by adding them, or from a buffer."""

    def __init__(self, ends: "array[int] | None" = None, packed: bytes | memoryview = b"") -> None:
        self._ends = array("Q") if ends is None else ends
        self._packed: bytes | bytearray | memoryview = packed

    def __repr__(self) -> str:
        return f"<Windows {len(self._ends)}>"

    def add(self, window: bytes) -> None:
        """Add the next one; an empty one takes nothing.

        Zeros in place of what nothing refers to are as good, and take next to nothing.
        """
        if not isinstance(self._packed, bytearray):
            self._packed = bytearray(self._packed)
        self._packed += zlib.compress(window, 9) if window else b""
        self._ends.append(len(self._packed))

    def window(self, number: int) -> bytes:
        """Return a window.

        Raises:
            InvalidContent: it is damaged.
        """
        start = self._ends[number - 1] if number else 0
        packed = self._packed[start : self._ends[number]]
        if not packed:
            return b""
        stream = zlib.decompressobj()
        try:
            window = stream.decompress(packed, WINDOW_BYTES + 1)
        except zlib.error as error:
            raise InvalidContent(f"layer chunks: a damaged window: {error}") from error
        if not stream.eof or len(window) > WINDOW_BYTES:
            raise InvalidContent("layer chunks: a window that is truncated, or too large")
        return window

    def to_bytes(self) -> bytes:
        """Return the binary form: where each ends (64 bits each, little-endian), and all."""
        ends = self._ends[:]
        if sys.byteorder == "big":
            ends.byteswap()
        return ends.tobytes() + bytes(self._packed)

    @classmethod
    def from_bytes(cls, buffer: bytes | memoryview, count: int) -> "Windows":
        """Return the windows that `to_bytes` gave; the buffer stays in use.

        Raises:
            InvalidContent: they are other ones.
        """
        size = len(buffer) - 8 * count
        if size < 0:
            raise InvalidContent("layer chunks: not the windows of a table")
        ends = array("Q", bytes(buffer[: 8 * count]))
        if sys.byteorder == "big":
            ends.byteswap()
        is_ordered = all(before <= after for before, after in itertools.pairwise(ends))
        if not is_ordered or (ends and ends[-1] != size):
            raise InvalidContent("layer chunks: not the windows of a table")
        return cls(ends, memoryview(buffer)[8 * count :])
