"""A host that does not answer is left alone for a while: the circuit breaker.

Owns when a host is given up, for how long, and who asks first whether it is back. One circuit a
registry or mirror, shared by both HTTP paths; thread-safe, and it never waits.

    closed     requests go out; `threshold` failures to get an answer, one after the other, open it
    open       requests fail at once by the last cause, until the backoff is over
    half-open  one request goes out, the others still fail at once; its outcome closes or opens

INVARIANT: only a failure to get an answer counts (`Unreachable`): whatever status an answer has,
somebody is there. What is raised is the last cause, so that nothing turns into another error.
"""

import enum
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from orasfs.errors import Unreachable

logger = logging.getLogger(__name__)

_MAX_DOUBLINGS = 30
_LEAST_SECONDS = 0.05  # while another one asks


class State(enum.Enum):
    """What becomes of requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a host is given up, and for how long.

    Attributes:
        threshold: failures in sequence that open the circuit.
        base_seconds: how long it is open at first; it doubles with each probe that fails.
        cap_seconds: how long at most.
    """

    threshold: int = 5
    base_seconds: float = 1.0
    cap_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    """What there is to tell of a circuit.

    Attributes:
        state: what becomes of requests now.
        failures: in sequence, until now.
        opened: how often it was opened.
        refused: how many requests were not sent because of that.
    """

    state: State = State.CLOSED
    failures: int = 0
    opened: int = 0
    refused: int = 0


class Circuit:
    """The circuit of one host.

    Args:
        host: in words, for the log.
        policy: see `CircuitPolicy`.
        clock: seconds, monotonic.
    """

    def __init__(
        self, host: str, policy: CircuitPolicy, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._cause: Unreachable | None = None
        self._failures = 0
        self._opened = 0
        self._reopened = 0  # since it was closed
        self._refused = 0
        self._until: float | None = None  # open, or half-open behind it
        self._is_probing = False

    def __repr__(self) -> str:
        return f"<Circuit {self._host} {self.status.state.value}>"

    @property
    def status(self) -> CircuitStatus:
        """What there is to tell of it."""
        with self._lock:
            return CircuitStatus(self._state(), self._failures, self._opened, self._refused)

    @property
    def is_open(self) -> bool:
        """Whether a request would fail at once; unlike `refusal` this admits nobody."""
        with self._lock:
            return self._until is not None and (self._is_probing or self._clock() < self._until)

    @property
    def open_seconds(self) -> float:
        """How long it will be until a request goes out again, if nothing else happens."""
        with self._lock:
            return max(0.0, self._until - self._clock()) if self._until is not None else 0.0

    def refusal(self, subject: str) -> Unreachable | None:
        """Return why a request for `subject` is not to be sent; None admits it.

        One that was admitted ends in `succeeded`, `failed` or `abandoned`.
        """
        with self._lock:
            if self._until is None or self._cause is None:
                return None
            if not self._is_probing and self._clock() >= self._until:
                self._is_probing = True
                return None
            self._refused += 1
            words = f"{subject}: not asked again yet, since {self._cause}"
            refusal = type(self._cause)(words)
            refusal.left_alone_seconds = max(self._until - self._clock(), _LEAST_SECONDS)
            return refusal

    def succeeded(self) -> None:
        """Hear that the host answered, whatever it said."""
        with self._lock:
            was_open, self._until = self._until is not None, None
            self._failures = self._reopened = 0
            self._is_probing = False
            self._cause = None
        if was_open:
            logger.info("registry is back host=%s", self._host)

    def failed(self, cause: Unreachable) -> None:
        """Hear that no answer came."""
        with self._lock:
            self._failures += 1
            is_probe, self._is_probing = self._is_probing, False
            is_open = self._until is not None
            if (is_open and not is_probe) or self._failures < self._policy.threshold:
                return
            self._cause = cause
            seconds = self._backoff_seconds()
            self._until = self._clock() + seconds
            self._reopened += 1
            self._opened += not is_open
        level = logging.DEBUG if is_open else logging.INFO
        logger.log(
            level, "registry is left alone host=%s seconds=%g cause=%s", self._host, seconds, cause
        )

    def insist(self) -> None:
        """Let requests out again: a person ordered something that is worth a try.

        The first one that gets no answer opens it again.
        """
        with self._lock:
            if self._until is None:
                return
            self._until = None
            self._is_probing = False
            self._failures = min(self._failures, self._policy.threshold - 1)

    def abandoned(self) -> None:
        """Hear that a request that was admitted ended without telling anything."""
        with self._lock:
            self._is_probing = False

    def _backoff_seconds(self) -> float:
        doublings = min(self._reopened, _MAX_DOUBLINGS)
        return min(self._policy.cap_seconds, self._policy.base_seconds * 2.0**doublings)

    def _state(self) -> State:
        if self._until is None:
            return State.CLOSED
        return State.HALF_OPEN if self._clock() >= self._until else State.OPEN
