"""Blobs that pass through without being kept, since the cache's disk is full or refuses writes.

So do those that are larger than all of the cache. Owns a small window of chunks in memory, shared
by all such readers of a mount, and the digests of chunks. Nothing here touches the disk.

INVARIANT: what must be verified before it is served is read twice at most: once whole, for its
digest and those of its chunks, and once more a chunk at a time, each checked against its own. So
no byte is served that is not the blob's, and memory stays bounded whatever its size.
INVARIANT: who reads the rest in order gets the last bytes only if all are those of the digest.
"""

import copy
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from cachetools import LRUCache, TTLCache

from orasfs.errors import (
    ContentMismatch,
    OrasfsError,
    RegistryFailure,
    StorageFailure,
    StorageFull,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, Verifier
from orasfs.oci.storage import BlobReader, BlobStream, BlobStreamer, reject
from orasfs.store.fetching.arrival import Stopped
from orasfs.store.fetching.readers import FileReader
from orasfs.store.options import CacheOptions, Verify

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
WINDOW_BYTES = 32 * 1024 * 1024
_MAX_VERIFIED = 256
_THREADS = 8


class Passing:
    """What passes through one mount.

    Args:
        options: say what may be served before it is verified.
        on_mismatch: called on the trio thread with the digest of a blob whose bytes were served
            and proved to be wrong.
    """

    def __init__(
        self, options: CacheOptions, on_mismatch: Callable[[Digest], None] = lambda _: None
    ) -> None:
        self._options = options
        self._on_mismatch = on_mismatch
        self._wrong: TTLCache[tuple[Digest, int], ContentMismatch] = TTLCache(
            _MAX_VERIFIED, options.failure_seconds
        )
        self.limiter = trio.CapacityLimiter(_THREADS)
        self._lock = threading.Lock()  # around the two tables that threads use
        self._chunks: LRUCache[tuple[Digest, int], bytes] = LRUCache(WINDOW_BYTES, getsizeof=len)
        self._digests: LRUCache[tuple[Digest, int], list[bytes]] = LRUCache(_MAX_VERIFIED)

    def __repr__(self) -> str:
        return f"<Passing {len(self._chunks)} chunks>"

    def may_be_lazy(self, descriptor: Descriptor, source: BlobStreamer) -> bool:
        """Tell whether bytes of the blob may be served before it is verified."""
        is_lazy = self._options.verify is Verify.LAZY
        return is_lazy and descriptor.size > self._options.lazy_bytes and source.is_trusted

    def open(self, descriptor: Descriptor, source: BlobStreamer) -> "PassingReader":
        """Return a reader; makes no request."""
        return PassingReader(self, descriptor, source)

    async def open_kept(
        self,
        descriptor: Descriptor,
        source: BlobStreamer,
        open_kept: Callable[[], Awaitable[BlobReader]],
    ) -> BlobReader:
        """Return the reader that `open_kept` returns, backed by one that keeps nothing.

        Raises:
            NotFound: and whatever else `open_kept` raises, but what is the disk's fault.
        """
        try:
            kept = await open_kept()
        except (StorageFull, StorageFailure) as error:
            _tell(descriptor, error)
            return self.open(descriptor, source)
        if kept.is_verified:
            return kept
        return BackedReader(kept, partial(self.open, descriptor, source), descriptor)

    def chunk(self, digest: Digest, number: int) -> bytes | None:
        """Return a chunk that is in the window."""
        with self._lock:
            return self._chunks.get((digest, number))

    def put(self, digest: Digest, number: int, content: bytes) -> None:
        """Have a chunk in the window."""
        with self._lock:
            self._chunks[digest, number] = content

    def drop(self, descriptor: Descriptor, error: ContentMismatch, *, was_served: bool) -> None:
        """Have no byte of a wrong blob, and tell those who got some; on the trio thread."""
        if (descriptor.digest, descriptor.size) in self._wrong:
            return
        self._wrong[descriptor.digest, descriptor.size] = error
        with self._lock:
            for key in [key for key in self._chunks if key[0] == descriptor.digest]:
                del self._chunks[key]
        if was_served:
            logger.error("wrong bytes were served: digest=%s", descriptor.digest)
            self._on_mismatch(descriptor.digest)

    def why_wrong(self, descriptor: Descriptor) -> ContentMismatch | None:
        """Return why a blob proved to be wrong, for some seconds; on the trio thread."""
        return self._wrong.get((descriptor.digest, descriptor.size))

    def digests(self, descriptor: Descriptor) -> list[bytes] | None:
        """Return the digests of the chunks of a blob that was verified, None if it was not."""
        with self._lock:
            return self._digests.get((descriptor.digest, descriptor.size))

    def note_digests(self, descriptor: Descriptor, digests: list[bytes]) -> None:
        """Note them."""
        with self._lock:
            self._digests[descriptor.digest, descriptor.size] = digests


class PassingReader:
    """Reads a blob from its source; implements `orasfs.oci.storage.BlobReader`."""

    def __init__(self, passing: Passing, descriptor: Descriptor, source: BlobStreamer) -> None:
        self._passing = passing
        self._descriptor = descriptor
        self._source = source
        self._is_lazy = passing.may_be_lazy(descriptor, source)
        self._fetching = threading.Lock()  # around the stream; held by one worker thread
        self._stream: BlobStream | None = None
        self._verifier = self._new_verifier()
        self._hashed = 0  # how many chunks have gone through it
        self._wrong: ContentMismatch | None = None
        self._was_served = False  # before it was verified
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<PassingReader {self._descriptor.digest}>"

    @property
    def size(self) -> int:
        """The number of bytes, as the descriptor says."""
        return self._descriptor.size

    @property
    def is_verified(self) -> bool:
        """Whether what is served has been checked."""
        return not self._is_lazy

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if the window has them."""
        stop = min(offset + size, self.size)
        if offset >= stop:
            return b""
        pieces = []
        for number in range(offset // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES + 1):
            chunk = self._passing.chunk(self._descriptor.digest, number)
            if chunk is None:
                return None
            pieces.append(_part(chunk, number, offset, stop))
        return b"".join(pieces)

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end.

        Raises:
            ContentMismatch: the source has something else.
            Unreachable: and whatever else the source raises.
        """
        stop = min(offset + size, self.size)
        if offset >= stop:
            await trio.lowlevel.checkpoint()
            return b""
        self._wrong = self._wrong or self._passing.why_wrong(self._descriptor)
        if self._wrong is not None:
            raise copy.copy(self._wrong) from self._wrong
        pieces = []
        for number in range(offset // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES + 1):
            chunk = self._passing.chunk(self._descriptor.digest, number)
            if chunk is None:
                chunk = await self._fetched(number)
            pieces.append(_part(chunk, number, offset, stop))
        self._was_served = self._is_lazy
        return b"".join(pieces)

    async def _fetched(self, number: int) -> bytes:
        try:
            return await trio.to_thread.run_sync(
                partial(self._fetch, number), abandon_on_cancel=True, limiter=self._passing.limiter
            )
        except ContentMismatch as error:
            self._wrong = error
            self._passing.drop(self._descriptor, error, was_served=self._was_served)
            raise

    def close(self) -> None:
        """End the stream. Harmless twice."""
        self._is_closed = True
        stream = self._stream
        if stream is not None:
            stream.close()

    def _fetch(self, number: int) -> bytes:
        """Return a chunk, verified if it must be. Blocks."""
        with self._fetching:
            try:
                return self._fetch_alone(number)
            except BaseException:
                self._end_stream()
                raise
            finally:
                if self._is_closed:
                    self._end_stream()

    def _fetch_alone(self, number: int) -> bytes:
        passing, descriptor = self._passing, self._descriptor
        digests = passing.digests(descriptor)
        if digests is None and not self._is_lazy:
            digests = self._verify_somewhere()
        chunk = passing.chunk(descriptor.digest, number)
        if chunk is None:
            chunk = self._receive(number)
            if digests is not None and hashlib.sha256(chunk).digest() != digests[number]:
                raise ContentMismatch(
                    f"{descriptor.digest}: bytes from {number * CHUNK_BYTES} on were others before"
                )
            if digests is None:
                self._hash_along(number, chunk)
            passing.put(descriptor.digest, number, chunk)
        return chunk

    def _verify_somewhere(self) -> list[bytes]:
        """Read the whole blob once, from a place that has it; return the digests of its chunks."""
        while True:
            try:
                return self._verify()
            except ContentMismatch:
                self._end_stream()
                if not reject(self._source, self._descriptor):
                    raise

    def _verify(self) -> list[bytes]:
        descriptor = self._descriptor
        verifier = self._new_verifier()
        digests: list[bytes] = []
        chunks: list[tuple[int, bytes]] = []
        most = WINDOW_BYTES // CHUNK_BYTES // _THREADS
        for number in range(-(-descriptor.size // CHUNK_BYTES)):
            chunk = self._receive(number)
            verifier.update(chunk)
            digests.append(hashlib.sha256(chunk).digest())
            if number < most:  # reading begins at the beginning
                chunks.append((number, chunk))
        verifier.finish()
        for number, chunk in chunks:
            self._passing.put(descriptor.digest, number, chunk)
        self._passing.note_digests(descriptor, digests)
        return digests

    def _hash_along(self, number: int, chunk: bytes) -> None:
        """Take a chunk and what is at hand behind it into the digest, if it is its turn."""
        passing, digest = self._passing, self._descriptor.digest
        last = (self.size - 1) // CHUNK_BYTES
        while self._hashed <= last:
            part = chunk if self._hashed == number else passing.chunk(digest, self._hashed)
            if part is None:
                return
            self._verifier.update(part)
            self._hashed += 1
        verifier, self._verifier = self._verifier, self._new_verifier()
        self._hashed = 0
        verifier.finish()

    def _new_verifier(self) -> Verifier:
        return Verifier(self._descriptor.digest, self._descriptor.size)

    def _receive(self, number: int) -> bytes:
        """Return a chunk from the stream, which goes on where it is or is opened anew."""
        start = number * CHUNK_BYTES
        stop = min(start + CHUNK_BYTES, self._descriptor.size)
        stream = self._stream
        if stream is None or stream.offset != start:
            self._end_stream()
            stream = self._source.open_stream(self._descriptor, start)
            self._stream = stream
            self._skip(stream, start)
        content = bytearray(stop - start)
        view = memoryview(content)
        done = 0
        while done < len(view):
            if self._is_closed:
                raise Stopped
            count = stream.readinto(view[done:])
            if not count:
                raise ContentMismatch(f"{self._descriptor.digest}: ends at byte {start + done}")
            done += count
        if stop == self._descriptor.size:
            self._check_end(stream)
        return bytes(content)

    def _check_end(self, stream: BlobStream) -> None:
        surplus = stream.readinto(memoryview(bytearray(1)))
        self._end_stream()
        if surplus:
            raise ContentMismatch(
                f"{self._descriptor.digest}: more bytes than its descriptor says"
            )

    def _skip(self, stream: BlobStream, offset: int) -> None:
        """Bring the stream to `offset`: a source that ignores ranges begins at 0."""
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while stream.offset < offset:
            if self._is_closed:
                raise Stopped
            if not stream.readinto(buffer[: min(len(buffer), offset - stream.offset)]):
                raise ContentMismatch(f"{self._descriptor.digest}: ends at byte {stream.offset}")
        if stream.offset > offset:
            raise RegistryFailure(f"asked for byte {offset}, the source sent {stream.offset}")

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class BackedReader:
    """Reads what is kept, and goes on without keeping it where the cache's disk fails."""

    def __init__(
        self, kept: BlobReader, go_on: Callable[[], PassingReader], descriptor: Descriptor
    ) -> None:
        self._reader: BlobReader = kept
        self._go_on: Callable[[], PassingReader] | None = go_on
        self._descriptor = descriptor

    def __repr__(self) -> str:
        return f"<BackedReader {self._reader!r}>"

    @property
    def size(self) -> int:
        """The number of bytes, as the descriptor says."""
        return self._reader.size

    @property
    def is_verified(self) -> bool:
        """Whether what is served has been checked."""
        return self._reader.is_verified

    def backing_fd(self) -> int | None:
        """Return the file of what is kept once it is complete and verified; good until `close`."""
        return self._reader.backing_fd() if isinstance(self._reader, FileReader) else None

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if they are at hand."""
        return self._reader.read_now(offset, size)

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size); raises as the two readers do."""
        reader = self._reader
        try:
            return await reader.read(offset, size)
        except (StorageFull, StorageFailure) as error:
            if self._go_on is None:  # another read has found out, or this is not kept any more
                if reader is self._reader:
                    raise
            else:
                _tell(self._descriptor, error)
                go_on, self._go_on = self._go_on, None
                reader.close()
                self._reader = go_on()
        return await self._reader.read(offset, size)

    def close(self) -> None:
        """Close what is open. Harmless twice."""
        self._go_on = None
        self._reader.close()


def _tell(descriptor: Descriptor, error: OrasfsError) -> None:
    logger.info("read without being kept: digest=%s reason=%s", descriptor.digest, error)


def _part(chunk: bytes, number: int, start: int, stop: int) -> bytes:
    begin = number * CHUNK_BYTES
    return chunk[max(start - begin, 0) : stop - begin]
