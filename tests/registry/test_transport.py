"""The control path: against scripted answers on a clock that jumps, and real sockets."""

import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import trio
import trustme

from orasfs.errors import (
    ConnectionBroken,
    ConnectionRefused,
    HostUnreachable,
    InvalidContent,
    OrasfsError,
    RegistryFailure,
    TimedOut,
    TLSFailure,
)
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.transport import Call, Transport
from tests.conftest import ExpectLog
from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import free_port

Script = Callable[[httpx.Request], Awaitable[httpx.Response]]
CALL = Call("GET", "/v2/", "registry.example", 1000)


class Scripted:
    """A transport whose answers are scripted; counts the requests and when they came."""

    def __init__(self, script: Script, settings: RegistrySettings | None = None) -> None:
        self.times: list[float] = []
        self.requests: list[httpx.Request] = []
        self.script = script
        self.transport = Transport(
            Endpoint("registry.example"),
            settings or RegistrySettings(),
            transport_factory=lambda *_: httpx.MockTransport(self._handle),
        )

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.times.append(trio.current_time())
        self.requests.append(request)
        return await self.script(request)


class Body(httpx.AsyncByteStream):
    """A body in pieces, endless if asked, that is read as it comes from a network."""

    def __init__(self, body: bytes, *, is_endless: bool = False) -> None:
        self.left = body
        self.is_endless = is_endless
        self.read = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        piece = self.left[:100]
        if not self.is_endless:
            self.left = self.left[100:]
        if not piece:
            raise StopAsyncIteration
        self.read += len(piece)
        return piece


def reply(status: int, body: bytes = b"", **headers: str) -> httpx.Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=fields, stream=Body(body))


def answering(*statuses: int, **headers: str) -> Script:
    left = list(statuses)

    async def script(request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        return reply(status, b"body", **headers)

    return script


def raising(error: Exception) -> Script:
    async def script(request: httpx.Request) -> httpx.Response:
        raise error

    return script


async def test_passing_failure_is_repeated_until_it_has_passed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scripted = Scripted(answering(503, 500, 200))
    answer = await scripted.transport.send(CALL)
    assert (answer.status, answer.body) == (200, b"body")
    first, second, third = scripted.times
    assert 0.125 <= second - first <= 0.25
    assert 0.25 <= third - second <= 0.5


async def test_the_last_answer_is_given_when_tries_are_used_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scripted = Scripted(answering(503))
    assert (await scripted.transport.send(CALL)).status == 503
    assert len(scripted.requests) == RetryPolicy().attempts


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 416, 501])
async def test_lasting_answers_are_not_repeated(
    status: int, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted(answering(status))
    assert (await scripted.transport.send(CALL)).status == status
    assert len(scripted.requests) == 1


async def test_retry_after_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(answering(429, 200, retry_after="20"))
    assert (await scripted.transport.send(CALL)).status == 200
    assert scripted.times[1] - scripted.times[0] == pytest.approx(20)


async def test_retry_after_beyond_the_deadline_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scripted = Scripted(answering(429, retry_after="3600"))
    before = trio.current_time()
    assert (await scripted.transport.send(CALL)).status == 429
    assert trio.current_time() == before


async def test_a_call_ends_at_its_deadline_whatever_happens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    scripted = Scripted(never, RegistrySettings(total_seconds=42))
    before = trio.current_time()
    with pytest.raises(TimedOut, match=r"^registry.example: no answer within 42 s$"):
        await scripted.transport.send(CALL)
    assert trio.current_time() - before == pytest.approx(42)


@pytest.mark.parametrize(
    ("cause", "kind", "requests"),
    [
        (OSError(errno.ECONNRESET, "Connection reset by peer"), ConnectionBroken, 5),
        (httpx.ReadTimeout("slow"), TimedOut, 5),
        (httpx.RemoteProtocolError("disconnected"), ConnectionBroken, 5),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ConnectionRefused, 1),
        (socket.gaierror(-2, "Name or service not known"), HostUnreachable, 1),
        (OSError(errno.EHOSTUNREACH, "No route to host"), HostUnreachable, 1),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), TLSFailure, 1),
    ],
)
async def test_broken_connections_are_repeated_and_dead_ends_are_not(
    cause: Exception,
    kind: type[OrasfsError],
    requests: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    scripted = Scripted(raising(cause))
    with pytest.raises(kind, match=r"^registry.example: ") as caught:
        await scripted.transport.send(CALL)
    assert caught.value.__cause__ is cause
    assert len(scripted.requests) == requests


async def test_no_more_requests_at_a_time_than_allowed() -> None:
    running = most = 0

    async def script(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.testing.wait_all_tasks_blocked()
        running -= 1
        return reply(200)

    scripted = Scripted(script, RegistrySettings(concurrency=3))
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(scripted.transport.send, CALL)
    assert (most, len(scripted.requests)) == (3, 10)


async def test_redirects_are_followed_to_other_hosts() -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        if request.url.host == "registry.example":
            return reply(307, location="https://cdn.example/x?sig=1")
        return reply(200, b"there")

    scripted = Scripted(script)
    answer = await scripted.transport.send(CALL)
    assert (answer.body, answer.url) == (b"there", "https://cdn.example/x?sig=1")


async def test_redirects_in_a_circle_end() -> None:
    scripted = Scripted(answering(302, location="/v2/"))
    with pytest.raises(RegistryFailure, match="redirects"):
        await scripted.transport.send(CALL)
    assert len(scripted.requests) == 6


async def test_an_address_that_has_expired_is_asked_for_anew() -> None:
    statuses = iter([403, 200])

    async def script(request: httpx.Request) -> httpx.Response:
        if request.url.host == "registry.example":
            return reply(307, location="https://cdn.example/x?sig=1")
        return reply(next(statuses), b"there")

    scripted = Scripted(script)
    assert (await scripted.transport.send(CALL)).body == b"there"
    assert len(scripted.requests) == 4


async def test_storage_that_refuses_every_address_is_a_failure() -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        if request.url.host == "registry.example":
            return reply(307, location="https://cdn.example/x?sig=secret")
        return reply(403, b"<Error/>")

    scripted = Scripted(script)
    with pytest.raises(RegistryFailure, match=r"the storage https://cdn\.example refuses .403"):
        await scripted.transport.send(CALL)
    assert len(scripted.requests) == 4


async def test_a_page_of_another_host_is_never_asked_for() -> None:
    scripted = Scripted(answering(200))
    with pytest.raises(RegistryFailure, match="another host"):
        await scripted.transport.send(Call("GET", "https://evil.example/", "x", 10))
    assert scripted.requests == []


async def test_body_over_its_limit_is_refused_while_reading() -> None:
    body = Body(b"x" * 100, is_endless=True)

    async def endless(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=body)

    with pytest.raises(InvalidContent, match="limit of 1000"):
        await Scripted(endless).transport.send(CALL)
    assert body.read == 1100


async def test_body_of_exactly_its_limit_is_read() -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        return reply(200, b"x" * 1000)

    assert len((await Scripted(script).transport.send(CALL)).body) == 1000


async def test_long_error_body_is_cut() -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        return reply(404, b"x" * 1_000_000)

    assert len((await Scripted(script).transport.send(CALL)).body) == 64 * 1024


async def test_compressed_body_is_refused() -> None:
    """A small one could unfold to gigabytes, and its digest is not the content's."""
    with pytest.raises(RegistryFailure, match="compressed"):
        await Scripted(answering(200, content_encoding="gzip")).transport.send(CALL)


async def test_headers_of_a_request() -> None:
    scripted = Scripted(answering(200))
    await scripted.transport.send(Call("GET", "/v2/", "x", 10, accept="text/x"))
    headers = scripted.requests[0].headers
    assert headers["user-agent"].startswith("orasfs/")
    assert headers["accept"] == "text/x"
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


async def test_warnings_are_logged_once_each(
    expect_log: ExpectLog, caplog: pytest.LogCaptureFixture
) -> None:
    expect_log(logging.WARNING, r"host=registry.example text='use v3'")
    scripted = Scripted(answering(200, warning='299 - "use v3"'))
    for _ in range(3):
        await scripted.transport.send(CALL)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def real(host: str, **settings: object) -> Transport:
    values = {"retry": RetryPolicy(attempts=1)} | settings
    chosen = RegistrySettings(**values)  # type: ignore[arg-type]  # the names are its fields
    return Transport(Endpoint(host, plain_http=chosen.plain_http), chosen)


async def send(transport: Transport) -> int:
    try:
        return (await transport.send(CALL)).status
    finally:
        await transport.aclose()


async def test_nothing_listening_is_connection_refused() -> None:
    with pytest.raises(ConnectionRefused):
        await send(real(f"127.0.0.1:{free_port()}"))


async def test_nothing_listening_any_more_is_connection_refused() -> None:
    with pytest.raises(ConnectionRefused):
        await send(real(f"127.0.0.1:{free_port()}", plain_http=True))


async def test_unknown_host_is_unreachable() -> None:
    with pytest.raises(HostUnreachable):
        await send(real("no-such-host.invalid"))


async def test_stalled_answer_is_timed_out() -> None:
    with FakeRegistry() as registry:
        registry.fail(r"/v2/", stall_after=-1)
        with pytest.raises(TimedOut):
            await send(real(registry.host, read_seconds=0.2))


async def test_connection_reset_in_an_answer_is_broken() -> None:
    with FakeRegistry() as registry:
        registry.fail(r"/v2/", truncate_after=1, reset=True)
        with pytest.raises(ConnectionBroken):
            await send(real(registry.host))


@pytest.mark.parametrize("path", ["/v2/", "/v2/a/manifests/none"])
async def test_requests_share_a_connection_whatever_their_method(path: str) -> None:
    with FakeRegistry() as registry:
        transport = real(registry.host, plain_http=True)
        for method in ("HEAD", "GET", "HEAD", "HEAD", "GET"):
            await transport.send(Call(method, path, "subject", 1000))
        await transport.aclose()
        assert registry.connections_made == 1


async def test_tls_to_a_plain_server_fails() -> None:
    with FakeRegistry() as registry, pytest.raises(TLSFailure):
        await send(real(registry.host, plain_http=False))


async def test_unknown_authority_fails_and_a_trusted_one_does_not() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with FakeRegistry(server) as registry:
        with pytest.raises(TLSFailure, match="certificate"):
            await send(real(registry.host))
        assert await send(real(registry.host, ssl_context=trusting)) == 200


async def test_proxy_of_the_environment_is_not_asked_about_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with FakeRegistry() as registry:
        assert await send(real(registry.host)) == 200


async def test_other_hosts_are_asked_for_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FakeRegistry() as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert await send(real("registry.example", plain_http=True)) == 200
        assert proxy.requests == [("GET", "http://registry.example/v2/")]
