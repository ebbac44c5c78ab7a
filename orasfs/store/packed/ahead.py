"""Making what comes next in a thread of its own, while what was made is used.

Owns that thread. To decompress a layer takes as long as all else that is done with it: done one
after the other, they would keep a pass at half its speed. Blocking; knows no trio.

INVARIANT: the thread has ended when the iteration has, whichever way.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_AHEAD = 2  # what has been made, and waits to be used


def made_ahead(items: Iterator[T]) -> Generator[T]:
    """Yield the same, and raise the same; close it, if it is not used up."""
    thread = ThreadPoolExecutor(1, "decompressing")
    try:
        waiting = deque(thread.submit(next, items, None) for _ in range(_AHEAD))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, items, None))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
