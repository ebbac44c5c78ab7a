"""The blobs that are open: one file and one download each, however many readers there are.

Owns the open file descriptors, who uses them, and what happens to a download that no one uses any
more. Decides where a blob comes from: the store, a layout in place, a download in order, or one in
pieces. Runs on the trio thread; the blocking work is in `orasfs.store.fetching.transfer`, and that
of pieces in `orasfs.store.fetching.walker`.

INVARIANT: a file is closed when its work has ended and the last reader has released it; so an open
file keeps its bytes, whatever becomes of its name. Between two checkpoints the table, the counts
and the arrivals agree.
"""

import copy
import logging
import os
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

import trio
from cachetools import LRUCache

from orasfs.errors import ContentMismatch
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStreamer, reject
from orasfs.store.content.cas import ContentStore, open_regular
from orasfs.store.fetching import transfer
from orasfs.store.fetching.arrival import Arrival
from orasfs.store.fetching.assembly import Assembly
from orasfs.store.fetching.contention import stalled_seconds
from orasfs.store.fetching.counters import Counters
from orasfs.store.fetching.downloads import Downloads
from orasfs.store.fetching.pace import Pace
from orasfs.store.fetching.walkers import Errand
from orasfs.store.files import leases
from orasfs.store.layout import InPlace
from orasfs.store.options import CacheOptions, Verify

logger = logging.getLogger(__name__)

_Key = tuple[Digest, int]
_MAX_REMEMBERED = 10_000


class OpenBlob:
    """A blob with its file; `references` readers hold it.

    Attributes:
        idle_since: when the last reader left, in trio's seconds.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        source: BlobStreamer,
        arrival: Arrival | Assembly,
        *,
        may_be_lazy: bool,
    ) -> None:
        self.descriptor = descriptor
        self.source = source
        self.arrival = arrival
        self._may_be_lazy = may_be_lazy
        self.references = 0
        self.idle_since = 0.0

    def __repr__(self) -> str:
        return f"<OpenBlob {self.descriptor.digest} references={self.references} {self.arrival}>"

    @property
    def is_lazy(self) -> bool:
        """Whether its bytes may be served before they are verified."""
        return self._may_be_lazy and self.source.is_trusted

    @property
    def is_stopping(self) -> bool:
        """Whether its work was told to end, and has not yet."""
        return self.arrival.is_stopping and not self.arrival.has_ended

    @property
    def key(self) -> _Key:
        """What tells it from others: a digest with two sizes is two blobs, one of them wrong."""
        return self.descriptor.digest, self.descriptor.size


class Blobs:
    """Opens blobs for readers and for unpacking."""

    def __init__(
        self,
        store: ContentStore,
        downloads: Downloads,
        nursery: trio.Nursery,
        options: CacheOptions,
        counters: Counters,
        on_mismatch: Callable[[Digest], None],
    ) -> None:
        self._store = store
        self._downloads = downloads
        self._nursery = nursery
        self._options = options
        self._counters = counters
        self._on_mismatch = on_mismatch
        self._open: dict[_Key, OpenBlob] = {}
        self._failures: dict[tuple[_Key, BlobStreamer], tuple[float, Exception]] = {}
        self._streams = trio.CapacityLimiter(options.streams)
        self._paces: WeakKeyDictionary[BlobStreamer, Pace] = WeakKeyDictionary()
        self._checked: LRUCache[tuple[int, int, int, Digest], None] = LRUCache(_MAX_REMEMBERED)
        # Bytes of files whose check was stopped: the kernel may still have them.
        self._given: LRUCache[_Key, int] = LRUCache(_MAX_REMEMBERED)

    def __repr__(self) -> str:
        return f"<Blobs {len(self._open)} open>"

    async def acquire(self, descriptor: Descriptor, source: BlobStreamer) -> OpenBlob:
        """Return the blob once its first bytes are there; `release` it in the end.

        It is returned without any if they take too long: its readers then wait for them.

        Raises:
            NotFound: the source does not have it.
            ContentMismatch: the source served something else.
            StorageFull: the cache's disk is full.
        """
        while True:
            blob = self._open.get((descriptor.digest, descriptor.size))
            if blob is not None and blob.is_stopping:
                await blob.arrival.ended.wait()
                continue
            blob = blob or self._begin(descriptor, source)
            blob.references += 1
            try:
                with trio.move_on_after(self._options.open_seconds):
                    await blob.arrival.wait_started()
            except BaseException:
                self.release(blob)
                raise
            error = blob.arrival.error
            if error is None or blob.arrival.is_verified:
                return blob
            self.release(blob)
            # What another source could not deliver, this one may.
            if blob.source is source:
                raise copy.copy(error) from error

    def may_be_read_early(self, descriptor: Descriptor, source: BlobStreamer) -> bool:
        """Tell whether a part of a blob can be read without fetching all of it."""
        return self._may_be_lazy(descriptor, source) or self._store.has(descriptor)

    def note_use(self) -> None:
        """Say that bytes of a blob are being read."""
        self._store.pending.note_use()

    async def settle(self, digest: Digest) -> None:
        """Wait until a whole blob, and what was made of it, have their final names.

        Raises:
            StorageFull: the disk is full.
        """
        for blob in [each for each in self._open.values() if each.descriptor.digest == digest]:
            if blob.arrival.is_verified:  # it may be about to be handed over
                await blob.arrival.ended.wait()
        await trio.to_thread.run_sync(
            partial(self._store.pending.settle, digest), abandon_on_cancel=True
        )

    def retain(self, blob: OpenBlob) -> None:
        """Count one more user of a blob that is open."""
        blob.references += 1

    def release(self, blob: OpenBlob) -> None:
        """Give a blob back."""
        blob.references -= 1
        if blob.references:
            return
        if blob.arrival.has_ended:
            self._close(blob)
        elif blob.descriptor.size > self._options.lazy_bytes:
            if isinstance(blob.arrival, Assembly):
                blob.arrival.pause()
            blob.idle_since = trio.current_time()
            self._nursery.start_soon(self._stop_when_idle, blob)

    def _begin(self, descriptor: Descriptor, source: BlobStreamer) -> OpenBlob:
        """Open the blob where it is, or begin to bring it; it is in the table then."""
        fd = self._store.open(descriptor)
        if fd is not None:
            self._counters.hits += 1
            return self._enter(descriptor, source, self._complete(descriptor, fd))
        self._raise_remembered(descriptor, source)
        if isinstance(source, InPlace):
            blob = self._begin_in_place(descriptor, source, source)
            if blob is not None:
                return blob
        self._counters.misses += 1
        if self._may_be_lazy(descriptor, source):
            return self._begin_pieces(descriptor, source)
        arrival = self._downloads.arrival(descriptor.size)
        blob = self._enter(descriptor, source, arrival)
        work = partial(transfer.fetch, self._store, source, descriptor)
        on_ended = partial(self._on_ended, blob)
        has_other = partial(reject, source, descriptor)
        self._downloads.start(descriptor, arrival, work, on_ended, has_other=has_other)
        return blob

    def _begin_pieces(self, descriptor: Descriptor, source: BlobStreamer) -> OpenBlob:
        errand = Errand(source, descriptor, self._options, self._streams, self.pace_of(source))
        assembly = Assembly(errand, self._store)
        blob = self._enter(descriptor, source, assembly)
        self._downloads.assemble(descriptor, assembly, partial(self._on_ended, blob))
        return blob

    def pace_of(self, source: BlobStreamer) -> Pace:
        """Return what is known of the way to a source."""
        pace = self._paces.get(source)
        if pace is None:
            pace = self._paces[source] = Pace(self._options.streams_ahead, stalled_seconds)
        return pace

    def _begin_in_place(
        self, descriptor: Descriptor, source: BlobStreamer, place: InPlace
    ) -> OpenBlob | None:
        """Open a layout's file, and check it unless this mount has; None if there is none."""
        path = place.blob_path(descriptor)
        if path is None:
            return None
        fd = open_regular(path, descriptor.size)
        if fd is None:
            raise ContentMismatch(f"{path}: not a file of {descriptor.size} bytes")
        if self._stamp(fd, descriptor) in self._checked:
            return self._enter(descriptor, source, self._complete(descriptor, fd))
        arrival = self._downloads.arrival(descriptor.size, fd=fd, is_local=True)
        blob = self._enter(descriptor, source, arrival)
        arrival.given = self._given.get(blob.key, 0)
        work = partial(transfer.check, descriptor)
        self._downloads.start(descriptor, arrival, work, partial(self._on_checked, blob, arrival))
        return blob

    def _enter(
        self, descriptor: Descriptor, source: BlobStreamer, arrival: Arrival | Assembly
    ) -> OpenBlob:
        may_be_lazy = self._may_be_lazy(descriptor, source)
        blob = OpenBlob(descriptor, source, arrival, may_be_lazy=may_be_lazy)
        self._open[blob.key] = blob
        return blob

    def _may_be_lazy(self, descriptor: Descriptor, source: BlobStreamer) -> bool:
        return (
            self._options.verify is Verify.LAZY
            and descriptor.size > self._options.lazy_bytes
            and source.is_trusted
        )

    def _complete(self, descriptor: Descriptor, fd: int) -> Arrival:
        arrival = self._downloads.arrival(descriptor.size, fd=fd, is_local=True)
        arrival.is_verified = True
        arrival.end(None)
        return arrival

    def _on_checked(self, blob: OpenBlob, arrival: Arrival) -> None:
        self._given[blob.key] = arrival.given
        if arrival.error is None:
            self._checked[self._stamp(arrival.fd, blob.descriptor)] = None
        self._on_ended(blob, is_download=False)

    def _on_ended(self, blob: OpenBlob, *, is_download: bool = True) -> None:
        arrival = blob.arrival
        if is_download:
            self._counters.count_download(arrival)
        if arrival.error is None:
            leases.hold(arrival.fd)
        else:
            self._open.pop(blob.key, None)  # the next one to open it tries again
            if not arrival.is_stopping:
                self._remember(blob, arrival.error)
        if isinstance(arrival.error, ContentMismatch):
            self._report(blob)
        if not blob.references:
            self._close(blob)

    def _report(self, blob: OpenBlob) -> None:
        self._counters.mismatches += 1
        if blob.arrival.was_served:
            digest = blob.descriptor.digest
            logger.error("wrong bytes were served: digest=%s", digest)
            self._on_mismatch(digest)

    def _close(self, blob: OpenBlob) -> None:
        if self._open.get(blob.key) is blob:
            del self._open[blob.key]
        if blob.arrival.fd >= 0:
            os.close(blob.arrival.fd)
            blob.arrival.fd = -1

    async def _stop_when_idle(self, blob: OpenBlob) -> None:
        await trio.sleep(self._options.grace_seconds)
        idle_seconds = trio.current_time() - blob.idle_since
        if blob.references or idle_seconds < self._options.grace_seconds:
            return
        if not isinstance(blob.arrival, Assembly) or not blob.arrival.is_complete:
            blob.arrival.stop()

    def _remember(self, blob: OpenBlob, error: Exception) -> None:
        now = trio.current_time()
        self._failures = {key: value for key, value in self._failures.items() if value[0] > now}
        until = now + self._options.failure_seconds
        self._failures[blob.key, blob.source] = (until, error)

    def _raise_remembered(self, descriptor: Descriptor, source: BlobStreamer) -> None:
        key = ((descriptor.digest, descriptor.size), source)
        until, error = self._failures.get(key, (0.0, None))
        if error is not None and trio.current_time() < until:
            raise copy.copy(error) from error

    @staticmethod
    def _stamp(fd: int, descriptor: Descriptor) -> tuple[int, int, int, Digest]:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino, status.st_mtime_ns, descriptor.digest
