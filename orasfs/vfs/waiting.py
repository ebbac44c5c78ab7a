"""Waiting with a deadline, while the work goes on.

The kernel lets nobody kill a process that waits in a lookup, an open or a listing, so those end
with `TimedOut`; what was begun goes on in the mount's nursery, for the next try
(docs/SEMANTICS.md, "Waiting").
"""

import itertools
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar, cast

import trio

from orasfs.aio import SingleFlight
from orasfs.errors import TimedOut

T = TypeVar("T")


class Patience:
    """Waits for work at most so many seconds."""

    def __init__(self, nursery: trio.Nursery, wait_seconds: float) -> None:
        self._flights: SingleFlight[object] = SingleFlight(nursery)
        self._wait_seconds = wait_seconds
        self._serial = itertools.count()

    async def shared(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns; calls with one key at one time share one run of it.

        Raises:
            TimedOut: it takes longer; it goes on.
        """
        with trio.move_on_after(self._wait_seconds):
            # One key always stands for one kind of work, and so for one type.
            return cast("T", await self._flights.run(key, work))
        raise self._timed_out()

    async def owned(self, work: Callable[[], Awaitable[T]], abandon: Callable[[T], None]) -> T:
        """Return what `work` returns, which belongs to this caller alone.

        `abandon` is called with a result that comes when the caller has given up.

        Raises:
            TimedOut: it takes longer; it goes on.
        """
        is_waiting = True
        delivered: list[T] = []

        async def deliver() -> T:
            result = await work()
            if is_waiting:
                delivered.append(result)
            else:
                abandon(result)
            return result

        try:
            result = await self.shared(("owned", next(self._serial)), deliver)
            delivered.clear()
            return result
        finally:
            is_waiting = False
            # It came in the very turn of the loop in which the caller gave up.
            for result in delivered:
                abandon(result)

    def _timed_out(self) -> TimedOut:
        return TimedOut(
            f"no answer within {self._wait_seconds:g} s; the work goes on, try again later"
        )
