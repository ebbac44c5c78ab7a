"""Keeping what was had on the way, while whoever asked for it has it already.

Owns the tasks that do so. Nobody need wait for them but who closes the cache: what a reader was
answered with is there for the next mount. Knows neither what is kept nor how.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from orasfs.errors import StorageFailure, StorageFull
from orasfs.oci.digest import Digest

logger = logging.getLogger(__name__)


class Keeping:
    """Runs what keeps something in the end, and can be waited for.

    Args:
        nursery: where the tasks live.
        limiter: of threads; not one in which others wait for the network.
    """

    def __init__(self, nursery: trio.Nursery, limiter: trio.CapacityLimiter) -> None:
        self._nursery = nursery
        self._limiter = limiter
        self._under_way: set[trio.Event] = set()

    def __repr__(self) -> str:
        return f"<Keeping {len(self._under_way)}>"

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Begin a task at the end of which something is kept; returns at once."""
        ended = trio.Event()
        self._nursery.start_soon(self._run, task, ended)
        self._under_way.add(ended)

    def keep(self, digest: Digest, work: Callable[[], None]) -> None:
        """Have something kept by a thread; returns at once.

        What the disk refuses is logged: it can be had again.

        Args:
            digest: what is kept.
            work: keeps it; may raise `StorageFull` and `StorageFailure`.
        """
        self.start(partial(self._keep, digest, work))

    async def wait_idle(self) -> None:
        """Wait until all of them have ended. The caller has a deadline."""
        while self._under_way:
            await next(iter(self._under_way)).wait()

    async def _run(self, task: Callable[[], Awaitable[None]], ended: trio.Event) -> None:
        try:
            await task()
        finally:
            self._under_way.discard(ended)
            ended.set()

    async def _keep(self, digest: Digest, work: Callable[[], None]) -> None:
        try:
            await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        except (StorageFull, StorageFailure) as error:
            logger.info("not kept: digest=%s reason=%s", digest, error)
