"""Who orders a commit wants the registry asked, not told that it did not answer somebody before.

Owns how long a commit waits until a registry that is left alone is asked again. Knows no registry.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from orasfs.errors import Unreachable

logger = logging.getLogger(__name__)

INSIST_SECONDS = 40.0  # longer than any registry is left alone at a time
T = TypeVar("T")


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work; once more where it failed only because nobody is asked for a while.

    Raises:
        Unreachable: it was asked, and there is no answer; or it is left alone for too long.
        OrasfsError: why else the work failed.
    """
    deadline = trio.current_time() + INSIST_SECONDS
    while True:
        try:
            return await work()
        except Unreachable as error:
            seconds = error.left_alone_seconds
            if seconds <= 0 or trio.current_time() + seconds > deadline:
                raise
            logger.debug("waiting until asked again seconds=%.2f reason=%s", seconds, error)
        await trio.sleep(seconds)
