"""How many transfers of blobs one registry has at a time.

Owns the count and the queue. Blocking, for worker threads; the loop's requests have a limiter of
their own, so that a lookup never waits for a download.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from orasfs.errors import Aborted

_POLL_SECONDS = 0.2


class Slots:
    """So many of something at a time."""

    def __init__(self, count: int) -> None:
        self._changed = threading.Condition()
        self._free = count

    def __repr__(self) -> str:
        return f"<Slots {self._free} free>"

    def take(self, is_cancelled: Callable[[], bool], seconds: float) -> bool:
        """Wait for a slot and take it; False if it was cancelled, or none came free in time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._free == 0:
                if is_cancelled() or time.monotonic() >= deadline:
                    return False
                self._changed.wait(_POLL_SECONDS)
            self._free -= 1
            return True

    @contextlib.contextmanager
    def held(self, is_cancelled: Callable[[], bool], subject: str) -> Iterator[None]:
        """Hold a slot, however long it takes to get one.

        Raises:
            Aborted: it was cancelled before.
        """
        if not self.take(is_cancelled, math.inf):
            raise Aborted(f"{subject}: cancelled")
        try:
            yield
        finally:
            self.give()

    def give(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._free += 1
            self._changed.notify()
