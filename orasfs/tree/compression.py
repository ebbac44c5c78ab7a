"""Decompresses layers, piece by piece.

Owns the choice of the format, by the magic bytes and never by the media type, and the rules for
what may follow a stream. Pure: takes chunks, gives chunks.
INVARIANT: no piece is over a mebibyte and a window takes at most 128 MiB, whatever the input says,
so that a bomb costs time in proportion to its output and constant memory.

* gzip (RFC 1952): members may follow one another; zero padding may follow the last, anything else
  is refused, as Go's compress/gzip refuses an "invalid header".
* zstd (RFC 8878): frames and skippable frames may follow one another; nothing else may.
* anything else is plain, and passes as it is.
"""

import re
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from isal import igzip_lib

from orasfs.errors import InvalidContent
from orasfs.tree import restarts

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_PIECE_BYTES = 1 << 20
ZSTD_WINDOW_LOG = 27  # 128 MiB: the most that zstd's own tools accept unasked

_INPUT_BYTES = 1 << 16  # decompressors copy what follows a member: keep that small
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)

Chunk = bytes | bytearray | memoryview


class Decompressor(Protocol):
    """Decompresses one blob from its first byte to its last."""

    @property
    def stream_start(self) -> int:
        """Where in the blob the stream begins that made the last piece.

        It can be decompressed from there without what is before it.
        """
        ...

    def feed(self, chunk: Chunk) -> Iterator[bytes | memoryview]:
        """Take the next bytes and yield what they make, in pieces of at most a mebibyte.

        The iterator must be used up before the next call, and `chunk` stay as it is until then.

        Raises:
            InvalidContent: the stream is damaged.
        """
        ...

    def finish(self) -> None:
        """Say that there is no more.

        Raises:
            InvalidContent: the stream is truncated.
        """
        ...


def open_decompressor(first_bytes: Chunk) -> Decompressor:
    """Return the decompressor for a blob that begins so.

    Args:
        first_bytes: at least the first four bytes, if the blob has as many. They are only looked
            at: feed them too. Without the first `len(restarts.HEAD)` of gzip that is begun anew
            in places, these are not told.
    """
    start = bytes(first_bytes[:4])
    if restarts.is_announced(first_bytes):
        return _Restarting()
    if start.startswith(_GZIP_MAGIC):
        return _Framed("gzip", _gzip_stream, may_be_padded=True)
    if _ZSTD_MAGIC.match(start):
        return _Framed("zstd", _zstd_stream, may_be_padded=False)
    return _Plain()


def is_plain(first_bytes: Chunk) -> bool:
    """Tell whether a blob that begins so is not compressed; see `open_decompressor`."""
    return isinstance(open_decompressor(first_bytes), _Plain)


class _Plain:
    """Passes everything."""

    def __init__(self) -> None:
        self.stream_start = 0
        self._passed = 0

    def feed(self, chunk: Chunk) -> Iterator[memoryview]:
        view = memoryview(chunk)
        for start in range(0, len(view), MAX_PIECE_BYTES):
            piece = view[start : start + MAX_PIECE_BYTES]
            self.stream_start = self._passed
            self._passed += len(piece)
            yield piece

    def finish(self) -> None:
        pass


class _Restarting:
    """gzip with marks where it is begun anew (`orasfs.tree.restarts`)."""

    def __init__(self) -> None:
        self._framed = _Framed("gzip", _gzip_stream, may_be_padded=True)
        self._finder = restarts.MarkFinder()
        self._fed = 0
        self.stream_start = len(restarts.HEAD)

    def feed(self, chunk: Chunk) -> Iterator[bytes]:
        for part, is_marked in self._finder.split(chunk):
            yield from self._framed.feed(part)
            self._fed += len(part)
            if is_marked:  # nothing of what is before is kept back
                self.stream_start = self._fed

    def finish(self) -> None:
        self._framed.finish()


class _Stream(Protocol):
    """One gzip member or zstd frame: what both libraries offer, as the standard library's bz2."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Chunk, max_length: int) -> bytes: ...


class _Framed:
    """Streams of one format, one after the other."""

    def __init__(
        self, name: str, new_stream: Callable[[], _Stream], *, may_be_padded: bool
    ) -> None:
        self._name = name
        self._new_stream = new_stream
        self._may_be_padded = may_be_padded
        self._stream = new_stream()
        self._is_between = False  # a stream has ended, and nothing of another has come
        self._is_padding = False
        self._fed = 0
        self.stream_start = 0

    def feed(self, chunk: Chunk) -> Iterator[bytes]:
        view = memoryview(chunk)
        for start in range(0, len(view), _INPUT_BYTES):
            data: Chunk = view[start : start + _INPUT_BYTES]
            self._fed += len(data)
            while data and not self._is_followed_by_padding(data):
                if self._is_between:
                    self._stream = self._new_stream()
                    self.stream_start = self._fed - len(data)
                yield from self._pieces(data)
                data = self._stream.unused_data if self._stream.eof else b""
                self._is_between = self._stream.eof

    def finish(self) -> None:
        if not self._is_between:
            raise InvalidContent(f"layer: truncated {self._name} stream")

    def _is_followed_by_padding(self, data: Chunk) -> bool:
        """Tell whether `data` is zero padding behind the last stream.

        Raises:
            InvalidContent: it begins as padding, and is none.
        """
        if not self._is_between or not self._may_be_padded:
            return False
        self._is_padding = self._is_padding or data[0] == 0
        if self._is_padding and bytes(data).strip(b"\0"):
            raise InvalidContent(f"layer: garbage behind the {self._name} stream")
        return self._is_padding

    def _pieces(self, data: Chunk) -> Iterator[bytes]:
        """Yield what `data` makes, until its stream ends or wants more."""
        while not self._stream.eof and (data or not self._stream.needs_input):
            try:
                piece = self._stream.decompress(data, MAX_PIECE_BYTES)
            # isal's stub says that the class is an instance
            except (igzip_lib.IsalError, zstd.ZstdError) as error:  # type: ignore[misc]
                raise InvalidContent(f"layer: damaged {self._name} stream: {error}") from error
            data = b""
            if piece:
                yield piece


def _gzip_stream() -> _Stream:
    stream: _Stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return stream


def _zstd_stream() -> _Stream:
    options = {int(zstd.DecompressionParameter.window_log_max): ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)
