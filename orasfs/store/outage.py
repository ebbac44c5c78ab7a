"""Whether a registry answers: says once when it stops, and once when it is back."""

import logging

from orasfs.errors import Offline, OrasfsError

logger = logging.getLogger(__name__)

_SHORT_PATIENCE_SECONDS = 0.25


class Outage:
    """The state of one registry, as the calls through the cache see it."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._is_out = False

    def __repr__(self) -> str:
        return f"<Outage {self._registry} {'out' if self._is_out else 'answers'}>"

    def patience_seconds(self, usual: float) -> float:
        """Return how long to wait where a last answer is known: less while the registry is out.

        The call that is waited for goes on, and ends the outage when it is answered.
        """
        return min(usual, _SHORT_PATIENCE_SECONDS) if self._is_out else usual

    def begin(self, error: OrasfsError) -> None:
        """Note that an old answer had to stand in for a failed call."""
        if not self._is_out:
            self._is_out = True
            level = logging.INFO if isinstance(error, Offline) else logging.WARNING
            logger.log(
                level,
                "registry fails, its last answers stand: registry=%s reason=%s",
                self._registry,
                error,
            )

    def end(self) -> None:
        """Note that a call was answered."""
        if self._is_out:
            self._is_out = False
            logger.info("registry answers again: registry=%s", self._registry)
