"""The bulk path against faults: what is asked for again, how often, and what the reader sees."""

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from orasfs.errors import (
    ConnectionBroken,
    ConnectionRefused,
    NotFound,
    RateLimited,
    RegistryFailure,
    TimedOut,
)
from orasfs.oci.digest import Digest
from orasfs.registry.bulk import BulkTransport
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.lanes import Lane
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.stream import ResumingStream
from tests.conftest import ExpectLog
from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import free_port

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes
DIGEST = str(Digest.of(CONTENT))
BLOBS = r"/blobs/"
JOIN_SECONDS = 10


@dataclass
class Waits:
    """Waits without waiting; the clock goes on by as much."""

    seconds: list[float] = field(default_factory=list)
    then: Callable[[], object] = bool

    def __call__(self, closed: threading.Event, seconds: float) -> bool:
        self.seconds.append(seconds)
        self.then()
        return closed.is_set()

    def clock(self) -> float:
        return sum(self.seconds)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_blob("a", CONTENT)
        yield registry


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def bulk(registry: FakeRegistry, waits: Waits) -> Iterator[BulkTransport]:
    chosen = RegistrySettings(read_seconds=0.3, connect_seconds=2)
    transport = BulkTransport(Endpoint(registry.host), chosen, wait=waits, clock=waits.clock)
    yield transport
    transport.close()


def open_blob(bulk: BulkTransport, start: int = 0, stop: int | None = None) -> ResumingStream:
    return bulk.open_stream(f"/v2/a/blobs/{DIGEST}", "host/a@x", len(CONTENT), start, stop)


def read(stream: ResumingStream, step: int = 65_536) -> bytes:
    buffer = memoryview(bytearray(step))
    found = bytearray()
    while count := stream.readinto(buffer):
        found += buffer[:count]
    stream.close()
    return bytes(found)


def ranges(registry: FakeRegistry) -> list[str]:
    return [headers.get("range", "-") for headers in registry.request_headers]


def test_whole_blob_is_asked_for_without_a_range(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    assert read(open_blob(bulk)) == CONTENT
    assert ranges(registry) == ["-"]


def test_ranges_are_closed(registry: FakeRegistry, bulk: BulkTransport) -> None:
    assert read(open_blob(bulk, 1000)) == CONTENT[1000:]
    assert read(open_blob(bulk, 0, 10)) == CONTENT[:10]
    assert ranges(registry) == ["bytes=1000-511999", "bytes=0-9"]


def test_connection_is_used_again(registry: FakeRegistry, bulk: BulkTransport) -> None:
    for start in range(0, 100, 10):
        read(open_blob(bulk, start, start + 10))
    manager = bulk._pools._managers[Lane(is_tls=False, is_own=True), ""]
    pool = manager.connection_from_url(f"http://{registry.host}")
    assert (pool.num_connections, pool.num_requests) == (1, 10)


@pytest.mark.parametrize("reset", [False, True])
def test_broken_stream_is_resumed_where_it_broke(
    registry: FakeRegistry, bulk: BulkTransport, *, reset: bool
) -> None:
    registry.fail(BLOBS, truncate_after=100_000, reset=reset)
    assert read(open_blob(bulk), 1000) == CONTENT
    first, second = ranges(registry)
    assert first == "-"
    assert second.endswith("-511999")
    if not reset:  # a RST may drop what had arrived
        assert second == "bytes=100000-511999"


def test_progress_begins_the_count_of_tries_anew(
    registry: FakeRegistry, bulk: BulkTransport, waits: Waits
) -> None:
    registry.fail(BLOBS, truncate_after=20_000, times=25)
    assert read(open_blob(bulk), 1000) == CONTENT
    assert registry.count(path=BLOBS) == 26
    assert max(waits.seconds) <= RetryPolicy().base_seconds


def test_stream_that_never_goes_on_fails_after_all_tries(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    registry.fail(BLOBS, truncate_after=1000)
    registry.fail(BLOBS, truncate_after=0, times=-1)
    stream = open_blob(bulk)
    buffer = memoryview(bytearray(1 << 20))
    assert stream.readinto(buffer) == 1000
    with pytest.raises(ConnectionBroken, match=r"^host/a@x: "):
        stream.readinto(buffer)
    assert registry.count(path=BLOBS) == RetryPolicy().attempts
    stream.close()


def test_failed_stream_fails_again(registry: FakeRegistry, bulk: BulkTransport) -> None:
    registry.fail(BLOBS, truncate_after=1000)
    registry.fail(BLOBS, status=503, times=-1)
    stream = open_blob(bulk)
    buffer = memoryview(bytearray(1 << 20))
    assert stream.readinto(buffer) == 1000
    for _ in range(2):
        with pytest.raises((ConnectionBroken, RegistryFailure)):
            stream.readinto(buffer)


def test_connection_that_breaks_behind_the_last_byte_has_done_its_work(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    registry.fail(
        BLOBS,
        headers={"Content-Length": str(len(CONTENT) + 1)},
        truncate_after=len(CONTENT),
    )
    assert read(open_blob(bulk)) == CONTENT
    assert registry.count(path=BLOBS) == 1


def test_whole_that_ends_before_the_place_to_go_on_is_asked_for_again(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    registry.fail(BLOBS, truncate_after=300_000)
    registry.fail(BLOBS, ignore_range=True, short_length=1000)
    assert read(open_blob(bulk)) == CONTENT
    assert registry.count(path=BLOBS) == 3


def test_what_has_come_is_given_at_once_and_together(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    registry.fail(BLOBS, stall_after=200_000)
    stream = open_blob(bulk)
    buffer = memoryview(bytearray(1 << 20))
    given = []
    while stream.offset < 200_000:
        given.append(stream.readinto(buffer))
    assert sum(given) == 200_000
    assert registry.count(path=BLOBS) == 1
    stream.close()


def test_stalled_stream_is_resumed(registry: FakeRegistry, bulk: BulkTransport) -> None:
    registry.fail(BLOBS, stall_after=70_000)
    assert read(open_blob(bulk)) == CONTENT
    assert ranges(registry)[1] == "bytes=70000-511999"


def test_registry_that_never_answers_is_timed_out(registry: FakeRegistry, waits: Waits) -> None:
    registry.fail(BLOBS, stall_after=-1, times=-1)
    chosen = RegistrySettings(read_seconds=0.1, retry=RetryPolicy(attempts=2))
    bulk = BulkTransport(Endpoint(registry.host), chosen, wait=waits)
    with pytest.raises(TimedOut):
        open_blob(bulk)
    assert registry.count(path=BLOBS) == 2
    bulk.close()


def test_ignored_range_gives_the_reader_the_whole(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    """A pull-through cache answers so; what it costs the origin should not be thrown away."""
    registry.fail(BLOBS, ignore_range=True)
    stream = open_blob(bulk, 1000, 2000)
    assert stream.offset == 0
    assert read(stream) == CONTENT


def test_ignored_range_in_the_middle_is_skipped_to(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    registry.fail(BLOBS, truncate_after=300_000)
    registry.fail(BLOBS, ignore_range=True)
    assert read(open_blob(bulk)) == CONTENT
    assert registry.count(path=BLOBS) == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 416},
        {"headers": {"Content-Range": "nonsense"}},
        {"drop_headers": frozenset({"content-range"})},
        {"headers": {"Content-Range": "bytes 5000-5999/512000"}},
    ],
)
def test_range_that_cannot_be_had_becomes_the_whole(
    registry: FakeRegistry, bulk: BulkTransport, fault: dict[str, object]
) -> None:
    registry.fail(BLOBS, **fault)
    stream = open_blob(bulk, 1000, 2000)
    assert stream.offset == 0
    assert read(stream) == CONTENT
    assert ranges(registry) == ["bytes=1000-1999", "-"]


def test_early_but_orderly_end_is_continued(registry: FakeRegistry, bulk: BulkTransport) -> None:
    registry.fail(BLOBS, short_length=1234)
    assert read(open_blob(bulk)) == CONTENT
    assert ranges(registry) == ["-", "bytes=1234-511999"]


def test_body_without_a_length_is_read_to_its_end(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    registry.fail(BLOBS, drop_headers=frozenset({"content-length"}))
    assert read(open_blob(bulk)) == CONTENT
    assert registry.count(path=BLOBS) == 1


def test_wrong_bytes_pass_for_the_verifier_to_see(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    registry.fail(BLOBS, replace=b"wrong" * 200_000, times=-1)
    assert read(open_blob(bulk)) == (b"wrong" * 200_000)[: len(CONTENT) + 1]


def test_passing_failures_are_repeated_as_asked(
    registry: FakeRegistry, bulk: BulkTransport, waits: Waits
) -> None:
    registry.fail(BLOBS, status=429, headers={"Retry-After": "7"})
    registry.fail(BLOBS, status=503)
    assert read(open_blob(bulk)) == CONTENT
    assert waits.seconds[0] == 7
    assert 0.25 <= waits.seconds[1] <= 0.5


def test_limit_that_lasts_is_rate_limited(
    registry: FakeRegistry, bulk: BulkTransport, waits: Waits
) -> None:
    registry.fail(BLOBS, status=429, times=-1, headers={"Retry-After": "20"}, body=b"slow down")
    with pytest.raises(RateLimited, match="slow down"):
        open_blob(bulk)
    assert waits.seconds == [20, 20, 20]


def test_lasting_failure_is_not_repeated(registry: FakeRegistry, bulk: BulkTransport) -> None:
    registry.fail(BLOBS, status=404, times=-1, body=b'{"errors":[{"code":"BLOB_UNKNOWN"}]}')
    with pytest.raises(NotFound, match="host/a@x: not found: BLOB_UNKNOWN"):
        open_blob(bulk)
    assert registry.count(path=BLOBS) == 1


def test_compressed_blob_is_refused(registry: FakeRegistry, bulk: BulkTransport) -> None:
    registry.fail(BLOBS, headers={"Content-Encoding": "gzip"})
    with pytest.raises(RegistryFailure, match="compressed"):
        open_blob(bulk)


def test_registry_that_is_down_is_refused_at_once(
    registry: FakeRegistry, bulk: BulkTransport, waits: Waits
) -> None:
    registry.stop()
    with pytest.raises(ConnectionRefused):
        open_blob(bulk)
    assert waits.seconds == []


def test_registry_that_restarts_in_the_middle_is_waited_for(
    registry: FakeRegistry, bulk: BulkTransport, waits: Waits
) -> None:
    registry.fail(BLOBS, stall_after=100_000)
    stream = open_blob(bulk)
    start = bytearray(100_000)
    position = 0
    while position < len(start):
        position += stream.readinto(memoryview(start)[position:])
    registry.stop()

    def come_back() -> None:
        if len(waits.seconds) == 3:
            registry.start()

    waits.then = come_back
    assert bytes(start) + read(stream) == CONTENT
    assert len(waits.seconds) == 3


def test_redirect_is_followed_and_the_stream_resumed_through_it(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    with FakeRegistry() as storage:
        storage.put_blob("any", CONTENT)
        registry.blob_location = f"http://{storage.host}/storage/"
        storage.fail(r"/storage/", truncate_after=50_000)
        assert read(open_blob(bulk)) == CONTENT
        assert storage.count("GET", r"signature=secret") == 2
        assert storage.request_headers[1]["range"] == "bytes=50000-511999"
    assert registry.count(path=BLOBS) == 2
    assert bulk.is_trusted


@pytest.mark.parametrize("status", [400, 401, 403])
def test_an_address_that_has_expired_is_asked_for_anew(
    registry: FakeRegistry, bulk: BulkTransport, status: int
) -> None:
    """Signed URLs hold for minutes, and a slow reader resumes behind that."""
    with FakeRegistry() as storage:
        storage.put_blob("any", CONTENT)
        registry.blob_location = f"http://{storage.host}/storage/"
        storage.fail("/storage/", truncate_after=50_000)
        storage.fail("/storage/", status=status, body=b"<Error>Request has expired</Error>")
        assert read(open_blob(bulk)) == CONTENT
        assert storage.request_headers[-1]["range"] == "bytes=50000-511999"
        assert len(storage.requests) == 3
    assert registry.count(path=BLOBS) == 3


def test_storage_that_refuses_every_address_is_a_failure_and_no_refusal_of_credentials(
    registry: FakeRegistry, bulk: BulkTransport
) -> None:
    with FakeRegistry() as storage:
        registry.blob_location = f"http://{storage.host}/storage/"
        storage.fail("/storage/", status=403, body=b"no such bucket", times=-1)
        with pytest.raises(RegistryFailure, match=rf"{storage.host} refuses .403.*no such bucket"):
            open_blob(bulk)
        assert len(storage.requests) == 2


def test_redirects_in_a_circle_end(registry: FakeRegistry, bulk: BulkTransport) -> None:
    registry.fail(BLOBS, status=307, headers={"Location": f"/v2/a/blobs/{DIGEST}"}, times=-1)
    with pytest.raises(RegistryFailure, match="redirects"):
        open_blob(bulk)
    assert registry.count(path=BLOBS) == 6


def test_redirect_out_of_trust_ends_it(
    registry: FakeRegistry,
    bulk: BulkTransport,
    expect_log: ExpectLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes that come over plain HTTP from elsewhere are not served before they are verified."""
    expect_log(logging.WARNING, "redirected_to=cdn.invalid")
    monkeypatch.delenv("http_proxy", raising=False)
    registry.fail(BLOBS, status=307, headers={"Location": "http://cdn.invalid/x?sig=secret"})
    assert bulk.is_trusted
    registry.fail(BLOBS, status=404)
    with pytest.raises(Exception, match="no such host"):
        open_blob(bulk)
    assert not bulk.is_trusted


def test_close_wakes_a_reader(registry: FakeRegistry) -> None:
    registry.fail(BLOBS, stall_after=1000)
    bulk = BulkTransport(Endpoint(registry.host), RegistrySettings())
    stream = open_blob(bulk)
    buffer = memoryview(bytearray(1 << 20))
    assert stream.readinto(buffer) == 1000
    failures: list[Exception] = []
    is_reading = threading.Event()

    def read_on() -> None:
        is_reading.set()
        try:
            stream.readinto(buffer)
        except ConnectionBroken as error:
            failures.append(error)

    reader = threading.Thread(target=read_on)
    reader.start()
    is_reading.wait(JOIN_SECONDS)
    stream.close()
    reader.join(JOIN_SECONDS)
    assert not reader.is_alive()
    assert "closed" in str(failures[0])
    stream.close()
    bulk.close()


def test_close_wakes_a_reader_between_its_tries(registry: FakeRegistry) -> None:
    registry.fail(BLOBS, status=503, times=-1, headers={"Retry-After": "50"})
    waiting = threading.Event()

    def wait(closed: threading.Event, seconds: float) -> None:
        waiting.set()
        closed.wait(seconds)

    bulk = BulkTransport(Endpoint(registry.host), RegistrySettings(), wait=wait)
    failures: list[Exception] = []

    def try_to_open() -> None:
        try:
            open_blob(bulk)
        except ConnectionBroken as error:
            failures.append(error)

    opener = threading.Thread(target=try_to_open)
    opener.start()
    waiting.wait(JOIN_SECONDS)
    bulk.close()
    opener.join(JOIN_SECONDS)
    assert not opener.is_alive()
    assert "closed" in str(failures[0])


def test_closed_stream_gives_nothing_more(registry: FakeRegistry, bulk: BulkTransport) -> None:
    stream = open_blob(bulk)
    bulk.close()
    with pytest.raises(ConnectionBroken, match="closed"):
        stream.readinto(memoryview(bytearray(10)))


def test_close_wakes_a_reader_of_tls() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with FakeRegistry(server) as registry:
        registry.put_blob("a", CONTENT)
        bulk = BulkTransport(Endpoint(registry.host), RegistrySettings(ssl_context=trusting))
        assert read(open_blob(bulk)) == CONTENT
        assert bulk.is_trusted
        registry.fail(BLOBS, stall_after=0)
        stream = open_blob(bulk)
        outcome: list[object] = []

        def read_on() -> None:
            try:
                outcome.append(stream.readinto(memoryview(bytearray(10))))
            except ConnectionBroken as error:
                outcome.append(error)

        reader = threading.Thread(target=read_on)
        reader.start()
        stream.close()
        reader.join(JOIN_SECONDS)
        assert not reader.is_alive()
        assert isinstance(outcome[0], ConnectionBroken)
        bulk.close()


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeRegistry() as proxy:
        proxy.put_blob("a", CONTENT)
        monkeypatch.setenv("http_proxy", f"http://user:pass@{proxy.host}")
        monkeypatch.delenv("no_proxy", raising=False)
        bulk = BulkTransport(Endpoint("registry.example", plain_http=True), RegistrySettings())
        assert read(open_blob(bulk)) == CONTENT
        assert proxy.requests == [("GET", f"http://registry.example/v2/a/blobs/{DIGEST}")]
        assert proxy.request_headers[0]["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        assert not bulk.is_trusted
        bulk.close()


def test_nothing_listening_is_refused() -> None:
    bulk = BulkTransport(Endpoint(f"127.0.0.1:{free_port()}", plain_http=True), RegistrySettings())
    with pytest.raises(ConnectionRefused):
        open_blob(bulk)


faults = st.one_of(
    st.builds(lambda n: {"truncate_after": n}, st.integers(0, 600_000)),
    st.builds(lambda n: {"short_length": n}, st.integers(0, 600_000)),
    st.just({"ignore_range": True}),
    st.just({"status": 503}),
    st.just({"status": 416}),
    st.just({"drop_headers": frozenset({"content-length"})}),
)


def is_sane(orders: list[dict[str, object]]) -> bool:
    """No registry answers 416 to a request without a range, which comes after the first one."""
    return orders.count({"status": 416}) < 2


@settings(max_examples=60)
@given(st.lists(faults, max_size=4).filter(is_sane), st.integers(0, 511_999), st.data())
def test_whatever_breaks_the_reader_gets_the_bytes_in_order(
    orders: list[dict[str, object]], start: int, data: st.DataObject
) -> None:
    """Up to four faults in a row are within the tries of one position."""
    stop = data.draw(st.integers(start + 1, 512_000))
    with FakeRegistry() as registry:
        registry.put_blob("a", CONTENT)
        for order in orders:
            registry.fail(BLOBS, **order)
        waits = Waits()
        chosen = RegistrySettings(retry=RetryPolicy(attempts=6))
        endpoint = Endpoint(registry.host, plain_http=True)
        bulk = BulkTransport(endpoint, chosen, wait=waits, clock=waits.clock)
        stream = open_blob(bulk, start, stop)
        first = stream.offset
        assert first in (0, start)
        found = read(stream)
        bulk.close()
    assert CONTENT[first:].startswith(found)  # all of it, if the range was ignored
    is_short = [order for order in orders if "short_length" in order]
    assert is_short or len(found) >= stop - first
