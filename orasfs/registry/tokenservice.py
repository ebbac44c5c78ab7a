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

from orasfs.registry import protocol, route
from orasfs.registry.auth import Authorizer
from orasfs.registry.credential import CredentialFinder, NoCredentials
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.faults import FOREIGN, unreachable
from orasfs.registry.pools import Pools
from orasfs.registry.protocol import Answer
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.tokens import MAX_TOKEN_BYTES, TokenRequest

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 30.0


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


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
        wait: Callable[[float], object] = _sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._user_agent = settings.user_agent
        deadline = min(settings.retry.deadline_seconds, DEADLINE_SECONDS)
        self._policy = replace(settings.retry, deadline_seconds=deadline)
        self._pools = pools
        self._wait = wait
        self._clock = clock

    def send(self, request: TokenRequest, subject: str) -> Answer:
        """Send a request and return the last answer, of any status.

        An answer that asks to come again is heeded here; broken connections are the caller's,
        who has a policy for them.

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
                answer = self._exchange(request)
            except FOREIGN as error:
                raise unreachable(error, subject) from error
            wish = protocol.retry_after_of(answer, datetime.now(tz=UTC))
            elapsed = self._clock() - started
            delay = self._policy.decide(attempt, elapsed, answer.status, wish)
            if delay is None:
                return answer
            self._wait(delay)

    def _exchange(self, request: TokenRequest) -> Answer:
        started = self._clock()
        headers = route.request_headers(self._user_agent, "application/json")
        response = self._pools.request(
            request.method, request.url, headers | dict(request.headers), request.body
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
        fields = {name.lower(): value for name, value in response.headers.itermerged()}
        return Answer(request.url, response.status, fields, body[:MAX_TOKEN_BYTES])


def new_authorizer(
    endpoint: Endpoint,
    settings: RegistrySettings,
    pools: Pools,
    credentials: CredentialFinder | None = None,
) -> Authorizer:
    """Return what authorizes requests to a registry; without credentials as anybody."""
    service = TokenService(settings, pools)
    return Authorizer(endpoint.host, endpoint.url, credentials or NoCredentials(), service.send)
