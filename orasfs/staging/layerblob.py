"""Streams the pieces of a tar through compression and hashes into a file.

Owns the compression of what is written. Opens nothing itself: contents come from a callable, the
blob goes to a file that the caller made. Blocking, for a worker thread; memory is bounded by the
blocks under way.
INVARIANT: the same pieces give the same blob, with however many threads, wherever the compression
libraries are the same; the content digest does not even depend on them.

gzip is one member, deflated by zlib in blocks that each know the 32 KiB before them, as pigz does:
the blocks can be compressed side by side. Each second block knows nothing of what is before, so
that a file can be had without all before it; `orasfs.tree.restarts` tells where these blocks are.
Not by a library that chooses its code by the processor, because then two machines would disagree
on the digest. The blob's digest is never the reference client's. zstd is frames of 8 MiB, each to
be had without the others. What is lost where one begins is regained by looking back over all of
a frame, which takes no longer, and no more memory than decoders have (RFC 8878, 3.1.1.1.2).
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

from orasfs.errors import StorageFailure
from orasfs.oci.digest import Digest
from orasfs.staging.tarwriter import FilePiece, Piece
from orasfs.staging.tree import ContentKey
from orasfs.tree import restarts

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 256 * 1024
BLOCK_BYTES = 512 * 1024  # part of the format: another size gives other digests
FRAME_BYTES = 8 * 1024 * 1024  # of the tar in a zstd frame
# Of the default level, but for the reach and, so that it is of use, the size of its tables.
_ZSTD_OPTIONS = {
    int(zstd.CompressionParameter.compression_level): 3,
    int(zstd.CompressionParameter.window_log): 23,  # a frame
    int(zstd.CompressionParameter.hash_log): 18,
    int(zstd.CompressionParameter.chain_log): 17,
}
_WINDOW_BYTES = 32 * 1024
_BLOCKS_UNDER_WAY = 16
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


def write_layer(
    pieces: Iterable[Piece],
    compression: Compression,
    output: Output,
    open_content: OpenContent,
    executor: Executor | None = None,
) -> LayerBlob:
    """Write the tar that `pieces` describe to `output` as a layer blob, and return what it is.

    Args:
        pieces: from `tarwriter.tar_pieces`.
        compression: of the blob.
        output: takes the blob from its beginning.
        open_content: opens a content by its key; what it and the files raise passes through.
        executor: compresses gzip blocks side by side; by default this thread does all.

    Raises:
        StorageFailure: a content is not of the size that was staged.
    """
    compressor = _compressor(compression, executor)
    content_hash, blob_hash = hashlib.sha256(), hashlib.sha256()
    content_size = blob_size = 0
    for chunk in _chunks(pieces, open_content):
        content_hash.update(chunk)
        content_size += len(chunk)
        packed = compressor.compress(chunk)
        blob_hash.update(packed)
        blob_size += len(packed)
        output.write(packed)
    packed = compressor.flush()
    blob_hash.update(packed)
    output.write(packed)
    return LayerBlob(
        digest=Digest("sha256", blob_hash.hexdigest()),
        size=blob_size + len(packed),
        content_digest=Digest("sha256", content_hash.hexdigest()),
        content_size=content_size,
    )


def _chunks(pieces: Iterable[Piece], open_content: OpenContent) -> Iterator[bytes]:
    """Yield the tar's bytes, the small pieces together: each call costs more than they do."""
    small = bytearray()
    for part in _parts(pieces, open_content):
        small += part
        if len(small) >= CHUNK_BYTES:
            yield bytes(small)
            small.clear()
    yield bytes(small)


def _parts(pieces: Iterable[Piece], open_content: OpenContent) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            with closing(open_content(piece.content)) as content:
                yield from _read_all(content, piece)


def _read_all(content: Content, piece: FilePiece) -> Iterator[bytes]:
    left = piece.size
    while left:
        chunk = content.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise StorageFailure(f"{piece.path!r} became shorter while it was packed")
        left -= len(chunk)
        yield chunk
    if content.read(1):
        raise StorageFailure(f"{piece.path!r} became longer while it was packed")


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Gzip:
    """One gzip member (RFC 1952), made of blocks that end on byte boundaries (Z_SYNC_FLUSH)."""

    def __init__(self, executor: Executor | None) -> None:
        self._executor = executor
        self._block = bytearray()
        self._before = b""
        self._under_way: deque[tuple[bool, Callable[[], bytes]]] = deque()
        self._header = restarts.HEAD
        self._lengths: list[int] = []  # of the stretches, in the blob
        self._crc = 0
        self._size = 0

    def compress(self, data: bytes, /) -> bytes:
        self._block += data
        while len(self._block) > BLOCK_BYTES:
            self._begin(bytes(self._block[:BLOCK_BYTES]), zlib.Z_SYNC_FLUSH)
            del self._block[:BLOCK_BYTES]
        return self._finished(at_most=_BLOCKS_UNDER_WAY)

    def flush(self) -> bytes:
        self._begin(bytes(self._block), zlib.Z_FINISH)
        made = self._finished(at_most=0)
        trailer = struct.pack("<II", self._crc, self._size % 2**32)
        self._lengths[-1] += len(trailer)
        return made + trailer + restarts.tail(self._lengths)

    def _begin(self, block: bytes, mode: int) -> None:
        is_restart = self._size % restarts.STEP_BYTES == 0
        self._crc = zlib.crc32(block, self._crc)
        self._size += len(block)
        before, self._before = b"" if is_restart else self._before, block[-_WINDOW_BYTES:]
        if self._executor is None:
            deflated = _deflate(block, before, mode)
            self._under_way.append((is_restart, lambda: deflated))
        else:
            work = self._executor.submit(_deflate, block, before, mode)
            self._under_way.append((is_restart, work.result))

    def _finished(self, at_most: int) -> bytes:
        """Return the blocks in front, waiting until `at_most` are under way."""
        parts, self._header = [self._header], b""
        while len(self._under_way) > at_most:
            is_restart, result = self._under_way.popleft()
            parts.append(result())
            if is_restart:
                self._lengths.append(0)
            self._lengths[-1] += len(parts[-1])
        return b"".join(parts)


def _deflate(block: bytes, before: bytes, mode: int) -> bytes:
    deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return deflate.compress(block) + deflate.flush(mode)


class _Zstd:
    """zstd frames (RFC 8878)."""

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor(options=_ZSTD_OPTIONS)
        self._left = FRAME_BYTES

    def compress(self, data: bytes, /) -> bytes:
        made = bytearray()
        view = memoryview(data)
        while view:
            part, view = view[: self._left], view[self._left :]
            made += self._compressor.compress(part)
            self._left -= len(part)
            if not self._left:
                made += self.flush()
        return bytes(made)

    def flush(self) -> bytes:
        self._left = FRAME_BYTES
        return self._compressor.flush(zstd.ZstdCompressor.FLUSH_FRAME)


def _compressor(compression: Compression, executor: Executor | None) -> _Compressor:
    match compression:
        case Compression.GZIP:
            return _Gzip(executor)
        case Compression.ZSTD:
            return _Zstd()
        case Compression.NONE:
            return _Plain()
