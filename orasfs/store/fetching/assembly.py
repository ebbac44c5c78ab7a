"""A large blob that comes in pieces, from wherever it is read: who waits for what, and its life.

Owns the readers that wait, the life of the partial file, and when to give up. Offers its users the
same as `orasfs.store.fetching.arrival.Arrival`. Runs on the trio thread; the blocking work is in
`orasfs.store.fetching.walker` and `orasfs.store.files.chunkfile`.

INVARIANT: without readers no walker runs (`pause`). The file stays open and locked until `stop`.
"""

import contextlib
import copy
import logging
import os
from collections.abc import Callable, Hashable
from functools import partial
from typing import Protocol, TypeVar

import trio

from orasfs.aio import LocalWork, telling
from orasfs.errors import ContentMismatch, StorageFailure, StorageFull, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.store.fetching.arrival import Stopped
from orasfs.store.fetching.walker import NEVER
from orasfs.store.fetching.walkers import Errand, Walkers
from orasfs.store.fetching.wanted import Waiter, Wanted
from orasfs.store.fetching.window import Cursor, Want
from orasfs.store.files.chunkfile import ChunkFile

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FATAL = (ContentMismatch, StorageFull, StorageFailure)


def _conclude(
    file: ChunkFile,
    error: Exception | None,
    check: Callable[[], None],
    on_verified: Callable[[], None],
    keep_file: Callable[[ChunkFile], None],
) -> None:
    """Verify a file and have it kept if it is complete, else close it; in a thread."""
    is_of_use = True
    is_verified = False
    try:
        if error is not None:
            raise error
        if file.chunks.is_complete:
            file.verify(check)
            is_verified = True
    except (ContentMismatch, StorageFull):
        is_of_use = False  # the one is of no use, the other leaves room to others
        raise
    finally:
        if not is_verified:
            file.close(keep=is_of_use, flush=True)
    if is_verified:
        on_verified()
        keep_file(file)


class ChunkStore(Protocol):
    """Where blobs that come in pieces are put."""

    def open_chunks(self, descriptor: Descriptor) -> ChunkFile:
        """Open the partial file of a blob; blocks."""
        ...

    def keep(self, unnamed: ChunkFile) -> None:
        """Take a verified file over; blocks."""
        ...


class Assembly:
    """One blob on its way.

    Args:
        errand: the blob, and where it comes from.
        store: where its file is.

    Attributes:
        fd: the open file, -1 before there is one; who owns the assembly closes it in the end.
        resumed: how many bytes were there before.
        is_verified: size and digest have been checked.
        error: why it ended, if it failed. The failure of a stream ends nothing: it is told to
            those who wait for it.
        was_served: whether a reader was given bytes before they were verified.
    """

    def __init__(self, errand: Errand, store: ChunkStore) -> None:
        self._errand = errand
        self._store = store
        self._token = trio.lowlevel.current_trio_token()
        self._file: ChunkFile | None = None
        self._walkers: Walkers | None = None  # while bytes are gathered
        self._wanted = Wanted(errand.pace, lambda: self.received)
        self._is_file_ours = False  # to close; else there is none, or its last thread does
        self._fatal: Exception | None = None
        self._failure: tuple[float, Exception] | None = None
        self._done_gathering = trio.Event()
        self._local_work = LocalWork()
        self.size = errand.descriptor.size
        self.fd = -1
        self.resumed = 0
        self.is_verified = False
        self.is_stopping = False
        self.was_served = False
        self.error: Exception | None = None
        self.ended = trio.Event()

    def __repr__(self) -> str:
        state = "verified" if self.is_verified else repr(self.error) if self.error else "arriving"
        return f"<Assembly {self.received}/{self.size} {state} {self._walkers or ''}>"

    @property
    def has_ended(self) -> bool:
        """Whether all is done with it, one way or the other."""
        return self.ended.is_set()

    @property
    def received(self) -> int:
        """How many bytes are there."""
        return 0 if self._file is None else self._file.chunks.received

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there, so that it ends by itself."""
        return self._file is not None and self._file.chunks.is_complete

    @property
    def is_running(self) -> bool:
        """Whether bytes come, or are being checked."""
        return self.is_complete or (self._walkers is not None and self._walkers.is_running)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being done."""
        return not self._walkers and not self.is_complete  # no list, or an empty one

    # The readers' side.

    def has(self, start: int, stop: int) -> bool:
        """Tell whether bytes [start, stop) are in the file, and may be served."""
        return self.is_verified or (self._file is not None and self._file.may_serve(start, stop))

    def progress(self) -> Hashable:
        """Tell how far it is (`orasfs.aio.telling`): its bytes, and then their digest."""
        return self.received, self.is_complete and self._local_work()

    async def wait_started(self) -> None:
        """Wait for nothing: what to begin with is known only when it is read."""
        await trio.lowlevel.checkpoint()

    async def wait_for(self, cursor: Cursor, start: int, stop: int) -> None:
        """Wait until bytes [start, stop), which the cursor has noted, may be served.

        Raises:
            Unreachable: and whatever else the source raises.
        """
        await self._wait(Waiter(cursor.need(start, stop), stop, needs_verified=False))

    async def wait_beyond(self, offset: int) -> int:
        """Fetch all from `offset`, wait for a byte there; return up to where there are some."""
        want = Want(offset, self.size, is_open=True)
        await self._wait(Waiter(want, offset + 1, needs_verified=False))
        file = None if self.is_verified else self._file
        return self.size if file is None else file.servable(offset, self.size)

    async def wait_verified(self) -> None:
        """Fetch all of it, and wait until it is verified; raises as `wait_for`."""
        want = Want(0, self.size, is_open=True)
        await self._wait(Waiter(want, self.size, needs_verified=True))

    def follow(self, cursor: Cursor) -> None:
        """Fetch on ahead of a reader that goes on."""
        want = self._wanted.follow(cursor)
        file, walkers = self._file, self._walkers
        if want is None or file is None or walkers is None or self._refusal() is not None:
            return
        gap = file.chunks.gap(want.start, want.ahead)
        if gap is not None and not walkers.can_go_on(gap, want, NEVER) and walkers.has_room:
            walkers.send(gap, want, NEVER)
        walkers.spread([want])

    def leave(self, cursor: Cursor) -> None:
        """Fetch on for no reader that goes; others keep what is on its way to them."""
        if self._wanted.leave(cursor) and self._walkers is not None:
            self._walkers.keep(self._wanted.wants)

    def pause(self) -> None:
        """End the streams at once: no one reads any more."""
        if not self.is_complete and self._walkers is not None:
            self._walkers.end()

    def stop(self) -> None:
        """Tell all to end; returns at once, `ended` is set later."""
        self.is_stopping = True
        self._done_gathering.set()
        if self._walkers is not None:
            self._walkers.end()

    async def _wait(self, waiter: Waiter) -> None:
        since = trio.current_time()
        with self._wanted.waiting(waiter), telling(self.progress):
            self._serve(waiter)
            await waiter.event.wait()
        if self._wanted.has_waited(since):
            self._spread()
        if waiter.error is not None:
            raise copy.copy(waiter.error) from waiter.error

    def _is_reached(self, waiter: Waiter) -> bool:
        if self.is_verified or self.has_ended:
            return True
        return not waiter.needs_verified and self.has(waiter.want.start, waiter.stop)

    def _serve(self, waiter: Waiter) -> None:
        """See to it that what a reader waits for comes."""
        if self._file is not None and self._walkers is not None:
            want, stop = waiter.want, waiter.stop
            gap = self._file.chunks.gap(want.start, stop)
            if gap is not None and not self._walkers.can_go_on(gap, want, stop):
                waiter.error = self._refusal()
                if waiter.error is None:
                    self._walkers.send(gap, want, stop)
        # Looked at after the walkers know what is wanted.
        if waiter.error is not None or self._is_reached(waiter):
            waiter.event.set()

    def _refusal(self) -> Exception | None:
        """Return the failure of a stream that is so recent that no other one is tried."""
        until, failure = self._failure or (0.0, None)
        return failure if trio.current_time() < until else None

    # What walkers do, and what comes of it.

    def _publish(self) -> None:
        """Wake the loop's thread; called in others."""
        with contextlib.suppress(trio.RunFinishedError):  # no one is left to be woken
            self._token.run_sync_soon(self._look, idempotent=True)

    def _look(self) -> None:
        """Look at what has come, wake those who have waited for it, and go on for the others."""
        if self._walkers is not None:
            self._walkers.look()
        for waiter in self._wanted.waiters:
            self._serve(waiter)
        self._spread()

    def _spread(self) -> None:
        """Have what is wanted fetched by several at once, where that is quicker."""
        if self._walkers is not None and self._refusal() is None:
            self._walkers.spread(self._wanted.wants)

    def _on_walked(self, failure: Exception | None) -> None:
        if isinstance(failure, _FATAL):
            self._fatal = failure
        elif failure is not None:
            until = trio.current_time() + self._errand.options.failure_seconds
            self._failure = (until, failure)
        if self._fatal is not None or self.is_complete:
            self._done_gathering.set()
        self._look()

    # The life of the file.

    async def run(self) -> None:
        """Do all that is to be done until it is kept, was told to stop, or has failed."""
        try:
            await self._run()
        except Stopped:
            logger.debug("transfer stopped: digest=%s", self._errand.descriptor.digest)
        except Exception as error:  # noqa: BLE001 - handed to the readers, who raise it
            self.error = error
        finally:
            if self._file is not None and self._is_file_ours:
                self._file.close(keep=True)
            if self.error is None and not self.is_verified:
                self.error = Unreachable("the download was stopped")
            self.ended.set()
            for waiter in self._wanted.waiters:
                waiter.event.set()

    async def _run(self) -> None:
        try:
            await self._attempt()
        except ContentMismatch:  # what an earlier run left may be wrong, and no one has seen it
            if not self.resumed or self.was_served or self.is_stopping:
                raise
            logger.info("partial download dropped: digest=%s", self._errand.descriptor.digest)
            os.close(self.fd)
            self.fd = -1
            self._done_gathering = trio.Event()
            await self._attempt()

    async def _attempt(self) -> None:
        open_chunks = self._store.open_chunks
        file = self._file = await _in_thread(partial(open_chunks, self._errand.descriptor))
        self._is_file_ours = True
        self.fd = file.open_reader()
        self.resumed = file.resumed
        error = await self._gather(file)
        self._is_file_ours = False
        told = partial(_check, self), self._note_verified, self._store.keep
        await _in_thread(partial(_conclude, file, error, *told))

    async def _gather(self, file: ChunkFile) -> Exception | None:
        """Let walkers fetch until all is there, or it is over; return what went wrong."""
        self._fatal = None
        if self.is_complete:
            self._done_gathering.set()
        async with trio.open_nursery() as nursery:
            walkers = Walkers(self._errand, file, nursery, self._publish, self._on_walked)
            self._walkers = walkers
            self._look()
            await self._done_gathering.wait()
            self._walkers = None
            walkers.end()
        return self._fatal

    def _note_verified(self) -> None:
        self.is_verified = True
        self._publish()


def _check(assembly: Assembly) -> None:
    if assembly.is_stopping:
        raise Stopped


async def _in_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
