"""Registries that are let alone for a while, since an early upload to them has failed.

Owns how long. Pure: the clock comes in.
"""

from collections.abc import Callable

FIRST_SECONDS = 30.0  # after one failure; it doubles with each that follows
MOST_SECONDS = 600.0


class Pauses:
    """Which registries are let alone.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures: dict[str, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Pauses of {sorted(self._failures)}>"

    def is_paused(self, registry: str) -> bool:
        """Tell whether a registry is let alone now."""
        _, until = self._failures.get(registry, (0, 0.0))
        return self._now() < until

    def failed(self, registry: str) -> None:
        """Note a failure; those of uploads that ran side by side count once."""
        if self.is_paused(registry):
            return
        count, _ = self._failures.get(registry, (0, 0.0))
        seconds = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(count, 16))
        self._failures[registry] = (count + 1, self._now() + seconds)

    def worked(self, registry: str) -> None:
        """Note that all is well."""
        self._failures.pop(registry, None)
