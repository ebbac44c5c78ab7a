"""How far the bytes of one blob have come: the seam between a worker thread and its readers.

Owns the progress of one download or one check of a local file. One worker thread moves it forward;
the trio thread reads it, waits for it and ends it. Knows no network and no store.

INVARIANT: each attribute has one writer while a worker runs. The worker writes `fd`, `received`,
`resumed`, `checked`, `is_running` and `is_verified`; the trio thread writes the rest. The worker
looks at `_wanted` after it wrote `received`, and a waiter looks at `received` after it wrote
`_wanted`: one of the two sees the other, so no wake-up is lost, and a worker that no one waits for
wakes no one.
"""

import contextlib
import os
from collections.abc import Callable, Hashable
from typing import Protocol

import trio

from orasfs.aio import LocalWork, telling
from orasfs.errors import Unreachable

STARTED = 1
_NEVER = 2**64


class Stopped(Exception):
    """The work was told to stop; raised in the worker thread."""


class Closeable(Protocol):
    """What `stop` closes, to end a read that waits in the worker thread."""

    def close(self) -> None:
        """Close it; harmless twice, and from another thread."""
        ...


class Arrival:
    """The progress of one blob of `size` bytes.

    Args:
        size: in bytes.
        token: of the loop.
        fd: the open file, if there is one from the beginning.
        is_local: whether it has all bytes, which are to be checked.
        turns: tells how far those are whose turn is before this one's.

    Attributes:
        fd: the open file with the bytes, -1 before there is one; whoever owns the arrival closes
            it once `has_ended`.
        received: bytes [0, received) are in the file.
        resumed: how many of them were there before this download.
        checked: how many of a local file were looked at.
        is_verified: size and digest have been checked.
        error: why it ended, if it failed.
        was_served: whether a reader was given bytes before they were verified.
        given: how many bytes readers were given before, those given twice counted twice.
    """

    def __init__(
        self,
        size: int,
        token: trio.lowlevel.TrioToken,
        *,
        fd: int = -1,
        is_local: bool = False,
        turns: Callable[[], Hashable] = tuple,
    ) -> None:
        self.size = size
        self.fd = fd
        self.received = size if is_local else 0
        self.resumed = 0
        self.checked = 0
        self.is_running = False
        self.is_verified = False
        self.is_stopping = False
        self.was_served = False
        self.given = 0
        self.error: Exception | None = None
        self.ended = trio.Event()
        self._token = token
        self._stream: Closeable | None = None
        self._waiters: list[tuple[int, trio.Event]] = []
        self._wanted = _NEVER
        self._turns = turns
        self._local_work = LocalWork()

    def __repr__(self) -> str:
        state = "verified" if self.is_verified else repr(self.error) if self.error else "arriving"
        return f"<Arrival {self.received}/{self.size} {state}>"

    # The worker thread's side.

    def begin(self, fd: int) -> None:
        """Say that the work has begun, on the file `fd`."""
        self.fd = fd
        self.is_running = True

    def attach(self, stream: Closeable) -> None:
        """Name what `stop` is to close.

        Raises:
            Stopped: it is too late.
        """
        self._stream = stream
        self.check()

    def advance(self, received: int) -> None:
        """Say that bytes [0, received) are in the file.

        Raises:
            Stopped: no one wants the rest.
        """
        self.received = received
        if received >= self._wanted:
            self._publish()
        self.check()

    def check(self) -> None:
        """Raise if the work is to end.

        Raises:
            Stopped: always with that.
        """
        if self.is_stopping:
            raise Stopped

    def mark_verified(self) -> None:
        """Say that size and digest are right; readers need not wait for the rest of the work."""
        self.is_verified = True
        self._publish()

    def _publish(self) -> None:
        # The loop has ended with the mount: no one is left to be woken.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    # The trio thread's side.

    @property
    def has_ended(self) -> bool:
        """Whether the worker is done with it, one way or the other."""
        return self.ended.is_set()

    def progress(self) -> Hashable:
        """Tell how far it is (`orasfs.aio.telling`): its turn, its bytes, and their digest."""
        if not self.is_running:
            return self._turns()
        if self.received < self.size:
            return self.received
        return self.checked, self._local_work()

    async def wait_started(self) -> None:
        """Wait for the first byte, for the end of an empty blob, or for a failure."""
        await self._wait(STARTED)

    def has(self, start: int, stop: int) -> bool:
        """Tell whether bytes [start, stop) are in the file, and may be served.

        Not those with which readers might have got all: then it is to be verified first.
        """
        is_there = self.error is None and start <= stop <= self.received
        return self.is_verified or (is_there and not self._may_be_all(start, stop))

    async def wait_for(self, start: int, stop: int) -> None:
        """Wait until bytes [start, stop) may be served, or for a failure."""
        await self._wait(self.size + 1 if self._may_be_all(start, stop) else stop)

    async def wait_beyond(self, offset: int) -> int:
        """Wait for a byte at `offset`, or for a failure; return up to where there are some."""
        await self._wait(offset + 1)
        return self.size if self.is_verified else self.received

    async def wait_verified(self) -> None:
        """Wait until the blob is verified, or for a failure."""
        await self._wait(self.size + 1)

    def stop(self) -> None:
        """Tell the worker to end; returns at once, `ended` is set later."""
        self.is_stopping = True
        if self._stream is not None:
            self._stream.close()

    def restart(self) -> None:
        """Forget the bytes so far, none of which was served; between two workers."""
        os.close(self.fd)
        self.fd = -1
        self.received = 0
        self.resumed = 0
        self._stream = None

    def end(self, error: Exception | None) -> None:
        """Say that the worker is done, and with what failure if any."""
        if error is None and not self.is_verified:
            error = Unreachable("the download was stopped")
        self.error = error
        self.ended.set()
        self._wake()

    def _may_be_all(self, start: int, stop: int) -> bool:
        return self.given + stop - start >= self.size

    def _is_reached(self, received: int) -> bool:
        return self.is_verified or self.error is not None or self.received >= received

    async def _wait(self, received: int) -> None:
        while not self._is_reached(received):
            waiter = (received, trio.Event())
            self._waiters.append(waiter)
            self._wanted = min(self._wanted, received)
            try:
                if not self._is_reached(received):
                    with telling(self.progress):
                        await waiter[1].wait()
            finally:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        """Set the events of all whose bytes are there, and say what the others wait for."""
        while True:
            self._wanted = _NEVER
            for received, event in self._waiters:
                if self._is_reached(received):
                    event.set()
                else:
                    self._wanted = min(self._wanted, received)
            if self.received < self._wanted:
                return
