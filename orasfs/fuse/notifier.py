"""What is told to the kernel unasked, from a thread of its own.

Owns the queue and the thread. How a notification reaches the kernel, each transport says.

INVARIANT: no request waits for the kernel to take a notification, but in `settle`.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import trio

from orasfs.vfs.operations import Ino

logger = logging.getLogger(__name__)

NOTIFIER_JOIN_SECONDS = 2.0
SETTLE_SECONDS = 1.0  # for the kernel to forget; then who waits may see what was before


class KernelCache(Protocol):
    """Carries notifications to the kernel. Blocks; called in the notifier's thread only.

    Raises:
        OSError: the kernel does not have what it is to drop, or there is no session any more.
    """

    def invalidate_inode(self, ino: int) -> None:
        """Drop cached pages and attributes of an inode."""
        ...

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Drop a name."""
        ...


class SessionNotifier:
    """Tells the kernel to forget, from a thread of its own (vfs.operations.Notifier).

    A notification waits in the kernel for requests on the same directory or pages; sent from a
    request's own task it would wait for itself.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[KernelCache], None] | None] = queue.SimpleQueue()

    @contextmanager
    def speaking_to(self, cache: KernelCache) -> Iterator[None]:
        """Work as long as the block lasts; what has been told by its end is sent."""
        # A daemon thread: one that the kernel lets wait must not keep the process alive.
        thread = threading.Thread(
            target=self._work, args=(cache,), name="fuse-notifier", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._queue.put(None)
            thread.join(NOTIFIER_JOIN_SECONDS)

    def invalidate_content(self, ino: Ino) -> None:
        """Drop cached pages of the inode."""
        self._queue.put(lambda cache: cache.invalidate_inode(ino))

    def invalidate_entry(self, parent: Ino, name: str) -> None:
        """Drop a name from the kernel's cache."""
        self._queue.put(lambda cache: cache.invalidate_entry(parent, os.fsencode(name)))

    async def settle(self) -> None:
        """Wait until all that was told has arrived, but for a second at most."""
        arrived = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def answer(_cache: KernelCache) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(arrived.set)

        self._queue.put(answer)
        with trio.move_on_after(SETTLE_SECONDS):
            await arrived.wait()

    def _work(self, cache: KernelCache) -> None:
        while (notify := self._queue.get()) is not None:
            try:
                notify(cache)
            except OSError as error:  # ENOENT: the kernel does not have it, which is as good
                logger.debug("notification not taken error=%s", error)
