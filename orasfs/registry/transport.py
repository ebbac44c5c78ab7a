"""The control path: small requests to a registry, by httpx on trio.

Owns deadlines, retries, the limit of requests at a time, redirects, and bounds of bodies. It
returns answers of any status; what an answer means is the caller's business. It uses httpx's
transports and not its client, which would keep cookies, read .netrc and log whole URLs.

INVARIANT: every call ends within `total_seconds`, and no body grows beyond its limit.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar, TypeVarTuple

import httpx
import trio

from orasfs.errors import InvalidContent, RegistryFailure, TimedOut, Unreachable
from orasfs.registry import protocol, route
from orasfs.registry.auth import Authorizer
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.faults import FOREIGN, unreachable
from orasfs.registry.lanes import Lane, context_for, lane_of, proxy_context_for
from orasfs.registry.pools import Pools
from orasfs.registry.protocol import Answer
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.tokenservice import new_authorizer
from orasfs.registry.traffic import Traffic

logger = logging.getLogger(__name__)

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_CLOSE_SECONDS = 2.0
_KEEPALIVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the control path.

    Attributes:
        method: any of the distribution API, all of which may be repeated.
        target: a path, or an absolute URL of the registry's origin (a page's token).
        subject: what is asked for, in words that begin every message.
        limit_bytes: the largest body that is read.
        accept: the Accept header, "" for none.
        body: what is sent.
        content_type: of the body.
    """

    method: str
    target: str
    subject: str
    limit_bytes: int
    accept: str = ""
    body: bytes = b""
    content_type: str = ""

    @property
    def only_asks(self) -> bool:
        """Whether it changes nothing, so that it may be redirected anywhere."""
        return self.method in ("GET", "HEAD")


TransportFactory = Callable[[Lane], httpx.AsyncBaseTransport]


class Transport:
    """Sends calls to one registry. Use it from one trio run, and close it there.

    Args:
        endpoint: where the registry is.
        settings: deadlines, retries and trust.
        authorizer: answers what the registry wants to know of who asks; by default, nobody.
        traffic: what is shared with the other HTTP path.
        transport_factory: makes the httpx transport for the requests of a lane.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: RegistrySettings,
        *,
        authorizer: Authorizer | None = None,
        traffic: Traffic | None = None,
        transport_factory: TransportFactory | None = None,
        sleep: Callable[[float], Awaitable[None]] = trio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._new_transport = transport_factory or self._http_transport
        self._sleep = sleep
        self._authorizer = authorizer or new_authorizer(
            endpoint, settings, Pools(endpoint, settings)
        )
        self._traffic = traffic or Traffic(endpoint.host, settings, clock=trio.current_time)
        self._limiter = trio.CapacityLimiter(settings.concurrency)
        self._thread_limiter = trio.CapacityLimiter(settings.concurrency)
        self._transports: dict[Lane, httpx.AsyncBaseTransport] = {}
        # The first one loads the most of httpx, which takes longer than a near registry's answer:
        # now, when a mount begins, and not while somebody waits. It opens nothing.
        httpx.AsyncHTTPTransport(verify=False, trust_env=False)
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"Transport({self._endpoint.host})"

    async def aclose(self) -> None:
        """Close all connections. Harmless twice."""
        transports, self._transports = list(self._transports.values()), {}
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            for transport in transports:
                await transport.aclose()

    async def send(self, call: Call) -> Answer:
        """Send a call; repeat it as the retry policy says; return the last answer.

        Raises:
            Unreachable: there was no answer, or not all of it, in time.
            InvalidContent: the body is over the call's limit.
            RegistryFailure: the answer breaks the protocol.
        """
        with trio.move_on_after(self._settings.total_seconds):
            return await self._send_repeatedly(call)
        seconds = self._settings.total_seconds
        raise TimedOut(f"{call.subject}: no answer within {seconds:g} s")

    async def _send_repeatedly(self, call: Call) -> Answer:
        started = trio.current_time()
        attempt = unanswered = 0
        while True:
            attempt += 1
            outcome = await self._try(call)
            failure = outcome.status if isinstance(outcome, Answer) else outcome
            unanswered += not isinstance(outcome, Answer)
            delay = self._settings.retry.decide(
                attempt, trio.current_time() - started, failure, _retry_after(outcome)
            )
            if delay is None:
                if isinstance(outcome, Answer):
                    return replace(outcome, may_be_done=unanswered > 0)
                raise outcome
            logger.debug(
                "retry host=%s attempt=%d delay_s=%.2f failure=%s",
                self._endpoint.host,
                attempt,
                delay,
                failure,
            )
            await self._sleep(delay)

    async def _try(self, call: Call) -> Answer | Unreachable:
        """Make one attempt; a failure of the network is a value, for the policy to judge."""
        try:
            await self._keep_pause()
            async with self._limiter:
                return await self._ask(call)
        except Unreachable as error:
            return error
        except FOREIGN as error:
            failure = unreachable(error, call.subject)
            failure.__cause__ = error
            return failure

    async def _keep_pause(self) -> None:
        """Wait as long as the registry wants to hear from nobody."""
        seconds = self._traffic.pause_seconds
        if seconds > 0:
            logger.debug("pause host=%s seconds=%.2f", self._endpoint.host, seconds)
            await self._sleep(seconds)

    async def _ask(self, call: Call) -> Answer:
        """Send to the registry, again while another authorization may help."""
        base = await self._base_url()
        url = self._endpoint.locate(base, call.target)
        if route.origin(url) != route.origin(base):
            raise RegistryFailure(f"{call.subject}: the address given is of another host")
        headers = route.request_headers(self._settings.user_agent, call.accept)
        headers |= dict(self._settings.headers)
        if call.content_type:
            headers["Content-Type"] = call.content_type
        attempt = self._authorizer.attempt_now(call.method, url)
        if attempt is None:
            attempt = await self._in_thread(self._authorizer.attempt, call.method, url)
        may_have_expired = True
        while True:
            answer = await self._follow(call, url, headers | attempt.headers)
            if call.method == "GET" and route.is_expired(url, answer.url, answer.status):
                if may_have_expired:
                    may_have_expired = False
                    continue
                raise protocol.storage_refusal(answer, answer.url, call.subject)
            if answer.status != 401 or route.origin(answer.url) != route.origin(base):
                return answer
            challenges = answer.headers.get("www-authenticate", "")
            if not challenges or not await self._in_thread(attempt.renews, challenges):
                return replace(answer, refusal=attempt.refusal)

    async def _in_thread(self, work: Callable[[*Arguments], T], *args: *Arguments) -> T:
        return await trio.to_thread.run_sync(
            work, *args, abandon_on_cancel=True, limiter=self._thread_limiter
        )

    async def _follow(self, call: Call, url: str, headers: dict[str, str]) -> Answer:
        """Send a request on to wherever it is redirected."""
        hops = 0
        while True:
            answer = await self._exchange(call, url, headers)
            self._warn_once(answer)
            if answer.status not in route.REDIRECTS or not call.only_asks:
                return answer
            target = route.redirect_target(url, answer.headers.get("location", ""), hops)
            headers = route.headers_for_hop(headers, url, target)
            url, hops = target, hops + 1

    async def _base_url(self) -> str:
        known = self._endpoint.url_now()
        if known is not None:
            return known
        return await trio.to_thread.run_sync(self._endpoint.url, abandon_on_cancel=True)

    async def _exchange(self, call: Call, url: str, headers: dict[str, str]) -> Answer:
        """Send one request and read its answer's body, up to the call's limit."""
        timeouts = httpx.Timeout(
            self._settings.read_seconds, connect=self._settings.connect_seconds
        )
        dial = route.dial(url, self._settings.addresses)
        named = {"sni_hostname": dial.hostname} if dial.hostname else {}
        request = httpx.Request(
            call.method,
            dial.url,
            headers={**headers, "Host": dial.authority} if dial.authority else headers,
            content=None if call.only_asks else call.body,
            extensions={"timeout": timeouts.as_dict(), **named},
        )
        started = trio.current_time()
        response = await self._send_watched(request, url, call.subject)
        try:
            body = await _read_body(response, call)
        finally:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await response.aclose()
        logger.debug(
            "request method=%s url=%s status=%d bytes=%d ms=%.0f",
            call.method,
            route.without_query(url),
            response.status_code,
            len(body),
            (trio.current_time() - started) * 1000,
        )
        fields = {name.lower(): value for name, value in response.headers.items()}
        return Answer(url, response.status_code, fields, body)

    async def _send_watched(
        self, request: httpx.Request, url: str, subject: str
    ) -> httpx.Response:
        """Send one request; the registry's circuit hears of the outcome, and may forbid it."""
        transport = self._transport_for(url)
        if not self._endpoint.owns(url):
            return await transport.handle_async_request(request)
        with self._traffic.watched(subject):
            response = await transport.handle_async_request(request)
        self._traffic.answered(response.status_code, response.headers)
        return response

    def _transport_for(self, url: str) -> httpx.AsyncBaseTransport:
        lane = lane_of(url, self._endpoint)
        if lane not in self._transports:
            self._transports[lane] = self._new_transport(lane)
        return self._transports[lane]

    def _http_transport(self, lane: Lane) -> httpx.AsyncBaseTransport:
        connections = self._settings.concurrency
        proxy_context = proxy_context_for(lane, self._settings)
        return httpx.AsyncHTTPTransport(
            # False is for plain HTTP, where nothing is verified.
            verify=context_for(lane, self._settings) or False,
            trust_env=False,  # route.proxy_for decides, the same for both HTTP paths
            limits=httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
            proxy=httpx.Proxy(lane.proxy, ssl_context=proxy_context) if lane.proxy else None,
        )

    def _warn_once(self, answer: Answer) -> None:
        for text in protocol.warnings_of(answer):
            if text not in self._warned:
                self._warned.add(text)
                logger.warning("registry warns host=%s text=%r", self._endpoint.host, text)


async def _read_body(response: httpx.Response, call: Call) -> bytes:
    """Read a body whose length nobody promised honestly.

    An error's body is cut at its own limit: it is only for people to read.
    """
    if call.method == "HEAD":
        async for _ in response.aiter_raw():  # nothing, but its end frees the connection
            pass
        return b""
    is_error = response.status_code >= 300
    if not is_error and response.headers.get("content-encoding", "identity") != "identity":
        raise RegistryFailure(f"{call.subject}: the answer is compressed, which nobody asked for")
    limit = protocol.MAX_ERROR_BYTES if is_error else call.limit_bytes
    chunks: list[bytes] = []
    received = 0
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            received += len(chunk)
            if received - len(chunk) <= limit:
                chunks.append(chunk)
            if received > limit:
                # Not break: the library's generators are nested, and only an exception that comes
                # from the innermost one ends them all.
                scope.cancel()
    if received > limit and not is_error:
        raise InvalidContent(f"{call.subject}: over the limit of {limit} bytes")
    return b"".join(chunks)[:limit]


def _retry_after(outcome: Answer | Unreachable) -> float | None:
    if isinstance(outcome, Unreachable):
        return None
    return protocol.retry_after_of(outcome, datetime.now(tz=UTC))
