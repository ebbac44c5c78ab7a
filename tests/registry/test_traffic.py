"""What requests to one registry share: left alone, paused and refused, on either HTTP path."""

import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import trio
import trio.testing

from orasfs.errors import ConnectionRefused, NotFound, RateLimited, TimedOut, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.registry.bulk import BulkTransport
from orasfs.registry.circuit import CircuitPolicy, State
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.stream import ResumingStream
from orasfs.registry.traffic import MAX_REFUSAL_SECONDS, Traffic
from orasfs.registry.transport import Call, Transport
from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import free_port

Script = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
CALL = Call("GET", "/v2/", "registry.example", 1000)
CONTENT = bytes(range(256)) * 2000
DIGEST = str(Digest.of(CONTENT))
SETTINGS = RegistrySettings(
    read_seconds=0.3,
    connect_seconds=2,
    retry=RetryPolicy(attempts=3),
    circuit=CircuitPolicy(threshold=3, base_seconds=4, cap_seconds=16),
)


class Clock:
    """A clock that waiting moves on; notes how long was waited, and does something then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []
        self.then: Callable[[], object] = bool

    def __call__(self) -> float:
        return self.now

    def wait(self, closed: threading.Event, seconds: float) -> bool:
        self.waited.append(seconds)
        self.now += seconds
        self.then()
        return closed.is_set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_blob("a", CONTENT)
        yield registry


@pytest.fixture
def traffic(registry: FakeRegistry, clock: Clock) -> Traffic:
    return Traffic(registry.host, SETTINGS, clock=clock)


@pytest.fixture
def bulk(registry: FakeRegistry, traffic: Traffic, clock: Clock) -> Iterator[BulkTransport]:
    endpoint = Endpoint(registry.host, plain_http=True)
    transport = BulkTransport(endpoint, SETTINGS, traffic=traffic, wait=clock.wait, clock=clock)
    yield transport
    transport.close()


class NoBody(httpx.AsyncByteStream):
    """A body that has not been read yet, and is empty."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield b""


def reply(status: int, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=NoBody())


def open_blob(bulk: BulkTransport) -> ResumingStream:
    return bulk.open_stream(f"/v2/a/blobs/{DIGEST}", "host/a@x", len(CONTENT))


def read(stream: ResumingStream) -> bytes:
    buffer = memoryview(bytearray(1 << 20))
    found = bytearray()
    while count := stream.readinto(buffer):
        found += buffer[:count]
    stream.close()
    return bytes(found)


def scripted(script: Script, traffic: Traffic | None = None) -> Transport:
    return Transport(
        Endpoint("registry.example"),
        SETTINGS,
        traffic=traffic,
        transport_factory=lambda _: httpx.MockTransport(script),
    )


# The circuit


def test_a_dead_host_is_told_at_once_on_the_bulk_path(
    registry: FakeRegistry, bulk: BulkTransport, traffic: Traffic, clock: Clock
) -> None:
    registry.stop()
    for _ in range(3):
        with pytest.raises(ConnectionRefused):
            open_blob(bulk)
    assert traffic.circuit.is_open
    registry.start()
    with pytest.raises(ConnectionRefused, match="not asked again yet"):
        open_blob(bulk)
    assert registry.requests == []
    assert clock.waited == []
    clock.now += 4
    assert read(open_blob(bulk)) == CONTENT
    assert traffic.circuit.status.state is State.CLOSED


async def test_a_dead_host_is_told_at_once_on_the_control_path(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sent: list[float] = []
    is_dead = True

    async def script(request: httpx.Request) -> httpx.Response:
        sent.append(trio.current_time())
        if is_dead:
            raise httpx.ConnectTimeout("slow")
        return reply(200)

    transport = scripted(script)
    with pytest.raises(TimedOut):
        await transport.send(CALL)
    assert len(sent) == 3
    before = trio.current_time()
    for _ in range(5):
        with pytest.raises(TimedOut, match="not asked again yet, since registry"):
            await transport.send(CALL)
    assert trio.current_time() == before
    assert len(sent) == 3
    await trio.sleep(4)
    is_dead = False
    assert (await transport.send(CALL)).status == 200
    assert len(sent) == 4


async def test_while_one_asks_the_others_are_told_the_last_cause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sent = 0

    async def script(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        await trio.sleep(1)
        if sent <= 3:
            raise httpx.ReadTimeout("slow")
        return reply(200)

    transport = scripted(script)
    with pytest.raises(TimedOut):
        await transport.send(CALL)
    await trio.sleep(4)
    outcomes: list[object] = []

    async def ask() -> None:
        try:
            outcomes.append((await transport.send(CALL)).status)
        except TimedOut as error:
            outcomes.append(type(error))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(ask)
    assert sent == 4
    assert sorted(outcomes, key=str) == [200, *[TimedOut] * 5]


async def test_a_request_that_is_cancelled_does_not_keep_the_others_from_asking(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sent = 0

    async def script(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        if sent <= 3:
            raise httpx.ReadTimeout("slow")
        if sent == 4:
            await trio.sleep_forever()
        return reply(200)

    transport = scripted(script)
    with pytest.raises(TimedOut):
        await transport.send(CALL)
    await trio.sleep(4)
    with trio.move_on_after(1):
        await transport.send(CALL)
    assert (await transport.send(CALL)).status == 200


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_an_answer_of_any_status_is_no_failure_of_the_host(
    status: int, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        return reply(status)

    traffic = Traffic("registry.example", SETTINGS, clock=trio.current_time)
    transport = scripted(script, traffic)
    for _ in range(5):
        assert (await transport.send(CALL)).status == status
    assert traffic.circuit.status.failures == 0


async def test_both_paths_share_one_circuit() -> None:
    host = f"127.0.0.1:{free_port()}"
    settings = RegistrySettings(plain_http=True, circuit=CircuitPolicy(threshold=2))
    remote = RemoteRegistry(host, settings)
    repository = remote.repository("a")
    try:
        for _ in range(2):
            with pytest.raises(ConnectionRefused):
                await repository.resolve("v1")
        descriptor = Descriptor("", Digest.of(CONTENT), len(CONTENT))
        with pytest.raises(ConnectionRefused, match="not asked again yet"):
            repository.open_stream(descriptor)
        assert remote.circuits[host].refused == 1
    finally:
        await remote.aclose()


def test_a_blob_under_way_waits_for_a_host_that_is_left_alone(
    registry: FakeRegistry, bulk: BulkTransport, traffic: Traffic, clock: Clock
) -> None:
    """A registry that is being restarted ends no download, whatever else asks it meanwhile."""
    registry.fail(r"/blobs/", truncate_after=100_000)
    stream = open_blob(bulk)
    buffer = memoryview(bytearray(1000))
    assert stream.readinto(buffer) == 1000
    for _ in range(3):
        traffic.circuit.failed(ConnectionRefused("host: connection refused"))
    assert read(stream) == CONTENT[1000:]
    assert clock.now == pytest.approx(4)
    assert traffic.circuit.status.state is State.CLOSED


def test_the_storage_that_a_registry_leads_to_is_another_host(
    registry: FakeRegistry, bulk: BulkTransport, traffic: Traffic
) -> None:
    registry.blob_location = f"http://127.0.0.1:{free_port()}/storage/"
    for _ in range(4):
        with pytest.raises(ConnectionRefused):
            open_blob(bulk)
    assert traffic.circuit.status.failures == 0


# Limits of the rate


def test_a_limit_holds_back_all_requests_to_the_host(
    registry: FakeRegistry, bulk: BulkTransport, traffic: Traffic, clock: Clock
) -> None:
    registry.fail("/v2/", status=429, headers={"Retry-After": "3"})
    stream = open_blob(bulk)
    assert clock.now == 3
    assert read(stream) == CONTENT
    traffic.answered(429, {"retry-after": "7"})
    assert read(open_blob(bulk)) == CONTENT
    assert clock.waited == [3, 7]


async def test_the_control_path_keeps_the_same_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    times: list[float] = []

    async def script(request: httpx.Request) -> httpx.Response:
        times.append(trio.current_time())
        return reply(429 if len(times) == 1 else 200, {"Retry-After": "5"})

    transport = scripted(script)
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.send, CALL)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(transport.send, CALL)
    assert [round(time - before) for time in times] == [0, 5, 5, 5, 5]


def test_a_date_is_understood_too(traffic: Traffic) -> None:
    moment = datetime.now(tz=UTC) + timedelta(seconds=30)
    traffic.answered(503, {"retry-after": format_datetime(moment, usegmt=True)})
    assert 25 < traffic.pause_seconds <= 30


@pytest.mark.parametrize(
    ("status", "value"), [(200, "5"), (404, "5"), (429, ""), (429, "soon"), (429, "0")]
)
def test_other_answers_pause_nothing(traffic: Traffic, status: int, value: str) -> None:
    traffic.answered(status, {"retry-after": value})
    assert traffic.pause_seconds == 0
    assert traffic.refusal("s") is None


def test_a_limit_that_no_retry_waits_for_is_told_at_once_and_is_no_absence(
    registry: FakeRegistry, bulk: BulkTransport, clock: Clock
) -> None:
    registry.fail("/v2/", status=429, headers={"Retry-After": "86400"})
    for _ in range(3):
        with pytest.raises(RateLimited) as caught:
            open_blob(bulk)
        assert not isinstance(caught.value, NotFound | Unreachable)
    assert registry.count("GET") == 1
    clock.now += MAX_REFUSAL_SECONDS
    assert read(open_blob(bulk)) == CONTENT
    assert clock.waited == []


def test_a_stream_that_is_closed_in_a_pause_sends_nothing(
    registry: FakeRegistry, bulk: BulkTransport, traffic: Traffic, clock: Clock
) -> None:
    registry.fail(r"/blobs/", truncate_after=0)
    stream = open_blob(bulk)
    traffic.answered(429, {"retry-after": "7"})
    clock.then = stream.close
    with pytest.raises(Unreachable):
        stream.readinto(memoryview(bytearray(10)))
    assert registry.count("GET") == 1


# A request whose answer was lost


async def test_what_a_lost_answer_had_done_is_not_told_as_absent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    statuses: list[int] = []

    async def script(request: httpx.Request) -> httpx.Response:
        statuses.append(404)
        if len(statuses) == 1:
            raise httpx.ReadError("gone")
        return reply(404)

    transport = scripted(script)
    remote = RemoteRegistry("registry.example", SETTINGS, transport=transport)
    repository = remote.repository("a")
    await repository._remover._delete(Digest.of(b"x"))
    assert len(statuses) == 2
    with pytest.raises(NotFound):
        await repository._remover._delete(Digest.of(b"x"))
    await remote.aclose()


# How many at a time


def test_no_more_downloads_at_a_time_than_allowed(registry: FakeRegistry, clock: Clock) -> None:
    settings = RegistrySettings(concurrency=1, total_seconds=0)
    endpoint = Endpoint(registry.host, plain_http=True)
    bulk = BulkTransport(endpoint, settings, wait=clock.wait, clock=clock)
    first, second = open_blob(bulk), open_blob(bulk)
    with pytest.raises(TimedOut, match="too many other downloads"):
        open_blob(bulk)
    first.close()
    first.close()
    registry.fail(r"/blobs/", status=404)
    with pytest.raises(NotFound):
        open_blob(bulk)
    third = open_blob(bulk)
    with pytest.raises(TimedOut):
        open_blob(bulk)
    for stream in (second, third):
        assert read(stream) == CONTENT
    bulk.close()
