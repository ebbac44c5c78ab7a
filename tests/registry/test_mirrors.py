"""Reading at several places: who is asked for what, and whose word counts."""

import logging
from collections.abc import AsyncIterator

import pytest

from orasfs.daemon.places import Client, Makings, from_hosts
from orasfs.errors import (
    ConnectionRefused,
    NotFound,
    RegistryFailure,
    Unreachable,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import Alternatives, Source
from orasfs.registry.circuit import State
from orasfs.registry.credential import Credential
from orasfs.registry.hosts import Capability, Hosts, Place
from orasfs.registry.mirrors import MirroredRegistry
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.trust import TrustOptions
from tests.conftest import ExpectLog
from tests.fakes.registry import FakeRegistry
from tests.support.publish import digest_of, publish_files

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MANIFESTS = r"/manifests/"
BLOBS = r"/blobs/"
READING = frozenset({Capability.PULL, Capability.RESOLVE})
SETTINGS = RegistrySettings(
    read_seconds=1, connect_seconds=1, retry=RetryPolicy(attempts=2, base_seconds=0.001)
)


class Wallet:
    """Credentials for hosts; notes for whom they were wanted."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, host: str, repository: str) -> Credential | None:
        self.asked.append(host)
        return Credential("user", f"of-{host}")


class Fixture:
    """A registry, a mirror of it, and clients that know both."""

    def __init__(self, origin: FakeRegistry, mirror: FakeRegistry) -> None:
        self.origin = origin
        self.mirror = mirror
        self.wallet = Wallet()
        self.clients: list[Client] = []

    def client(
        self,
        capabilities: frozenset[Capability] = READING,
        *,
        hosts: Hosts | None = None,
        root: str = "/v2",
    ) -> Client:
        place = Place(f"http://{self.mirror.host}", root, capabilities)
        makings = Makings(SETTINGS, TrustOptions(), self.wallet)
        client = from_hosts(self.origin.host, makings, hosts or Hosts((place,)))
        self.clients.append(client)
        return client

    def source(self, capabilities: frozenset[Capability] = READING) -> Source:
        return self.client(capabilities).reader.repository("a/b")

    def publish(self, tag: str = "v1", content: bytes = CONTENT) -> str:
        """Put an artifact at both places."""
        publish_files(self.mirror, "a/b", tag, file=content)
        return publish_files(self.origin, "a/b", tag, file=content)

    def forget(self) -> None:
        self.origin.forget_requests()
        self.mirror.forget_requests()


@pytest.fixture
async def both() -> AsyncIterator[Fixture]:
    with FakeRegistry() as origin, FakeRegistry() as mirror:
        fixture = Fixture(origin, mirror)
        fixture.publish()
        fixture.forget()
        yield fixture
        for client in fixture.clients:
            await client.aclose()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A mirror that fails is a warning, which most of these tests are about."""
    caplog.set_level(logging.ERROR, "orasfs.registry.readingplaces")


def blob(content: bytes = CONTENT) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(content), len(content))


def read(source: Source, descriptor: Descriptor, *span: int) -> bytes:
    stream = source.open_stream(descriptor, *span)
    found = bytearray()
    buffer = memoryview(bytearray(100_000))
    try:
        while count := stream.readinto(buffer):
            found += buffer[:count]
        return bytes(found)
    finally:
        stream.close()


# Who is asked


async def test_everything_comes_from_the_mirror_with_the_registrys_name(both: Fixture) -> None:
    source = both.source()
    descriptor = await source.resolve("v1")
    assert await source.fetch_manifest(descriptor)
    assert read(source, blob()) == CONTENT
    assert both.origin.requests == []
    assert len(both.mirror.requests) == 3
    assert all(path.endswith(f"?ns={both.origin.host}") for _, path in both.mirror.requests)


async def test_tags_are_resolved_only_where_that_is_allowed(both: Fixture) -> None:
    source = both.source(frozenset({Capability.PULL}))
    descriptor = await source.resolve("v1")
    assert both.mirror.requests == []
    assert both.origin.count("HEAD", MANIFESTS) == 1
    assert await source.resolve(str(descriptor.digest)) == descriptor
    assert both.mirror.count("HEAD", MANIFESTS) == 1


async def test_a_mirror_that_only_resolves_is_asked_for_no_content(both: Fixture) -> None:
    source = both.source(frozenset({Capability.RESOLVE}))
    await source.fetch_manifest(await source.resolve("v1"))
    assert read(source, blob()) == CONTENT
    assert [method for method, _ in both.mirror.requests] == ["HEAD"]


async def test_mirrors_are_asked_in_their_order(both: Fixture) -> None:
    with FakeRegistry() as second:
        publish_files(second, "a/b", "only-there", file=b"x")
        second.forget_requests()
        places = [Place(f"http://{r.host}", "/v2", READING) for r in (both.mirror, second)]
        source = both.client(hosts=Hosts(tuple(places))).reader.repository("a/b")
        await source.resolve("only-there")
        assert both.mirror.count() == second.count() == 1
        await source.resolve("v1")
        assert (both.mirror.count(), second.count(), both.origin.count()) == (2, 1, 0)


async def test_lists_come_from_the_registry_itself(both: Fixture) -> None:
    """A cache lists what it was asked for, or nothing: that would hide the rest."""
    publish_files(both.origin, "a/b", "v2", file=b"x")
    client = both.client()
    source = client.reader.repository("a/b")
    assert sorted((await source.list_tags()).names) == ["v1", "v2"]
    assert list((await client.reader.list_repositories()).names) == ["a/b"]
    assert await source.list_referrers(Digest.of(b"none")) == ()
    assert both.mirror.requests == []


async def test_lists_come_from_the_mirror_while_the_registry_is_away(both: Fixture) -> None:
    for tag in ("v2", "v3"):
        both.publish(tag)
    both.mirror.page_size = 2
    source = both.source()
    both.origin.stop()
    page = await source.list_tags()
    names = list(page.names)
    while page.next_token is not None:
        page = await source.list_tags(page.next_token)
        names += page.names
    assert names == ["v1", "v2", "v3"]
    assert await source.list_referrers(Digest.of(b"none")) == ()
    both.mirror.stop()
    with pytest.raises(ConnectionRefused, match=both.origin.host):
        await source.list_tags()
    with pytest.raises(ConnectionRefused, match=both.origin.host):
        await source.list_referrers(Digest.of(b"none"))


async def test_the_registry_may_be_listed_before_its_mirror(both: Fixture) -> None:
    places = (
        Place(f"http://{both.origin.host}"),
        Place(f"http://{both.mirror.host}", "/v2", READING),
    )
    source = both.client(hosts=Hosts(places)).reader.repository("a/b")
    await source.resolve("v1")
    assert both.mirror.requests == []
    both.origin.stop()
    assert (await source.resolve("v1")).digest == Digest.parse(both.publish())
    assert both.mirror.count("HEAD") == 1


async def test_a_server_in_the_registrys_stead_is_the_only_one_read(both: Fixture) -> None:
    hosts = Hosts(server=Place(f"http://{both.mirror.host}"))
    client = both.client(hosts=hosts)
    source = client.reader.repository("a/b")
    await source.resolve("v1")
    assert list((await source.list_tags()).names) == ["v1"]
    with pytest.raises(NotFound):
        await source.resolve("none")
    assert both.origin.requests == []
    assert client.repository("a/b") is not None
    await client.repository("a/b").resolve("v1")
    assert both.origin.count("HEAD") == 1, "who writes looks at the registry itself"


async def test_an_entry_for_the_registry_itself_is_no_mirror(both: Fixture) -> None:
    place = Place(f"http://{both.origin.host}", headers=(("X-Own", "1"),))
    client = both.client(hosts=Hosts((place,)))
    assert not isinstance(client, MirroredRegistry)
    await client.repository("a/b").resolve("v1")
    assert both.origin.request_headers[-1]["x-own"] == "1"
    assert "ns=" not in both.origin.requests[-1][1]


async def test_a_path_of_its_own_is_put_before_the_name(both: Fixture) -> None:
    publish_files(both.mirror, "cache/a/b", "v9", file=b"x")
    source = both.client(root="/v2/cache").reader.repository("a/b")
    await source.resolve("v9")
    assert both.mirror.requests[-1][1].startswith("/v2/cache/a/b/manifests/v9?ns=")


# Whose word counts


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_mirror_that_refuses_is_passed_over(both: Fixture, status: int) -> None:
    both.mirror.fail("/v2/", status=status, times=-1)
    source = both.source()
    descriptor = await source.resolve("v1")
    assert await source.fetch_manifest(descriptor)
    assert read(source, blob()) == CONTENT


async def test_a_mirror_that_is_away_is_passed_over_and_left_alone(both: Fixture) -> None:
    client = both.client()
    source = client.reader.repository("a/b")
    both.mirror.stop()
    for _ in range(6):
        await source.resolve("v1")
    assert client.circuits[both.mirror.host].state is State.OPEN
    assert client.circuits[both.mirror.host].refused == 1
    assert client.circuits[both.origin.host].state is State.CLOSED


async def test_only_the_registry_says_that_something_is_not_there(both: Fixture) -> None:
    source = both.source()
    with pytest.raises(NotFound, match=both.origin.host):
        await source.resolve("none")
    with pytest.raises(NotFound, match=both.origin.host):
        source.open_stream(blob(b"none"))
    both.origin.stop()
    with pytest.raises(Unreachable, match=both.origin.host):
        await source.resolve("none")
    with pytest.raises(Unreachable, match=both.origin.host):
        source.open_stream(blob(b"none"))


async def test_what_the_mirror_has_is_read_while_the_registry_is_away(both: Fixture) -> None:
    source = both.source()
    both.origin.stop()
    assert await source.fetch_manifest(await source.resolve("v1"))
    assert read(source, blob()) == CONTENT


# Credentials and pushes


async def test_a_mirror_gets_the_credentials_of_its_own_host_only(both: Fixture) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    both.mirror.fail(MANIFESTS, status=401, headers=challenge)
    await both.source().resolve("v1")
    assert both.wallet.asked == [both.mirror.host]
    sent = both.mirror.request_headers[-1]["authorization"]
    assert sent == Credential("user", f"of-{both.mirror.host}").basic
    assert both.origin.requests == []


async def test_headers_for_the_registry_do_not_go_to_a_mirror(both: Fixture) -> None:
    makings = Makings(RegistrySettings(headers=(("X-Secret", "1"),)), TrustOptions(), both.wallet)
    place = Place(f"http://{both.mirror.host}", headers=(("X-Mirror", "2"),))
    client = from_hosts(both.origin.host, makings, Hosts((place,)))
    both.clients.append(client)
    await client.reader.repository("a/b").resolve("v1")
    assert both.mirror.request_headers[-1]["x-mirror"] == "2"
    assert "x-secret" not in both.mirror.request_headers[-1]


async def test_who_writes_speaks_with_the_registry_only(both: Fixture) -> None:
    repository = both.client(frozenset(Capability)).repository("a/b")
    assert await repository.has_blob(blob())
    await repository.resolve("v1")
    assert both.mirror.requests == []


# Wrong content


async def test_nothing_of_a_mirror_is_served_unverified(both: Fixture) -> None:
    assert not both.source().is_trusted
    assert both.client().repository("a/b").is_trusted


async def test_a_wrong_manifest_is_asked_of_the_next_and_not_again(both: Fixture) -> None:
    source = both.source()
    descriptor = await source.resolve("v1")
    both.mirror.put_manifest_as(
        "a/b", str(descriptor.digest), b"{}" + b" " * (descriptor.size - 2)
    )
    both.forget()
    for _ in range(2):
        assert Digest.of(await source.fetch_manifest(descriptor)) == descriptor.digest
    assert both.mirror.count("GET", MANIFESTS) == 1
    assert both.origin.count("GET", MANIFESTS) == 2


async def test_a_mirror_whose_blob_was_rejected_is_not_asked_for_it_again(both: Fixture) -> None:
    both.mirror.put_blob_as("a/b", digest_of(CONTENT), CONTENT[::-1])
    source = both.source()
    assert read(source, blob()) == CONTENT[::-1], "whoever reads a stream verifies it"
    assert isinstance(source, Alternatives)
    assert source.reject(blob())
    assert read(source, blob()) == CONTENT
    assert not source.reject(blob()), "the registry itself has no other"
    both.publish("v2", b"other")
    assert read(source, blob(b"other")) == b"other"
    assert both.mirror.count("GET", BLOBS) == 2


# Streams that break


async def test_a_blob_goes_on_at_the_registry_where_the_mirror_broke(both: Fixture) -> None:
    both.mirror.fail(BLOBS, truncate_after=300_000)
    both.mirror.fail(BLOBS, status=500, times=-1)
    assert read(both.source(), blob()) == CONTENT
    assert both.origin.request_headers[-1]["range"].endswith(f"-{len(CONTENT) - 1}")


async def test_a_registry_that_ignores_the_range_is_read_from_its_beginning(both: Fixture) -> None:
    both.mirror.fail(BLOBS, truncate_after=300_000)
    both.mirror.fail(BLOBS, status=500, times=-1)
    both.origin.fail(BLOBS, ignore_range=True)
    assert read(both.source(), blob()) == CONTENT


async def test_a_part_is_read_from_the_mirror(both: Fixture) -> None:
    assert read(both.source(), blob(), 1000, 2000) == CONTENT[1000:2000]
    assert both.origin.requests == []


async def test_ranges_are_not_asked_again_of_a_mirror_that_ignores_them(both: Fixture) -> None:
    both.mirror.fail(BLOBS, ignore_range=True, times=-1)
    source = both.source()
    for _ in range(3):
        stream = source.open_stream(blob(), 1000)
        assert stream.offset == 0
        stream.close()
    ranges = [fields.get("range", "") for fields in both.mirror.request_headers]
    assert ranges == [f"bytes=1000-{len(CONTENT) - 1}", "", ""]


async def test_where_all_fail_the_registrys_failure_is_told(both: Fixture) -> None:
    for registry in (both.mirror, both.origin):
        registry.fail(BLOBS, truncate_after=300_000)
        registry.fail(BLOBS, status=500, times=-1)
    with pytest.raises(RegistryFailure, match=both.origin.host):
        read(both.source(), blob())


async def test_a_closed_stream_asks_nobody_else(both: Fixture) -> None:
    stream = both.source().open_stream(blob())
    buffer = memoryview(bytearray(1000))
    assert stream.readinto(buffer) == 1000
    stream.close()
    stream.close()
    with pytest.raises(Unreachable):
        stream.readinto(buffer)
    assert both.origin.requests == []


async def test_a_size_that_the_mirror_denies_is_asked_of_the_registry(both: Fixture) -> None:
    both.mirror.put_blob_as("a/b", digest_of(CONTENT), CONTENT + b"more")
    assert read(both.source(), blob(), 1000, 2000) == CONTENT[1000:2000]


# What is said


async def test_a_failing_mirror_is_a_warning_once_until_it_is_of_use_again(
    both: Fixture, caplog: pytest.LogCaptureFixture, expect_log: ExpectLog
) -> None:
    caplog.set_level(logging.WARNING, "orasfs.registry.readingplaces")
    expect_log(logging.WARNING, "mirror passed over")
    source = both.source()
    for fails in (True, True, False, True):
        if fails:
            both.mirror.fail(MANIFESTS, status=403)
        await source.resolve("v1")
    assert caplog.text.count("mirror passed over") == 2
