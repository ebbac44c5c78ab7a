"""Requests to token services: blocking, small, repeated where that helps, redirected nowhere.

Owns the HTTP side of `orasfs.registry.auth`. INVARIANT: a credential is sent to the address that
was checked, and to no other.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from orasfs.errors import Unreachable
from orasfs.registry import protocol, route
from orasfs.registry.faults import FOREIGN, unreachable
from orasfs.registry.pools import Pools
from orasfs.registry.protocol import Answer
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.tokens import MAX_TOKEN_BYTES, TokenRequest

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 30.0


class TokenService:
    """Sends requests for tokens.

    Args:
        settings: deadlines, retries and the User-Agent.
        pools: connections.
        wait: lets so many seconds pass.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        pools: Pools,
        *,
        wait: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._user_agent = settings.user_agent
        deadline = min(settings.retry.deadline_seconds, DEADLINE_SECONDS)
        self._policy = replace(settings.retry, deadline_seconds=deadline)
        self._pools = pools
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._clock = clock

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closed.set()

    def send(self, request: TokenRequest, subject: str) -> Answer:
        """Send a request and return the last answer, of any status.

        Args:
            request: to a realm that has been checked.
            subject: whom it goes to, in words that begin a message.

        Raises:
            Unreachable: there was no answer.
        """
        started = self._clock()
        attempt = 0
        while True:
            attempt += 1
            try:
                outcome: Answer | Unreachable = self._exchange(request)
            except FOREIGN as error:
                outcome = unreachable(error, subject)
                outcome.__cause__ = error
            failure: Unreachable | int
            wish = None
            if isinstance(outcome, Answer):
                failure = outcome.status
                wish = protocol.retry_after_of(outcome, datetime.now(tz=UTC))
            else:
                failure = outcome
            delay = self._policy.decide(attempt, self._clock() - started, failure, wish)
            if delay is None or self._closed.is_set():
                if isinstance(outcome, Answer):
                    return outcome
                raise outcome
            self._wait(delay)

    def _exchange(self, request: TokenRequest) -> Answer:
        started = self._clock()
        headers = route.request_headers(self._user_agent, "application/json")
        response = self._pools.manager_for(request.url).request(
            request.method,
            request.url,
            body=request.body,
            headers=headers | dict(request.headers),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=self._pools.timeout,
        )
        try:
            body = response.read(MAX_TOKEN_BYTES + 1, decode_content=False)
        finally:
            response.close()
        logger.debug(
            "request method=%s url=%s status=%d ms=%.0f",
            request.method,
            route.without_query(request.url),
            response.status,
            (self._clock() - started) * 1000,
        )
        fields = {name.lower(): value for name, value in response.headers.items()}
        return Answer(request.url, response.status, fields, body[:MAX_TOKEN_BYTES])
