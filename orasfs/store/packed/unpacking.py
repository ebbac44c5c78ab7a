"""A pass over a layer on the trio thread: it follows the blob as that arrives. Who waits for it.

Owns the pace of a pass and the rule when what has passed may be shown: with a blob that may be
served before it is verified (`orasfs.store.fetching.blobs`) at once, with another one when it is
verified. The work itself is `orasfs.store.packed.unpacker`'s, a few mebibytes in a thread at a
time, so that of many layers none waits until another one is through.

INVARIANT: the worker writes the position and then looks whether somebody waits; who waits says so
and then looks at the position: one of the two sees the other. What was shown is never unpacked
anew: the arrival was told (`was_served`), and fails instead.
"""

import contextlib
import copy
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from orasfs.aio import LocalWork, telling
from orasfs.errors import InvalidContent, StorageFull, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStreamer
from orasfs.store.content.cas import ContentStore
from orasfs.store.fetching.arrival import Arrival, Stopped
from orasfs.store.fetching.assembly import Assembly
from orasfs.store.fetching.blobs import Blobs, OpenBlob
from orasfs.store.packed import unpack
from orasfs.store.packed.sealed import SealedLayer
from orasfs.store.packed.unpacker import Unpacker
from orasfs.tree.indexbuilder import IndexBuilder

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SETTLE_SECONDS = 5.0
_PAUSES_SECONDS = (0.1, 0.4, 1.0)  # longer together than a failed download is remembered
_BATCH_BYTES = 8 * 1024 * 1024  # of the blob; after it, another layer has its turn


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all passes share."""

    store: ContentStore
    blobs: Blobs
    limiter: trio.CapacityLimiter
    is_stopping: threading.Event


class Unpacking:
    """One pass over the layer that `descriptor` names.

    Args:
        workshop: what all passes share.
        descriptor: the layer's blob.
        source: where it comes from.
        directory: where the layer is put.
        algorithm: of a digest of the uncompressed tar that will be wanted.

    Attributes:
        error: why it ended, if it failed.
        ended: set in the end.
        sealed: what it has made, for who runs it to have kept.
        slab_fd: the open slab, -1 before there is one; open as long as this object lives.
    """

    def __init__(
        self,
        workshop: Workshop,
        descriptor: Descriptor,
        source: BlobStreamer,
        directory: Path,
        algorithm: str,
    ) -> None:
        self._workshop = workshop
        self._descriptor = descriptor
        self._source = source
        self._directory = directory
        self._algorithm = algorithm
        self._token = trio.lowlevel.current_trio_token()
        self._blob: OpenBlob | None = None
        self._unpacker: Unpacker | None = None
        self._changed = trio.Event()
        self._waiting = 0
        self._local_work: LocalWork | None = None  # while a thread is at it, or has no turn yet
        self.sealed: SealedLayer | None = None
        self.error: Exception | None = None
        self.ended = trio.Event()
        self.slab_fd = -1

    def __repr__(self) -> str:
        return f"<Unpacking {self._descriptor.digest} {self._unpacker}>"

    @property
    def is_shown(self) -> bool:
        """Whether what has passed may be shown, and there is something."""
        blob = self._blob
        if blob is None or self._unpacker is None or self.ended.is_set():
            return False
        return blob.arrival.is_verified or (blob.is_lazy and blob.arrival.error is None)

    @property
    def position(self) -> int:
        """Up to where the tar may be read, 0 as long as nothing is shown."""
        return self._unpacker.position if self._unpacker is not None and self.is_shown else 0

    @property
    def is_verified(self) -> bool:
        """Whether the blob has been verified."""
        return self._blob is not None and self._blob.arrival.is_verified

    def progress(self) -> Hashable:
        """Tell how far it is (`orasfs.aio.telling`): by bytes, and by what has no measure."""
        arrived = None if self._blob is None else self._blob.arrival.progress()
        passed = None if self._unpacker is None else self._unpacker.position
        return arrived, passed, None if self._local_work is None else self._local_work()

    def show(self) -> IndexBuilder:
        """Return what is known of the members, if `is_shown`; it counts as served from now on."""
        if self._unpacker is None:
            raise ValueError("nothing is shown yet")
        self._note_served()
        return self._unpacker.builder

    def open_blob(self, number: int) -> int | None:
        """Open a file that becomes a blob of its own; None if it is gone. The caller closes it."""
        self._note_served()
        return None if self._unpacker is None else self._unpacker.open_blob(number)

    async def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """Wait until the condition holds or the pass has ended; it is looked at after each step.

        Raises:
            ContentMismatch: and whatever else the pass ended with.
        """
        with telling(self.progress):
            while not self.ended.is_set() and not is_reached():
                self._waiting += 1
                changed = self._changed
                try:
                    if not is_reached():
                        await changed.wait()
                finally:
                    self._waiting -= 1
        if self.error is not None:
            raise copy.copy(self.error) from self.error

    async def wait_ended(self) -> None:
        """Wait for the end of the pass; raises as `wait_until`."""
        with telling(self.progress):
            await self.ended.wait()
        await self.wait_until(lambda: False)

    async def run(self) -> None:
        """Do all of it; a failure is in `error`."""
        try:
            await self._run()
        except Stopped:
            self.error = Unreachable("unpacking was stopped")
        except Exception as error:  # noqa: BLE001 - handed to those who wait, who raise it
            self.error = error
        finally:
            if self.error is None and self._blob is not None and not self.is_verified:
                self.error = Unreachable("unpacking was stopped")
            self.ended.set()
            self._wake()

    async def _run(self) -> None:
        """Pass the layer, with room for it claimed before and settled in the end."""
        store = self._workshop.store
        name = f"{self._descriptor.digest.hex}-{os.getpid()}.layer"
        place = store.ingest_directory / name
        # No less than that; how much it will be is known in the end.
        claim_room = partial(store.claim, place, self._descriptor.size, self._directory)
        claim = await _patiently(partial(self._in_thread, claim_room))
        try:
            await self._run_claimed()
            if self.sealed is not None and claim is not None:
                self.sealed.on_closed.append(claim.settle)
        finally:
            if claim is not None and self.sealed is None:
                with trio.move_on_after(_SETTLE_SECONDS, shield=True):
                    await trio.to_thread.run_sync(claim.settle, abandon_on_cancel=True)

    async def _run_claimed(self) -> None:
        blobs = self._workshop.blobs
        blob = await _patiently(partial(blobs.acquire, self._descriptor, self._source))
        try:
            self._blob = blob
            while not await self._pass(blob):
                logger.info("layer unpacked anew: digest=%s", self._descriptor.digest)
        finally:
            blobs.release(blob)

    async def _pass(self, blob: OpenBlob) -> bool:
        """Unpack all; return False if the blob turned out to be another one meanwhile."""
        arrival = blob.arrival
        await arrival.wait_beyond(0)
        _check(arrival)
        unpacker = await self._in_thread(partial(self._open_unpacker, os.dup(arrival.fd)))
        try:
            self.slab_fd = os.dup(unpacker.slab_fd)
            weakref.finalize(self, os.close, self.slab_fd)
            self._unpacker = unpacker
            damage = await self._feed(unpacker, arrival)
            await arrival.wait_verified()
            _check(arrival)
            if not unpacker.is_of(arrival.fd):
                return False
            if damage is not None:
                raise damage
            self._wake()
            self.sealed = await self._in_thread(partial(unpacker.seal, self._directory))
        finally:
            self._unpacker = None
            unpacker.close()
        return True

    async def _feed(
        self, unpacker: Unpacker, arrival: Arrival | Assembly
    ) -> InvalidContent | None:
        """Unpack what arrives, to its end; return what is wrong with it, if it is what it is."""
        while unpacker.offset < arrival.size:
            stop = await arrival.wait_beyond(unpacker.offset)
            _check(arrival)
            if not unpacker.is_of(arrival.fd):
                return None
            step = min(stop, unpacker.offset + _BATCH_BYTES)
            try:
                await self._in_thread(partial(unpacker.feed, step))
            except InvalidContent as error:
                return error  # of the blob, or of bytes that are not the blob's
        return None

    def _open_unpacker(self, blob_fd: int) -> Unpacker:
        try:
            store = self._workshop.store
            store.pending.wait_for_room()
            return Unpacker(blob_fd, store, self._algorithm, self._on_progress)
        except BaseException:
            os.close(blob_fd)
            raise

    def _on_progress(self) -> None:
        """Wake who waits; in the worker's thread.

        Raises:
            Stopped: the mount ends.
        """
        if self._workshop.is_stopping.is_set():
            raise Stopped
        self._workshop.store.pending.note_use()
        if self._waiting:
            # The loop has ended with the mount: no one is left to be woken.
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _note_served(self) -> None:
        if self._blob is not None and not self._blob.arrival.is_verified:
            self._blob.arrival.was_served = True

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._local_work = LocalWork()
        try:
            return await trio.to_thread.run_sync(work, limiter=self._workshop.limiter)
        except trio.Cancelled:
            self._workshop.is_stopping.set()
            raise
        finally:
            self._local_work = None


async def hash_tar(
    workshop: Workshop, descriptor: Descriptor, source: BlobStreamer, algorithm: str
) -> Digest:
    """Compute a digest of a layer's uncompressed tar that its pass did not.

    Raises:
        InvalidContent: its compression is damaged.
        Unreachable: the mount ends; and whatever else the source raises.
    """

    def check_stop() -> None:
        if workshop.is_stopping.is_set():  # told to whoever waits, so in words of everybody
            raise Unreachable("checking a layer was stopped")

    blob = await workshop.blobs.acquire(descriptor, source)
    try:
        await blob.arrival.wait_verified()
        _check(blob.arrival)
        work = partial(unpack.hash_tar, blob.arrival.fd, algorithm, check_stop)
        with telling(LocalWork()):
            return await trio.to_thread.run_sync(work, limiter=workshop.limiter)
    finally:
        workshop.blobs.release(blob)


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do what needs room, and again after a moment: what is in use now may not be in use then."""
    for seconds in _PAUSES_SECONDS:
        with contextlib.suppress(StorageFull):
            return await work()
        await trio.sleep(seconds)
    return await work()


def _check(arrival: Arrival | Assembly) -> None:
    """Raise the failure of an arrival; one that was verified is good, even if it is not kept."""
    if arrival.error is not None and not arrival.is_verified:
        raise copy.copy(arrival.error) from arrival.error
