"""The registries of a mount: which there are, and that nothing is made or asked too early."""

import re
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from orasfs.daemon.registries import RESOLVED_SECONDS, Endpoint, MountRegistries
from orasfs.daemon.source import MountSource
from orasfs.errors import HostUnreachable, InvalidName, NotFound, TimedOut
from orasfs.oci.descriptor import EMPTY_JSON_DIGEST, Descriptor
from orasfs.oci.storage import Page, Source
from orasfs.registry.circuit import CircuitStatus
from orasfs.tree.node import PackedLayer
from orasfs.vfs.ports import Repository
from orasfs.vfs.root import LayoutRoot, LayoutsRoot, RegistriesRoot
from tests.support.golden import GOLDEN


class FakeClient:
    """A registry client that knows its repositories, and whether it was closed."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_closed = False
        self.has_insisted = False

    def repository(self, name: str) -> Endpoint:
        raise InvalidName(name)

    async def list_repositories(self, token: str | None = None) -> Page:
        if self.host == "ill":
            raise TimedOut("late")
        return Page([f"{self.host} {token}"])

    @property
    def reader(self) -> "FakeClient":
        return self

    def insist(self) -> None:
        self.has_insisted = True

    @property
    def circuits(self) -> dict[str, CircuitStatus]:
        return {self.host: CircuitStatus(failures=1)}

    async def aclose(self) -> None:
        self.is_closed = True


SEEN = "seen.example"  # by the cache


class Fixture:
    """Registries with their clients and the repositories asked of the cache."""

    def __init__(self, source: MountSource, hosts: tuple[str, ...] = ()) -> None:
        self.clients: list[FakeClient] = []
        self.registries = MountRegistries(
            source, hosts, self._connect, self._cached, self._remembered
        )

    def _remembered(self, host: str) -> list[str]:
        return [f"of/{host}"] if host == SEEN else []

    def _connect(self, host: str) -> FakeClient:
        self.clients.append(FakeClient(host))
        return self.clients[-1]

    def _cached(self, source: Source, registry: str, name: str) -> Repository:
        raise NotFound(f"{registry} {name}")


def remote(*hosts: str) -> Fixture:
    return Fixture(MountSource("registries", RegistriesRoot()), hosts)


async def test_a_host_has_one_client_made_at_its_first_use() -> None:
    fixture = remote("b", "a")
    assert fixture.clients == []
    first = fixture.registries.registry("a")
    assert fixture.registries.registry("a") is first
    assert [client.host for client in fixture.clients] == ["a"]
    assert (await first.list_repositories("next")).names == ["a next"]


async def test_what_the_cache_has_seen_of_a_host_is_remembered() -> None:
    fixture = remote(SEEN)
    assert fixture.registries.registry(SEEN).remembered() == [f"of/{SEEN}"]


async def test_known_are_the_hosts_given_and_those_that_answered() -> None:
    fixture = remote("b", "a")
    for host in ("well", "ill", "unasked"):
        fixture.registries.registry(host)
    await fixture.registries.registry("well").list_repositories()
    with pytest.raises(TimedOut):
        await fixture.registries.registry("ill").list_repositories()
    assert fixture.registries.known() == ("a", "b", "well")
    health = fixture.registries.health()
    assert {host: one.reachable for host, one in health.items()} == {
        "well": True,
        "ill": False,
        "unasked": None,
    }


async def test_where_no_repository_can_be_nothing_is_found_and_nobody_is_asked() -> None:
    nowhere = remote().registries.registry("a").repository("")
    digest = EMPTY_JSON_DIGEST
    descriptor = Descriptor("application/json", digest, 2)
    layer = PackedLayer(descriptor, "")
    questions: list[Callable[[], Awaitable[object]]] = [
        partial(nowhere.resolve, "v1"),
        partial(nowhere.fetch_manifest, descriptor),
        partial(nowhere.list_tags, None),
        partial(nowhere.list_referrers, digest),
        partial(nowhere.open_blob, descriptor),
        partial(nowhere.open_layer, layer),
    ]
    for question in questions:
        with pytest.raises(NotFound, match=r"a: '' is no repository's name"):
            await question()
    assert nowhere.layer_now(layer) is None


async def test_closing_closes_every_client() -> None:
    fixture = remote()
    fixture.registries.registry("a")
    fixture.registries.registry("b")
    await fixture.registries.aclose()
    assert [client.is_closed for client in fixture.clients] == [True, True]


async def test_the_one_layout_is_reached_by_its_label(tmp_path: Path) -> None:
    path = GOLDEN / "layout"
    source = MountSource(f"oci:{path}", LayoutRoot(str(path)), {str(path): path})
    fixture = Fixture(source)
    with pytest.raises(NotFound, match=re.escape(f"oci:{path} ") + "$"):
        fixture.registries.registry(f"oci:{path}").repository("")
    with pytest.raises(NotFound, match="no such local layout"):
        fixture.registries.registry("oci:etc")
    with pytest.raises(NotFound):
        await fixture.registries.source(f"oci:{tmp_path}/gone", "").resolve("v1")  # of a copy
    fixture.registries.registry(f"oci:{tmp_path}/gone")  # is no reason to fail
    assert fixture.clients == []


async def test_embedded_layouts_come_and_go(tmp_path: Path) -> None:
    fixture = Fixture(MountSource("none", LayoutsRoot(), local=tmp_path))
    assert fixture.registries.known() == ()
    (tmp_path / "demo").symlink_to(GOLDEN / "layout")
    assert fixture.registries.known() == ("demo",)
    with pytest.raises(NotFound, match=r"oci:demo $"):
        fixture.registries.registry("oci:demo").repository("")


class FakeResolver(trio.abc.HostnameResolver):
    """Knows one name; fails as told; counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def getaddrinfo(  # type: ignore[override]  # of its seven only the host matters here
        self, host: bytes | None, *args: object
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
        name = (host or b"").decode()
        self.asked.append(name)
        if name == "slow.example":
            await trio.sleep_forever()
        if name == "broken.example":
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        if name != "there.example":
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return []

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


async def test_a_host_exists_if_its_name_resolves_and_the_answer_is_kept(
    autojump_clock: MockClock, resolver: FakeResolver
) -> None:
    trio.socket.set_custom_hostname_resolver(resolver)
    registries = remote().registries
    for _ in range(2):
        assert await registries.exists("there.example")
        assert not await registries.exists("package.json")
    assert resolver.asked == ["there.example", "package.json"]
    await trio.sleep(RESOLVED_SECONDS + 1)
    assert not await registries.exists("package.json")
    assert len(resolver.asked) == 3


async def test_what_the_cache_has_seen_is_there_though_nothing_resolves(
    resolver: FakeResolver,
) -> None:
    trio.socket.set_custom_hostname_resolver(resolver)
    assert await remote().registries.exists(SEEN)
    assert resolver.asked == []


async def test_a_resolver_that_fails_is_no_answer(
    autojump_clock: MockClock, resolver: FakeResolver
) -> None:
    trio.socket.set_custom_hostname_resolver(resolver)
    registries = remote().registries
    with pytest.raises(HostUnreachable, match="try again"):
        await registries.exists("broken.example")
    with pytest.raises(TimedOut, match="not resolved within"):
        await registries.exists("slow.example")
    assert not await registries.exists(f"{'x' * 64}.example")
