"""Concurrency building blocks, free of the domain.

Owns `SingleFlight`. Knows trio, and how to say that work was given up.
INVARIANT: a waiter that is cancelled never cancels the work that others wait for.
"""

import copy
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

from orasfs.errors import Aborted

T = TypeVar("T")


class _Flight(Generic[T]):
    """One piece of work under way: an event, then exactly one of result and error."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: list[T] = []
        self.error: Exception | None = None


class SingleFlight(Generic[T]):
    """Runs at most one call for a key at a time; all who ask meanwhile share its outcome.

    The work runs in the nursery given, not in the caller's: callers may be cancelled or give up
    waiting, and the work goes on for the next one. Nothing is remembered once a call has ended.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, from the call under way for `key` if there is one.

        Raises:
            Exception: what `work` raised, as a copy of its own for each waiter.
            Aborted: the nursery was cancelled, and the caller is shielded from that.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            self._nursery.start_soon(self._fly, key, flight, work)
        await flight.done.wait()
        if flight.error is not None:
            # A copy: one exception raised in many tasks would collect all their tracebacks.
            raise copy.copy(flight.error) from flight.error
        if not flight.result:
            await trio.lowlevel.checkpoint()  # where most waiters end, which are cancelled, too
            raise Aborted("given up, since all is about to end")
        return flight.result[0]

    def is_flying(self, key: Hashable) -> bool:
        """Tell whether a call for `key` is under way."""
        return key in self._flights

    async def _fly(
        self, key: Hashable, flight: _Flight[T], work: Callable[[], Awaitable[T]]
    ) -> None:
        # Exception, not BaseException: a cancelled flight has neither result nor error.
        try:
            flight.result.append(await work())
        except Exception as error:  # noqa: BLE001 - handed to the waiters, who raise it
            flight.error = error
        finally:
            del self._flights[key]
            flight.done.set()
