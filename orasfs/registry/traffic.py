"""What all requests to one registry share, whichever HTTP path they go.

Owns its circuit, how many transfers of blobs there are at a time, and what it asked for when it
limits the rate of requests: a wish that a retry would wait for holds back all requests to it, one
that is longer fails them. Thread-safe. Only slots are waited for here; whoever is about to send
asks how long to wait before.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from orasfs.errors import RateLimited
from orasfs.registry.circuit import Circuit
from orasfs.registry.faults import FOREIGN, unreachable
from orasfs.registry.protocol import retry_after_seconds
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.slots import Slots

_LIMITING = frozenset({429, 503})
MAX_REFUSAL_SECONDS = 60.0  # then somebody asks again, whatever the registry had said


class Traffic:
    """The traffic with one registry or mirror.

    Args:
        host: in words, for the log.
        settings: see `RegistrySettings.circuit` and `RegistrySettings.retry`.
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
        self._longest_pause = settings.retry.deadline_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self.downloads = Slots(2 * settings.concurrency)
        self.uploads = Slots(settings.concurrency)
        self._paused_until = self._refused_until = clock()

    def __repr__(self) -> str:
        return f"<Traffic {self.circuit!r} pause={self.pause_seconds:g}>"

    @property
    def pause_seconds(self) -> float:
        """How long to wait before anything is sent, 0 for not at all."""
        with self._lock:
            return max(0.0, self._paused_until - self._clock())

    def refusal(self, subject: str) -> RateLimited | None:
        """Return why nothing is to be sent for `subject`, None if it may."""
        with self._lock:
            seconds = self._refused_until - self._clock()
        if seconds <= 0:
            return None
        words = f"{subject}: the registry limits the rate of requests, and wants none for now"
        return RateLimited(words, status=429)

    @contextlib.contextmanager
    def watched(self, subject: str) -> Iterator[None]:
        """Send a request for `subject` inside; the circuit hears if no answer comes.

        Raises:
            Unreachable: nothing is to be sent, since nobody answered before.
            RateLimited: nothing is to be sent, since the registry wants none.
        """
        refusal = self.refusal(subject) or self.circuit.refusal(subject)
        if refusal is not None:
            raise refusal
        try:
            yield
        except FOREIGN as error:
            self.circuit.failed(unreachable(error, subject))
            raise
        except BaseException:
            self.circuit.abandoned()
            raise

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Hear of an answer of the registry's own host; `headers` ignore case."""
        self.circuit.succeeded()
        if status not in _LIMITING:
            return
        seconds = retry_after_seconds(headers.get("retry-after", ""), datetime.now(tz=UTC))
        if not seconds:
            return
        with self._lock:
            now = self._clock()
            if seconds <= self._longest_pause:
                self._paused_until = max(self._paused_until, now + seconds)
            elif status == 429:
                until = now + min(seconds, MAX_REFUSAL_SECONDS)
                self._refused_until = max(self._refused_until, until)
