"""Open blobs as `orasfs.oci.storage.BlobReader`: what may be served, and when.

Owns the rule of verification: bytes of a small blob, or of one whose source is not trusted, are
served once the whole blob is verified; those of a large one as they arrive, if that was chosen.
Once a blob proved to be wrong, its readers serve nothing any more.
"""

import copy
from functools import partial

import trio

from orasfs.errors import ContentMismatch, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import BlobStreamer
from orasfs.store.fetching.assembly import Assembly
from orasfs.store.fetching.blobs import Blobs, OpenBlob
from orasfs.store.fetching.window import Cursor
from orasfs.store.files import disk


class InlineReader:
    """A blob that its descriptor carries; the parser has checked it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._content)

    @property
    def is_verified(self) -> bool:
        """Always: what is not its digest's content is no inline data."""
        return True

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes."""
        return self._content[offset : offset + size]

    async def read(self, offset: int, size: int) -> bytes:
        """Return the bytes."""
        await trio.lowlevel.checkpoint()
        return self._content[offset : offset + size]

    def close(self) -> None:
        """Do nothing."""


class FileReader:
    """A blob in a file of the cache or of a layout, complete or still arriving."""

    def __init__(
        self, blobs: Blobs, blob: OpenBlob, source: BlobStreamer, limiter: trio.CapacityLimiter
    ) -> None:
        self._blobs = blobs
        self._blob = blob
        self._descriptor = blob.descriptor
        self._source = source
        self._limiter = limiter
        self._cursor = Cursor(blob.descriptor.size)
        self._reads = 0  # under way: they need the blob to their end
        self._is_closed = False
        self._has_let_go = False

    def __repr__(self) -> str:
        return f"<FileReader {self._descriptor.digest} {self._blob}>"

    @property
    def size(self) -> int:
        """The number of bytes, as the descriptor says."""
        return self._descriptor.size

    @property
    def is_verified(self) -> bool:
        """Whether the whole blob has been checked against its digest."""
        return not self._is_closed and self._blob.arrival.is_verified

    def backing_fd(self) -> int | None:
        """Return the blob's file once it is complete and verified; good until `close`."""
        if not self.is_verified:
            return None
        return self._blob.arrival.fd if self._blob.arrival.fd >= 0 else None

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if they may be served and the page cache has them, else None."""
        blob = self._blob
        count = min(size, self._descriptor.size - offset)
        self._blobs.note_use()
        if self._is_closed:
            return None
        if count <= 0:
            return b""
        if not _may_serve(blob, offset, offset + count):
            return None
        self._note_served(blob, offset, offset + count)
        return disk.read_now(blob.arrival.fd, offset, count)

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end of the blob.

        A download that failed before this read is tried again. Closing the reader meanwhile does
        not end it.

        Raises:
            ContentMismatch: the blob is not what its descriptor says; for ever.
        """
        count = min(size, self._descriptor.size - offset)
        self._blobs.note_use()
        if count <= 0:
            await trio.lowlevel.checkpoint()
            return b""
        if self._is_closed:
            raise ValueError("the reader is closed")
        self._reads += 1
        try:
            return await self._read(offset, count)
        finally:
            self._reads -= 1
            self._let_go_if_done()

    async def _read(self, offset: int, count: int) -> bytes:
        blob = await self._usable(offset, offset + count)
        self._note_served(blob, offset, offset + count)
        content = disk.read_now(blob.arrival.fd, offset, count)
        if content is not None:  # what has just arrived is still in memory
            return content
        self._blobs.retain(blob)  # the file stays open until the thread is done with it
        try:
            content = await trio.to_thread.run_sync(
                partial(disk.read_fully, blob.arrival.fd, offset, count), limiter=self._limiter
            )
        finally:
            self._blobs.release(blob)
        error = _failure(blob)
        if isinstance(error, ContentMismatch):  # it was found out while the thread was reading
            raise copy.copy(error) from error
        return content

    async def wait_kept(self) -> None:
        """Have the blob whole, and wait until it is verified and has its name.

        Raises:
            StorageFull: there is no room for it.
            ContentMismatch: it is not what its descriptor says.
        """
        if self._is_closed:
            raise ValueError("the reader is closed")
        arrival = self._blob.arrival
        await arrival.wait_verified()
        if arrival.is_verified:
            await arrival.ended.wait()
        if arrival.error is not None:
            raise copy.copy(arrival.error) from arrival.error
        await self._blobs.settle(self._descriptor.digest)

    def close(self) -> None:
        """Release the blob, once no read needs it any more. Harmless twice."""
        self._is_closed = True
        self._let_go_if_done()

    def _let_go_if_done(self) -> None:
        if self._has_let_go or not self._is_closed or self._reads:
            return
        self._has_let_go = True
        if isinstance(self._blob.arrival, Assembly):
            self._blob.arrival.leave(self._cursor)
        self._blobs.release(self._blob)

    async def _usable(self, start: int, stop: int) -> OpenBlob:
        """Wait until bytes [start, stop) may be served; return the blob that has them."""
        while True:
            blob = self._blob
            if _failure(blob) is not None:
                blob = await self._reopen(blob)
            try:
                await self._wait(blob, start, stop)
            except OrasfsError:
                if blob.source is self._source:
                    raise
                blob.arrival.stop()  # what its source could not deliver, ours may
            error = _failure(blob)
            if error is None and not blob.is_stopping:
                return blob
            is_final = isinstance(error, ContentMismatch) or blob.source is self._source
            if error is not None and is_final:
                raise copy.copy(error) from error

    async def _wait(self, blob: OpenBlob, start: int, stop: int) -> None:
        arrival = blob.arrival
        if not blob.is_lazy:
            await arrival.wait_verified()
        elif isinstance(arrival, Assembly):
            self._cursor.note(start, stop)
            await arrival.wait_for(self._cursor, start, stop)
        else:
            await arrival.wait_for(start, stop)

    def _note_served(self, blob: OpenBlob, start: int, stop: int) -> None:
        arrival = blob.arrival
        if not arrival.is_verified:
            arrival.was_served = True
            if isinstance(arrival, Assembly):
                self._cursor.note(start, stop)
                arrival.follow(self._cursor)
            else:
                arrival.given += stop - start

    async def _reopen(self, failed: OpenBlob) -> OpenBlob:
        """Replace a blob whose download failed; another read may have done so meanwhile."""
        error = failed.arrival.error
        if isinstance(error, ContentMismatch):
            raise copy.copy(error) from error
        blob = await self._blobs.acquire(self._descriptor, self._source)
        if self._blob is failed:
            self._blobs.release(failed)
            self._blob = blob
            return blob
        self._blobs.release(blob)
        return self._blob


def open_inline(descriptor: Descriptor) -> InlineReader | None:
    """Return a reader of the content that the descriptor carries, None if it carries none."""
    return None if descriptor.data is None else InlineReader(descriptor.data)


def _failure(blob: OpenBlob) -> Exception | None:
    """Return why a blob cannot be served; one that was verified can, even if not kept."""
    return None if blob.arrival.is_verified else blob.arrival.error


def _may_serve(blob: OpenBlob, start: int, stop: int) -> bool:
    arrival = blob.arrival
    if arrival.is_verified:
        return True
    return blob.is_lazy and arrival.error is None and arrival.has(start, stop)
