"""Concurrency building blocks, free of the domain.

Owns `SingleFlight`, and how work tells whoever waits for it that it comes nearer. Knows trio, and
how to say that work was given up.
INVARIANT: a waiter that is cancelled never cancels the work that others wait for.
"""

import copy
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

import trio

from orasfs.errors import Aborted

T = TypeVar("T")

LOCAL_WORK_SECONDS = 600.0

Tell = Callable[[], Hashable]  # returns another value when there was progress


class Progress:
    """How far a piece of work is: all that is told of what it waits for now.

    A value that differs from the last one is progress, whatever it is.
    """

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: list[Tell] = []

    def __call__(self) -> Hashable:
        """Return the state."""
        return tuple(tell() for tell in self._told)

    @contextmanager
    def told(self, tell: Tell) -> Iterator[None]:
        """Count this, too, within a block."""
        self._told.append(tell)
        try:
            yield
        finally:
            self._told.remove(tell)


# Of the work that the task of now belongs to: a task that is begun by another inherits it.
_progress: ContextVar[Progress | None] = ContextVar("orasfs_progress", default=None)


@contextmanager
def telling(tell: Tell) -> Iterator[None]:
    """Tell who waits for the work of this task how far that is what a block waits for.

    Args:
        tell: is called on the trio thread, now and then; must neither wait nor raise.
    """
    progress = _progress.get()
    if progress is None:
        yield
        return
    with progress.told(tell):
        yield


class LocalWork:
    """Tells that this machine is at work, which is progress for ten minutes at most.

    For what is done by the processor and the local disk alone, and has no measure of its own. Is
    begun by the first look at it.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: float | None = None

    def __call__(self) -> float:
        """Return another value each time, as long as the work counts as progress."""
        now = trio.current_time()
        if self._since is None:
            self._since = now
        return min(now - self._since, LOCAL_WORK_SECONDS)


class Flight(Generic[T]):
    """One piece of work under way: an event, then exactly one of result and error.

    Attributes:
        progress: how far it is.
    """

    __slots__ = ("_result", "done", "error", "progress")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.progress = Progress()
        self._result: list[T] = []
        self.error: Exception | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> None:
        """Do the work; in a task of its own."""
        _progress.set(self.progress)
        # Exception, not BaseException: a cancelled flight has neither result nor error.
        try:
            self._result.append(await work())
        except Exception as error:  # noqa: BLE001 - handed to the waiters, who raise it
            self.error = error

    async def result(self) -> T:
        """Wait for what comes of it; may be called again when that was cancelled.

        Raises:
            Exception: what the work raised, as a copy of its own for each waiter.
            Aborted: the nursery was cancelled, and the caller is shielded from that.
        """
        with telling(self.progress):
            await self.done.wait()
        if self.error is not None:
            # A copy: one exception raised in many tasks would collect all their tracebacks.
            raise copy.copy(self.error) from self.error
        if not self._result:
            await trio.lowlevel.checkpoint()  # where most waiters end, which are cancelled, too
            raise Aborted("given up, since all is about to end")
        return self._result[0]


class SingleFlight(Generic[T]):
    """Runs at most one call for a key at a time; all who ask meanwhile share its outcome.

    The work runs in the nursery given, not in the caller's: callers may be cancelled or give up
    waiting, and the work goes on for the next one. Nothing is remembered once a call has ended.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[Hashable, Flight[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, from the call under way for `key` if there is one.

        Raises:
            Exception: as `Flight.result`.
        """
        return await self.join(key, work).result()

    def join(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> Flight[T]:
        """Return the call under way for `key`, begun now if there is none."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight()
            self._nursery.start_soon(self._fly, key, flight, work)
        return flight

    def is_flying(self, key: Hashable) -> bool:
        """Tell whether a call for `key` is under way."""
        return key in self._flights

    async def _fly(
        self, key: Hashable, flight: Flight[T], work: Callable[[], Awaitable[T]]
    ) -> None:
        try:
            await flight.run(work)
        finally:
            del self._flights[key]
            flight.done.set()
