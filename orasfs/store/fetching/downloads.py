"""The work on blobs that is under way: one worker thread each, a few at once, the rest queued.

Owns the running arrivals and the limits on their threads. Work belongs to the nursery given, not
to the reader that began it; what a reader leaves behind is decided in
`orasfs.store.fetching.blobs`.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from orasfs.errors import ContentMismatch
from orasfs.oci.descriptor import Descriptor
from orasfs.store.fetching.arrival import Arrival, Stopped
from orasfs.store.fetching.assembly import Assembly
from orasfs.store.options import Transfer, TransferState

logger = logging.getLogger(__name__)

Work = Callable[[Arrival], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    descriptor: Descriptor
    arrival: Arrival | Assembly
    on_ended: Callable[[], None]


class Downloads:
    """Runs work on blobs in worker threads, and tells how far it is.

    Args:
        nursery: where the work lives.
        at_once: how many threads work on large blobs, and how many on small ones: a small file
            need not wait until a long download is done.
        small_bytes: up to which size a blob is small.
    """

    def __init__(self, nursery: trio.Nursery, at_once: int, small_bytes: int) -> None:
        self._nursery = nursery
        self._small_bytes = small_bytes
        self._small_limiter = trio.CapacityLimiter(at_once)
        self._large_limiter = trio.CapacityLimiter(at_once)
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: set[_Job] = set()

    def __repr__(self) -> str:
        return f"<Downloads {len(self._jobs)} running>"

    def arrival(self, size: int, *, fd: int = -1, is_local: bool = False) -> Arrival:
        """Make the arrival of a blob, to be passed to `start`."""
        return Arrival(size, self._token, fd=fd, is_local=is_local, turns=self._progress)

    def start(
        self,
        descriptor: Descriptor,
        arrival: Arrival,
        work: Work,
        on_ended: Callable[[], None],
        *,
        has_other: Callable[[], bool] = bool,
    ) -> None:
        """Begin `work` in the background; `on_ended` is called on the trio thread after it.

        What turned out wrong is fetched anew as long as `has_other` says that it may come from
        elsewhere.
        """
        job = _Job(descriptor, arrival, on_ended)
        self._jobs.add(job)
        self._nursery.start_soon(self._run, job, arrival, work, has_other)

    def assemble(
        self, descriptor: Descriptor, assembly: Assembly, on_ended: Callable[[], None]
    ) -> None:
        """Begin to bring a blob in pieces; `on_ended` is called on the trio thread in the end."""
        job = _Job(descriptor, assembly, on_ended)
        self._jobs.add(job)
        self._nursery.start_soon(self._assemble, job, assembly)

    def transfers(self) -> Sequence[Transfer]:
        """Return what is under way, in order of digest."""
        found = [
            Transfer(job.descriptor.digest, job.descriptor.size, job.arrival.received, _state(job))
            for job in self._jobs
            if isinstance(job.arrival, Arrival) or not job.arrival.is_idle
        ]
        return sorted(found, key=lambda transfer: transfer.digest)

    def stop(self) -> None:
        """Tell all work to end; returns at once."""
        for job in self._jobs:
            job.arrival.stop()

    async def wait_idle(self) -> None:
        """Wait until no work is under way."""
        while self._jobs:
            await next(iter(self._jobs)).arrival.ended.wait()

    def _progress(self) -> Hashable:
        """Tell how far the work is that is under way; what is queued gets its turn after some."""
        return tuple(
            (id(job), job.arrival.progress())
            for job in self._jobs
            if isinstance(job.arrival, Arrival) and job.arrival.is_running
        )

    async def _assemble(self, job: _Job, assembly: Assembly) -> None:
        try:
            await assembly.run()
        finally:
            self._jobs.discard(job)
            job.on_ended()

    async def _run(
        self, job: _Job, arrival: Arrival, work: Work, has_other: Callable[[], bool]
    ) -> None:
        error: Exception | None = None
        try:
            await self._work(arrival, work, has_other)
        except Stopped:
            logger.debug("transfer stopped: digest=%s", job.descriptor.digest)
        except Exception as caught:  # noqa: BLE001 - handed to the readers, who raise it
            error = caught
        finally:
            self._jobs.discard(job)
            arrival.end(error)
            job.on_ended()

    async def _work(self, arrival: Arrival, work: Work, has_other: Callable[[], bool]) -> None:
        may_be_left = True  # what is wrong may be what an earlier run left
        while True:
            try:
                await self._in_thread(arrival, work)
            except ContentMismatch:
                is_left = may_be_left and arrival.resumed > 0
                may_be_left = False
                # As long as no one has seen it; one that is sure to end asks both.
                if arrival.was_served or not (has_other() or is_left):
                    raise
                logger.info("partial download dropped: %s", arrival)
                arrival.restart()
            else:
                return

    async def _in_thread(self, arrival: Arrival, work: Work) -> None:
        is_small = arrival.size <= self._small_bytes
        limiter = self._small_limiter if is_small else self._large_limiter
        try:
            # Abandoned when the mount ends, which a thread that waits for the network would hold
            # up; it ends at its next check.
            await trio.to_thread.run_sync(
                partial(work, arrival), abandon_on_cancel=True, limiter=limiter
            )
        except trio.Cancelled:
            arrival.stop()
            raise


def _state(job: _Job) -> TransferState:
    if job.arrival.is_verified:
        return TransferState.KEEPING
    return TransferState.RUNNING if job.arrival.is_running else TransferState.QUEUED
