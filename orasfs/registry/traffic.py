"""What all requests to one registry share, whichever HTTP path they go.

Owns its circuit, and the pause that it asked for when it limits the rate of requests. Thread-safe;
it never waits itself: whoever is about to send asks how long to wait.
"""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from orasfs.registry.circuit import Circuit
from orasfs.registry.protocol import retry_after_seconds
from orasfs.registry.settings import RegistrySettings

_LIMITING = frozenset({429, 503})
MAX_PAUSE_SECONDS = 60.0  # then somebody asks again, whatever the registry had said


class Traffic:
    """The traffic with one registry or mirror.

    Args:
        host: in words, for the log.
        settings: see `RegistrySettings.circuit`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        host: str,
        settings: RegistrySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.circuit = Circuit(host, settings.circuit, clock=clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0
        self._is_paused = False

    def __repr__(self) -> str:
        return f"<Traffic {self.circuit!r} pause={self.pause_seconds:g}>"

    @property
    def pause_seconds(self) -> float:
        """How long nothing is to be sent, 0 for not at all."""
        with self._lock:
            return max(0.0, self._until - self._clock()) if self._is_paused else 0.0

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Hear of an answer of the registry's own host; `headers` have any case."""
        self.circuit.succeeded()
        if status not in _LIMITING:
            return
        seconds = retry_after_seconds(headers.get("retry-after", ""), datetime.now(tz=UTC))
        if seconds:
            until = self._clock() + min(seconds, MAX_PAUSE_SECONDS)
            with self._lock:
                self._until = max(self._until, until) if self._is_paused else until
                self._is_paused = True
