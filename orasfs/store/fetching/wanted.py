"""What the readers of one blob want: what they wait for, and what is fetched ahead of them.

Owns the lists, and the clock that a `Pace` judges by. Decides nothing about streams. Runs on the
trio thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from orasfs.store.fetching.pace import Epochs, Pace
from orasfs.store.fetching.window import Cursor, Want


@dataclass(slots=True, eq=False)
class Waiter:
    """A reader that waits for bytes up to `stop`, or for the whole to be verified."""

    want: Want
    stop: int
    needs_verified: bool
    event: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


class Wanted:
    """The wants of one blob's readers.

    Args:
        pace: hears how fast bytes come while readers wait.
        received: tells how many are there.
    """

    def __init__(self, pace: Pace, received: Callable[[], int]) -> None:
        self._epochs = Epochs(pace, received)
        self._cursors: dict[Cursor, None] = {}  # of readers that are followed, in that order
        self._waiters: list[Waiter] = []

    def __repr__(self) -> str:
        return f"<Wanted {len(self._waiters)} waiting {len(self._cursors)} followed>"

    @property
    def waiters(self) -> tuple[Waiter, ...]:
        """Those that wait, the first one first."""
        return tuple(self._waiters)

    @property
    def wants(self) -> list[Want]:
        """All that is wanted now, what is waited for first."""
        followed = [want for cursor in self._cursors for want in cursor.standing()]
        return [waiter.want for waiter in self._waiters] + followed

    @contextmanager
    def waiting(self, waiter: Waiter) -> Iterator[None]:
        """Count a waiter as long as it waits."""
        self._waiters.append(waiter)
        try:
            yield
        finally:
            self._waiters.remove(waiter)

    def has_waited(self, since: float) -> bool:
        """Note that a reader waited until now; tell whether the pace was judged anew."""
        return self._epochs.waited(since, trio.current_time())

    def follow(self, cursor: Cursor) -> Want | None:
        """Return what to fetch ahead of a reader; None if that is seen to."""
        want = cursor.prefetch()
        if want is not None:
            cursor.arrange(want)
            self._cursors[cursor] = None
        return want

    def leave(self, cursor: Cursor) -> bool:
        """Follow a reader no more; False if it was not followed."""
        is_followed = cursor in self._cursors
        self._cursors.pop(cursor, None)
        return is_followed
