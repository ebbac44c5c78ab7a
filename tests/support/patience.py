"""Waiting for what another process is about to do."""

import time
from collections.abc import Callable

from tests.support.mounted import run

SECONDS = 30.0


def eventually(is_so: Callable[[], bool], *, seconds: float = SECONDS) -> None:
    """Ask until it is so, but not for ever."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        run(["true"])
