"""Streams the pieces of a tar through compression and hashes into a file.

Owns the compression of what is written. Opens nothing itself: contents come from a callable, the
blob goes to a file that the caller made. Blocking, for a worker thread; memory is bounded by the
blocks under way.
INVARIANT: the same pieces give the same blob, with however many threads, wherever the compression
libraries are the same; the content digest does not even depend on them.

gzip is one member, deflated by zlib in blocks that know nothing of one another, so that files can
be had without all before them: `orasfs.tree.restarts` is the form, and `blocks` has the rule where
they begin. Not by a library that chooses its code by the processor, because then two machines
would disagree on the digest. The blob's digest is never the reference client's. zstd is frames of
8 MiB, each to be had without the others. What is lost where one begins is regained by looking back
over all of a frame, which takes no longer, and no more memory than decoders have (RFC 8878,
3.1.1.1.2).
"""

import hashlib
import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from isal import isal_zlib

from orasfs.errors import StorageFailure
from orasfs.oci.digest import Digest
from orasfs.staging.blocks import Block, Stretch, cut
from orasfs.staging.tarwriter import Piece
from orasfs.staging.tree import ContentKey
from orasfs.tree import restarts

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME_BYTES = 8 * 1024 * 1024  # of the tar in a zstd frame
# Of the default level, but for the reach and, so that it is of use, the size of its tables.
_ZSTD_OPTIONS = {
    int(zstd.CompressionParameter.compression_level): 3,
    int(zstd.CompressionParameter.window_log): 23,  # a frame
    int(zstd.CompressionParameter.hash_log): 18,
    int(zstd.CompressionParameter.chain_log): 17,
}
_READ_BYTES = 256 * 1024
_UNDER_WAY_BYTES = 8 * 1024 * 1024  # of the tar
_GZIP_LEVEL = 6  # what "default" means to both zlib and Go


class Compression(Enum):
    """How a packed directory is compressed; the reference client restores gzip only."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """What was written: the blob's digest and size, and those of the tar inside it."""

    digest: Digest
    size: int
    content_digest: Digest
    content_size: int


class Content(Protocol):
    """The bytes of a staged file, from the beginning."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none only at the end."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class Output(Protocol):
    """Where the blob goes."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""
        ...


OpenContent = Callable[[ContentKey], Content]
# Returns what `compress_block` makes of a block, where that is known; in any thread.
KnownBlock = Callable[[bytes], bytes | None]


def know_no_block(_content: bytes) -> None:
    """Know none."""


def write_layer(
    pieces: Iterable[Piece],
    compression: Compression,
    output: Output,
    open_content: OpenContent,
    executor: Executor | None = None,
    known: KnownBlock = know_no_block,
) -> LayerBlob:
    """Write the tar that `pieces` describe to `output` as a layer blob, and return what it is.

    Args:
        pieces: from `tarwriter.tar_pieces`.
        compression: of the blob.
        output: takes the blob from its beginning.
        open_content: opens a content by its key; what it and the files raise passes through.
        executor: compresses gzip blocks side by side; by default this thread does all.
        known: tells gzip blocks that need not be compressed.

    Raises:
        StorageFailure: a content is not of the size that was staged.
    """
    compressor = _compressor(compression, executor, known)
    tar, blob = _Sum(), _Sum()

    def packed() -> Iterator[bytes]:
        with closing(Contents(open_content)) as contents:
            for block in cut(pieces):
                content = contents.read(block)
                tar.add(content)
                yield from compressor.compress(content)
        yield from compressor.flush()

    for piece in packed():
        blob.add(piece)
        output.write(piece)
    return LayerBlob(blob.digest, blob.size, tar.digest, tar.size)


class _Sum:
    """The digest and size of what passes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.size += len(piece)

    @property
    def digest(self) -> Digest:
        return Digest("sha256", self._hash.hexdigest())


class Contents:
    """The bytes of blocks that follow one another; a file in several is opened once.

    Args:
        open_content: opens a content by its key.
    """

    def __init__(self, open_content: OpenContent) -> None:
        self._open_content = open_content
        self._content: Content | None = None

    def read(self, block: Block) -> bytes:
        """Return the bytes of the next block.

        Raises:
            StorageFailure: a content is not of the size that was staged.
        """
        made: list[bytes] = []
        for part in block.parts:
            if isinstance(part, Stretch):
                self._read(part, made)
            else:
                made.append(part)
        return b"".join(made)

    def close(self) -> None:
        """Close what is open."""
        content, self._content = self._content, None
        if content is not None:
            content.close()

    def _read(self, stretch: Stretch, made: list[bytes]) -> None:
        file, left = stretch.file, stretch.size
        if not stretch.start:
            self.close()
            self._content = self._open_content(file.content)
        content = self._content
        if content is None:
            raise ValueError("a block whose file is not open: they are read in order")
        while left:
            chunk = content.read(min(left, _READ_BYTES))
            if not chunk:
                raise StorageFailure(f"{file.path!r} became shorter while it was packed")
            left -= len(chunk)
            made.append(chunk)
        if stretch.start + stretch.size == file.size:
            if content.read(1):
                raise StorageFailure(f"{file.path!r} became longer while it was packed")
            self.close()


class _Compressor(Protocol):
    def compress(self, content: bytes, /) -> Iterable[bytes]: ...
    def flush(self) -> Iterable[bytes]: ...


class _Plain:
    def compress(self, content: bytes, /) -> Iterable[bytes]:
        return (content,)

    def flush(self) -> Iterable[bytes]:
        return ()


class _Gzip:
    """A gzip member, of blocks some of which are compressed at once; they keep their order."""

    def __init__(self, executor: Executor | None, known: KnownBlock) -> None:
        self._executor = executor
        self._known = known
        self._under_way: deque[tuple[int, Callable[[], bytes]]] = deque()
        self._under_way_size = 0
        self._size = self._crc = 0

    def compress(self, content: bytes, /) -> Iterator[bytes]:
        if not self._size:
            yield restarts.HEAD
        self._crc = isal_zlib.crc32(content, self._crc)
        self._size += len(content)
        self._under_way.append((len(content), self._begin(content)))
        self._under_way_size += len(content)
        while self._under_way_size > _UNDER_WAY_BYTES:
            yield self._first()

    def flush(self) -> Iterator[bytes]:
        while self._under_way:
            yield self._first()
        yield restarts.END + struct.pack("<II", self._crc, self._size % 2**32)

    def _begin(self, content: bytes) -> Callable[[], bytes]:
        if self._executor is not None:
            return self._executor.submit(self._packed, content).result
        packed = self._packed(content)
        return lambda: packed

    def _packed(self, content: bytes) -> bytes:
        return self._known(content) or compress_block(content)

    def _first(self) -> bytes:
        size, result = self._under_way.popleft()
        self._under_way_size -= size
        return result()


def compress_block(content: bytes) -> bytes:
    """Return what a block of the tar is in the gzip member, with the mark behind it."""
    made = _deflate((content,))
    if restarts.MARK in made[:-1]:  # it is stored as it is, and has something like a mark in it
        made = _deflate(restarts.parts_of_marks(content))
    return made


def _deflate(parts: Iterable[bytes]) -> bytes:
    deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    made: list[bytes] = []
    for part in parts:
        made += (deflate.compress(part), deflate.flush(zlib.Z_SYNC_FLUSH))
    return b"".join((*made, restarts.REST_OF_MARK))


class _Zstd:
    """zstd frames (RFC 8878)."""

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor(options=_ZSTD_OPTIONS)
        self._left = FRAME_BYTES

    def compress(self, content: bytes, /) -> Iterator[bytes]:
        view = memoryview(content)
        while view:
            part, view = view[: self._left], view[self._left :]
            yield self._compressor.compress(part)
            self._left -= len(part)
            if not self._left:
                yield from self.flush()

    def flush(self) -> Iterator[bytes]:
        self._left = FRAME_BYTES
        yield self._compressor.flush(zstd.ZstdCompressor.FLUSH_FRAME)


def _compressor(
    compression: Compression, executor: Executor | None, known: KnownBlock
) -> _Compressor:
    match compression:
        case Compression.GZIP:
            return _Gzip(executor, known)
        case Compression.ZSTD:
            return _Zstd()
        case Compression.NONE:
            return _Plain()
