"""When a failed request is worth repeating, and after how long.

Owns the one policy that both HTTP paths follow. Knows neither of them, no clock and no sleep: the
caller says how often and how long it has tried. Only requests that can be repeated without harm
are ever put to it: all of the distribution API can, since content is named by its digest.

INVARIANT: elapsed time plus every delay granted stays within the policy's deadline.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from orasfs.errors import ConnectionBroken, TimedOut, Unreachable

# RFC 9110 section 15, RFC 6585: the server asks to come again, or failed in passing.
_PASSING_STATUSES = frozenset({408, 425, 429})


def is_passing_status(status: int) -> bool:
    """Tell whether an HTTP status names a fault that may be gone the next time."""
    return status in _PASSING_STATUSES or (500 <= status <= 599 and status != 501)


def is_passing(failure: Unreachable | int) -> bool:
    """Tell whether a failure may be gone the next time.

    Refused connections, unknown hosts and failed TLS handshakes are not: nobody is waiting there,
    and who asks shall hear it at once. Neither is that of a host that is left alone.
    """
    if isinstance(failure, int):
        return is_passing_status(failure)
    if failure.left_alone_seconds > 0:
        return False
    return isinstance(failure, ConnectionBroken | TimedOut)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how long and how patiently to try.

    Attributes:
        attempts: requests in all, the first one included; at least 1.
        base_seconds: the upper bound of the first delay; it doubles with each attempt.
        cap_seconds: the upper bound of any delay of our own choice.
        deadline_seconds: no attempt begins later than this after the first one began. A
            Retry-After of the server is honoured up to it.
    """

    attempts: int = 5
    base_seconds: float = 0.25
    cap_seconds: float = 8.0
    deadline_seconds: float = 60.0

    def decide(
        self,
        attempt: int,
        elapsed_seconds: float,
        failure: Unreachable | int,
        retry_after_seconds: float | None = None,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> float | None:
        """Return the seconds to wait before the next attempt, None to give up.

        Args:
            attempt: how many attempts have been made without progress, from 1.
            elapsed_seconds: since the first of them began.
            failure: what the last one met: an exception or an HTTP status.
            retry_after_seconds: what the server asked for, if it did.
            jitter: a random number in [0, 1), so that many clients do not come back in step.
        """
        if attempt >= self.attempts or not is_passing(failure):
            return None
        # Capped before it is used as an exponent: 2.0 ** 1024 overflows.
        bound = min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 64))
        delay = bound * (0.5 + jitter() / 2)
        if retry_after_seconds is not None:
            delay = max(delay, retry_after_seconds)
        return delay if elapsed_seconds + delay <= self.deadline_seconds else None
