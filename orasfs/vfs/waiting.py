"""Waiting with a deadline, while the work goes on.

The kernel lets nobody kill a process that waits in a lookup, an open or a listing, so those end
with `TimedOut`; what was begun goes on in the mount's nursery, for the next try
(docs/SEMANTICS.md, "Waiting"). What comes nearer is no failure, however slow it is: the deadline
is one of work of which nothing is heard (`orasfs.aio.telling`).
"""

import itertools
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar, cast

import trio

from orasfs.aio import SingleFlight
from orasfs.errors import TimedOut

T = TypeVar("T")

_LOOKS = 10  # at the work, before it has been waited for too long


class Patience:
    """Waits for work at most so many seconds in which it comes no nearer."""

    def __init__(self, nursery: trio.Nursery, wait_seconds: float) -> None:
        self._flights: SingleFlight[object] = SingleFlight(nursery)
        self._wait_seconds = wait_seconds
        self._serial = itertools.count()

    async def shared(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns; calls with one key at one time share one run of it.

        Raises:
            TimedOut: it takes longer, and comes no nearer; it goes on.
        """
        flight = self._flights.join(key, work)
        seen, step_seconds = flight.progress(), self._wait_seconds / _LOOKS
        deadline = first_deadline = trio.current_time() + self._wait_seconds
        while True:
            with trio.move_on_at(min(deadline, trio.current_time() + step_seconds)):
                # One key always stands for one kind of work, and so for one type.
                return cast("T", await flight.result())
            now, before, seen = trio.current_time(), seen, flight.progress()
            if seen != before:
                # As if from the last look on: no later than the progress that was made since.
                deadline = max(deadline, now + self._wait_seconds - step_seconds)
            if now >= deadline:
                raise self._timed_out(has_progress=deadline > first_deadline)

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

    def _timed_out(self, *, has_progress: bool) -> TimedOut:
        what = "nothing more" if has_progress else "no answer"
        return TimedOut(
            f"{what} within {self._wait_seconds:g} s; the work goes on, try again later"
        )
