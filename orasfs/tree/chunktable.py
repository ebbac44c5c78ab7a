"""Which bytes of a compressed layer make which bytes of its files, and what these must be.

A seekable layer has its content in *chunks*: parts of the blob that can be decompressed by
themselves. Here they are in one address space, one after the other: chunk N has the addresses from
`start(N)` to `start(N + 1)`. For a layer that was passed once these are the offsets in its tar;
for one that is known by a table of contents only (`orasfs.tree.toc`) they are made up, since such
a table does not say where in the tar a file is. Pure: knows no disk and no network.

The binary form, little-endian: a header (`_HEADER`), the addresses of the chunks and the end of
the last, where in the blob each begins (64 bits each), and their digests (sha256). Chunks that
begin at a bit of the blob have that counted in bits, and their windows follow.

INVARIANT: `decode` gives bytes of the digest that the table has for them, or raises.
"""

import bisect
import hashlib
import itertools
import struct
import sys
from array import array
from collections.abc import Iterator
from enum import IntEnum

from orasfs.errors import ContentMismatch, InvalidContent
from orasfs.tree import restarts, seekpoints
from orasfs.tree.compression import is_plain, open_decompressor

CHUNK_BYTES = 48 * 1024  # of a layer that is passed: at least so many, where streams are short
PLAIN_CHUNK_BYTES = 128 * 1024
MAX_CHUNK_BYTES = 8 * 1024 * 1024
DIGEST_BYTES = 32  # of sha256
# What compression adds at most to what it cannot make smaller, with headers.
_SLACK_BYTES = 64 * 1024
_MIN_CHUNKS = 2
_MAGIC = b"ORASFSCT"
_VERSION = 2
# …; form; chunks; where in the blob they end
_HEADER = struct.Struct("<8sHHIQ")


class Form(IntEnum):
    """How a blob is read from where a chunk begins."""

    STREAMS = 0  # as gzip members or zstd frames
    PLAIN = 1  # as it is
    RESTARTS = 2  # see `orasfs.tree.restarts`
    WINDOWS = 3  # as gzip from a bit on, see `orasfs.tree.seekpoints`


class ChunkTable:
    """The chunks of one layer; made by adding them in order of their addresses.

    Args:
        form: how the blob is read from where a chunk begins.
    """

    def __init__(self, form: Form = Form.STREAMS) -> None:
        self._form = form
        self._starts = array("Q", [0])
        self._blob_starts = array("Q")
        self._blob_stops = array("Q")
        self._skipped = array("Q")
        self._digests = bytearray()
        self._bits = bytearray()  # where in its first byte each begins, if that is told
        self._windows = seekpoints.Windows()

    def __repr__(self) -> str:
        return f"<ChunkTable {len(self)} chunks, {self.size} bytes>"

    @property
    def is_hint(self) -> bool:
        """Whether it may be the table that is wrong, and not the blob, where they do not agree.

        Then what looks like a beginning need not be one, or windows are kept beside it.
        """
        return self._form in (Form.RESTARTS, Form.WINDOWS)

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._blob_starts)

    @property
    def size(self) -> int:
        """How many addresses there are."""
        return self._starts[-1]

    def add(self, length: int, blob_start: int, digest: bytes, *, skipped: int = 0) -> None:
        """Add a chunk of `length` bytes; `close` tells where it ends in the blob.

        Args:
            length: uncompressed.
            blob_start: where in the blob its compressed stream begins.
            digest: of its bytes, sha256.
            skipped: how many bytes of other chunks the stream makes before them.

        Raises:
            InvalidContent: it is empty, or too large to be kept in memory.
        """
        if not 0 < length <= MAX_CHUNK_BYTES or not 0 <= skipped <= MAX_CHUNK_BYTES:
            raise InvalidContent(
                f"layer: a chunk of {length} bytes, {skipped} bytes into a stream"
            )
        if len(digest) != DIGEST_BYTES:
            raise InvalidContent("layer: a chunk without a sha256 digest")
        self._starts.append(self._starts[-1] + length)
        self._blob_starts.append(blob_start)
        self._skipped.append(skipped)
        self._digests += digest

    def add_point(self, length: int, bit: int, digest: bytes, window: bytes) -> None:
        """Add a chunk that begins at a bit of the blob, of a table of `Form.WINDOWS`.

        Raises:
            InvalidContent: as `add`; or it begins in the same byte as the one before.
        """
        if self._blob_starts and bit >> 3 <= self._blob_starts[-1]:
            raise InvalidContent(f"layer: a chunk at bit {bit}, not behind the one before")
        self.add(length, bit >> 3, digest)
        self._bits.append(bit & 7)
        self._windows.add(window)

    def close(self, blob_stop: int, *, is_exact: bool = False) -> None:
        """Say that there are no more, and that streams lie before byte `blob_stop` of the blob.

        A stream ends where the next one begins; unless `is_exact`, there may be something else
        behind it, which is not fetched if it is much.

        Raises:
            InvalidContent: a stream begins elsewhere.
        """
        edges = sorted({*self._blob_starts, blob_stop})
        if edges[-1] > blob_stop or blob_stop in self._blob_starts:
            raise InvalidContent("layer: a chunk lies behind the end of what is compressed")
        following = dict(itertools.pairwise(edges))
        if self._form is Form.WINDOWS:
            # The byte in which the next chunk begins may have an end of this one.
            following = {start: min(stop + 1, blob_stop) for start, stop in following.items()}
        stops = array("Q")
        places = zip(
            self._blob_starts, self._skipped, self._starts, self._starts[1:], strict=False
        )
        for start, skipped, first, last in places:
            made = skipped + last - first
            most = blob_stop if is_exact else start + made + made // 100 + _SLACK_BYTES
            stops.append(min(following[start], most))
        self._blob_stops = stops

    def start(self, number: int) -> int:
        """Return the first address of a chunk."""
        return self._starts[number]

    def length(self, number: int) -> int:
        """Return how many bytes a chunk has."""
        return self._starts[number + 1] - self._starts[number]

    def blob_range(self, number: int) -> tuple[int, int]:
        """Return the bytes [start, stop) of the blob from which a chunk is made."""
        return self._blob_starts[number], self._blob_stops[number]

    def span(self, start: int, stop: int) -> range:
        """Return the chunks that have the addresses [start, stop).

        Raises:
            InvalidContent: there are no such addresses.
        """
        if not 0 <= start < stop <= self.size:
            raise InvalidContent(f"layer: no chunks for bytes {start} to {stop} of {self.size}")
        first = bisect.bisect_right(self._starts, start) - 1
        return range(first, bisect.bisect_left(self._starts, stop))

    def is_right(self, number: int, content: bytes | memoryview) -> bool:
        """Tell whether these are the bytes of a chunk."""
        at = number * DIGEST_BYTES
        return hashlib.sha256(content).digest() == self._digests[at : at + DIGEST_BYTES]

    def decode(self, numbers: range, compressed: bytes | memoryview) -> Iterator[bytes]:
        """Yield the bytes of chunks that one stream makes, verified, one after the other.

        Args:
            numbers: of chunks that begin at one place of the blob.
            compressed: what the blob has from there on.

        Raises:
            ContentMismatch: that part of the blob is not what the table was made of; what was
                yielded before is right.
        """
        made = bytearray()
        pieces = self._pieces(numbers.start, compressed)
        for number in numbers:
            start = self._skipped[number]
            stop = start + self.length(number)
            try:
                while len(made) < stop and (piece := next(pieces, None)) is not None:
                    made += piece
            except InvalidContent as error:
                raise ContentMismatch(f"chunk {number} of a layer is damaged: {error}") from error
            content = bytes(memoryview(made)[start:stop])
            if not self.is_right(number, content):
                raise ContentMismatch(f"chunk {number} of a layer is not what its digest says")
            yield content

    def _pieces(self, number: int, compressed: bytes | memoryview) -> Iterator[bytes | memoryview]:
        if self._form is Form.PLAIN:
            yield compressed
        elif self._form is Form.RESTARTS:
            yield restarts.inflate(compressed, self.length(number))
        elif self._form is Form.WINDOWS:
            window = self._windows.window(number)
            yield from seekpoints.inflate(memoryview(compressed), self._bits[number], window)
        else:
            yield from open_decompressor(compressed).feed(compressed)

    def to_bytes(self) -> bytes:
        """Return the table in its binary form; its chunks are at the beginning of streams."""
        if any(self._skipped) or not len(self):
            raise ValueError("this table has no binary form")
        head = _HEADER.pack(_MAGIC, _VERSION, self._form, len(self), self._blob_stops[-1])
        starts, windows = self._blob_starts, b""
        if self._form is Form.WINDOWS:
            pairs = zip(self._blob_starts, self._bits, strict=True)
            starts = array("Q", (8 * start + bit for start, bit in pairs))
            windows = self._windows.to_bytes()
        return b"".join((head, _little(self._starts), _little(starts), self._digests, windows))

    @classmethod
    def from_bytes(cls, buffer: bytes | memoryview) -> "ChunkTable":
        """Return the table that `to_bytes` gave; a buffer that has windows stays in use.

        Raises:
            InvalidContent: it is none, or of another version.
        """
        if len(buffer) < _HEADER.size:
            raise InvalidContent("layer chunks: truncated")
        magic, version, form, count, blob_stop = _HEADER.unpack_from(buffer)
        sizes = (8 * (count + 1), 8 * count, DIGEST_BYTES * count)
        is_known = (magic, version) == (_MAGIC, _VERSION) and form in iter(Form)
        stops = list(itertools.accumulate(sizes, initial=_HEADER.size))
        surplus = len(buffer) - stops[-1]
        if not is_known or surplus < 0 or (surplus and form != Form.WINDOWS):
            raise InvalidContent("layer chunks: not a table of this version")
        parts = (bytes(buffer[first:last]) for first, last in itertools.pairwise(stops))
        starts, blob_starts, digests = parts
        table = cls(Form(form))
        table._fill(_from_little(starts), _from_little(blob_starts), digests)
        if form == Form.WINDOWS:
            table._windows = seekpoints.Windows.from_bytes(buffer[stops[-1] :], count)
        table.close(blob_stop, is_exact=True)
        return table

    def _fill(self, starts: "array[int]", blob_starts: "array[int]", digests: bytes) -> None:
        for number, begin in enumerate(blob_starts):
            length = starts[number + 1] - starts[number]
            digest = digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
            if self._form is Form.WINDOWS:
                self.add_point(length, begin, digest, b"")
            else:
                self.add(length, begin, digest)


class ChunkMaker:
    """Makes the table of a layer that passes, if its blob can be read from several places.

    Args:
        head: the first bytes of the blob.
    """

    def __init__(self, head: bytes) -> None:
        self._form = Form.STREAMS
        if is_plain(head):
            self._form = Form.PLAIN
        elif restarts.is_announced(head):
            self._form = Form.RESTARTS
        self._table: ChunkTable | None = ChunkTable(self._form)
        self._begin = self._stream = len(restarts.HEAD) if self._form is Form.RESTARTS else 0
        self._length = 0
        self._hash = hashlib.sha256()

    def __repr__(self) -> str:
        return f"<ChunkMaker {self._table}>"

    def take(self, stream_start: int, piece: bytes | memoryview) -> None:
        """Take the next bytes of the tar, and where the stream began that made them."""
        if self._form is Form.PLAIN:
            self._take_plain(memoryview(piece))
            return
        if self._table is None:
            return
        if stream_start != self._stream:
            self._stream = stream_start
            if self._length >= CHUNK_BYTES:
                self._end(stream_start)
        self._hash.update(piece)
        self._length += len(piece)
        if self._length > MAX_CHUNK_BYTES:
            self._table = None  # one long stream

    def finish(self, blob_size: int) -> ChunkTable | None:
        """Return the table of all that passed; None if it would be of no use: of one chunk.

        Args:
            blob_size: in bytes.
        """
        if self._length:
            self._end(blob_size)
        table, self._table = self._table, None
        if table is None or len(table) < _MIN_CHUNKS:
            return None
        table.close(blob_size, is_exact=True)
        return table

    def _end(self, blob_stop: int) -> None:
        """End a chunk, whose streams end at `blob_stop`."""
        if self._table is None:
            return
        if blob_stop - self._begin > 2 * MAX_CHUNK_BYTES:
            self._table = None  # streams that make next to nothing
            return
        self._table.add(self._length, self._begin, self._hash.digest())
        self._begin, self._length, self._hash = blob_stop, 0, hashlib.sha256()

    def _take_plain(self, piece: memoryview) -> None:
        """Take bytes that can be read from any place: chunks do not depend on how they arrive."""
        while piece:
            part = piece[: PLAIN_CHUNK_BYTES - self._length]
            piece = piece[len(part) :]
            self._hash.update(part)
            self._length += len(part)
            if self._length == PLAIN_CHUNK_BYTES:
                self._end(self._begin + PLAIN_CHUNK_BYTES)


def _little(numbers: "array[int]") -> bytes:
    copied = numbers[:]
    if sys.byteorder == "big":
        copied.byteswap()
    return copied.tobytes()


def _from_little(buffer: bytes) -> "array[int]":
    numbers = array("Q", buffer)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
