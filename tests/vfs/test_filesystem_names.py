"""Names above artifacts, as docs/SEMANTICS.md says, with the requests they cost."""

import logging
import stat
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from orasfs.errors import (
    ConnectionRefused,
    Forbidden,
    NotFound,
    RegistryFailure,
    TimedOut,
    Unauthorized,
)
from orasfs.oci.reference import Target
from orasfs.vfs.operations import FOREVER_SECONDS
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.root import (
    ArtifactRoot,
    LayoutRoot,
    LayoutsRoot,
    NamespaceRoot,
    RegistriesRoot,
)
from tests.fakes.repositories import NO_CATALOG, FakeRegistries, FakeRegistry, FakeRepository
from tests.support.walking import HOST, mounted

ExpectLog = Callable[[int, str], None]


def push_text(repository: FakeRepository, tag: str, text: str) -> None:
    repository.push(repository.layer(text.encode(), "artifact.txt"), tag=tag)


def registry_with(*references: str) -> tuple[FakeRegistries, FakeRegistry]:
    registries = FakeRegistries()
    registry = registries.add(HOST)
    for reference in references:
        name, tag = reference.split(":")
        push_text(registry.add(name), tag, reference)
    return registries, registry


async def test_registry_namespace_repository_and_tag_are_directories() -> None:
    registries, _ = registry_with("team/hello:v1", "team/hello:latest", "alone:v2")
    async with mounted(registries) as mount:
        assert await mount.ls() == ["alone", "team"]
        assert await mount.ls("team") == ["hello"]
        assert await mount.ls("team/hello") == ["latest", "v1"]
        assert await mount.ls("team/hello/v1") == ["artifact.txt"]
        assert await mount.text("team/hello/v1/artifact.txt") == "team/hello:v1"
        assert stat.S_IMODE((await mount.stat("team/hello/v1")).mode) == 0o755


async def test_references_are_names_in_every_directory_above() -> None:
    registries, registry = registry_with("team/hello:v1")
    digest = registry.add("team/hello").tags["v1"].digest
    async with mounted(registries) as mount:
        for name in (":v1", f"@{digest}", f":v1@{digest}"):
            for path in (f"team/hello{name}", f"team/hello/{name}"):
                assert await mount.text(f"{path}/artifact.txt") == "team/hello:v1", path
        assert not await mount.exists("team/hello:nope")
        assert not await mount.exists(f"team/hello@sha256:{'0' * 64}")


async def test_a_directory_reached_by_two_names_is_two_inodes() -> None:
    registries, registry = registry_with("hello:v1")
    digest = registry.add("hello").tags["v1"].digest
    async with mounted(registries) as mount:
        paths = ("hello/v1", "hello:v1", "hello/:v1", f"hello@{digest}", f"hello/@{digest}")
        inos = [(await mount.stat(path)).ino for path in paths]
        files = [(await mount.stat(f"{path}/artifact.txt")).ino for path in paths]
        assert len({*inos, *files}) == 2 * len(paths)


async def test_a_name_that_is_tag_and_sub_repository_is_the_sub_repository() -> None:
    for has_catalog in (True, False):
        registries, registry = registry_with("a:b", "a:c", "a/b:v1")
        registry.catalog_failure = None if has_catalog else NO_CATALOG
        async with mounted(registries) as mount:
            assert await mount.text("a/b/v1/artifact.txt") == "a/b:v1"
            assert await mount.text("a/:b/artifact.txt") == "a:b"
            assert await mount.text("a:b/artifact.txt") == "a:b"
            assert await mount.ls("a") == ["b", ":b", "c"]


async def test_a_registry_that_will_not_list_is_browsed_by_name() -> None:
    registries, registry = registry_with("a:v1", "a/b:v1", "a/b/c:v1")
    registry.catalog_failure = NO_CATALOG
    async with mounted(registries) as mount:
        assert await mount.ls() == []
        assert await mount.text("a/b/c/v1/artifact.txt") == "a/b/c:v1"
        assert await mount.ls() == ["a"]
        assert await mount.ls("a") == ["b", "v1"]


async def test_a_registry_that_answers_every_list_empty_is_browsed_by_tag() -> None:
    registries, registry = registry_with("team/hello:v1")
    registry.catalog, registry.hides_tags = (), True
    async with mounted(registries) as mount:
        assert await mount.text("team/hello/v1/artifact.txt") == "team/hello:v1"
        assert await mount.ls("team") == ["hello"]
        assert not await mount.exists("package.json")
        assert not await mount.exists("team/hello/typo.txt")
        assert not await mount.exists("team/hello/typo")  # the tag v1 has proven the repository


@pytest.mark.parametrize("name", [".git", "Makefile", "a b", "x:y:z", "-"])
async def test_a_name_that_can_never_be_valid_costs_no_request(name: str) -> None:
    registries, _ = registry_with("a:v1")
    async with mounted(registries) as mount:
        entry = await mount.entry(name)
        assert entry.attr is None
        assert entry.name_seconds >= 60
        assert registries.calls == []


async def test_names_that_no_registry_has_do_not_exist() -> None:
    registries, _ = registry_with("team/hello:v1")
    async with mounted(registries) as mount:
        for path in ("package.json", "hello.typo", "team/package.json", "team/hello/v2"):
            entry = await mount.entry(path)
            assert entry.attr is None, path
            assert entry.name_seconds == 30.0


async def test_an_unproven_name_is_a_namespace_down_to_the_third_level() -> None:
    registries, _ = registry_with("team/hello:v1")
    async with mounted(registries) as mount:
        assert await mount.ls("x/y/z") == []
        assert not await mount.exists("x/y/z/w")


async def test_a_deeper_repository_is_found_by_its_tags() -> None:
    registries, registry = registry_with("a/b/c/d:v1")
    registry.catalog_failure = NO_CATALOG
    async with mounted(registries) as mount:
        assert await mount.text("a/b/c/d/v1/artifact.txt") == "a/b/c/d:v1"
        assert await mount.ls("a/b/c") == ["d"]


async def test_a_complete_catalog_denies_what_it_does_not_have() -> None:
    registries, _ = registry_with("team/hello:v1")
    options = FilesystemOptions(catalog_complete=True)
    async with mounted(registries, options=options) as mount:
        assert await mount.exists("team/hello/v1")
        for path in ("x", "team/x", "team/hello/x"):
            assert not await mount.exists(path), path


async def test_listing_3000_tags_resolves_none() -> None:
    registries, registry = registry_with()
    repository = registry.add("many")
    descriptor = repository.push()
    repository.tags.update({f"t{number:04}": descriptor for number in range(3000)})
    async with mounted(registries) as mount:
        await mount.stat("many")
        registries.take_calls()
        entries = await mount.entries("many")
        assert len(entries) == 3000
        for entry in entries:
            assert entry.entry.attr is not None
            assert entry.entry.name_seconds == 30.0
            await mount.filesystem.getattr(entry.entry.attr.ino)
            assert await mount.filesystem.listxattr(entry.entry.attr.ino) == ()
            looked_up = await mount.stat(f"many/{entry.name}")
            assert looked_up.ino == entry.entry.attr.ino
        assert {call[0] for call in registries.calls} == {"list_repositories", "list_tags"}


async def test_a_listing_shows_its_first_names_after_the_first_page() -> None:
    registries, registry = registry_with()
    repository = registry.add("many")
    repository.tags = dict.fromkeys((f"t{n:03}" for n in range(300)), repository.push())
    repository.page_size = 100
    async with mounted(registries) as mount:
        fh = await mount.filesystem.opendir((await mount.stat("many")).ino)
        registries.take_calls()
        first = await mount.filesystem.readdir(fh, 0)
        assert len(first) == 100
        assert [call[0] for call in registries.calls].count("list_tags") == 1
        again = await mount.filesystem.readdir(fh, 40)
        assert [entry.name for entry in again] == [entry.name for entry in first[40:]]


async def test_fallback_tags_of_referrers_resolve_but_are_not_listed() -> None:
    registries, _ = registry_with("a:v1", f"a:sha256-{'0' * 64}")
    async with mounted(registries) as mount:
        assert await mount.ls("a") == ["v1"]
        assert await mount.exists(f"a/sha256-{'0' * 64}/artifact.txt")


async def test_looking_inside_a_listed_tag_binds_its_inode() -> None:
    registries, _ = registry_with("a:v1")
    async with mounted(registries) as mount:
        (listed,) = await mount.entries("a")
        assert listed.entry.attr is not None
        ino = listed.entry.attr.ino
        fh = await mount.filesystem.opendir(ino)
        assert [each.name for each in await mount.filesystem.readdir(fh, 0)] == ["artifact.txt"]
        mount.filesystem.releasedir(fh)
        assert (await mount.stat("a/v1")).ino == ino


async def test_a_moved_tag_is_a_new_directory_within_the_time_to_live(
    autojump_clock: MockClock,
) -> None:
    registries, registry = registry_with("a:v1")
    async with mounted(registries) as mount:
        old = await mount.entry("a/v1")
        assert old.attr is not None
        old_file = await mount.filesystem.lookup(old.attr.ino, "artifact.txt")
        push_text(registry.add("a"), "v1", "moved")
        await trio.sleep(20)
        again = await mount.entry("a/v1")
        assert again.attr == old.attr
        assert again.name_seconds == pytest.approx(10)
        await trio.sleep(11)
        new = await mount.stat("a/v1")
        assert new.ino != old.attr.ino
        assert await mount.text("a/v1/artifact.txt") == "moved"
        assert old_file.attr is not None
        opened = await mount.filesystem.open(old_file.attr.ino, 0)
        assert mount.filesystem.read_now(opened.fh, 0, 99) == b"a:v1"


async def test_an_unmoved_tag_keeps_its_inode(autojump_clock: MockClock) -> None:
    registries, _ = registry_with("a:v1")
    async with mounted(registries) as mount:
        before = await mount.stat("a/v1")
        await trio.sleep(100)
        registries.take_calls()
        assert await mount.stat("a/v1") == before
        assert ("resolve", "a", "v1") in registries.calls


async def test_a_listing_does_not_prolong_a_tag_that_was_resolved(
    autojump_clock: MockClock,
) -> None:
    registries, registry = registry_with("a:v1")
    async with mounted(registries) as mount:
        await mount.stat("a/v1")
        await trio.sleep(29)
        push_text(registry.add("a"), "v1", "moved")
        (listed,) = await mount.entries("a")
        assert listed.entry.name_seconds == pytest.approx(1)
        await trio.sleep(2)
        (listed,) = await mount.entries("a")
        assert listed.entry.name_seconds == 0
        assert await mount.text("a/v1/artifact.txt") == "moved"


async def test_a_tag_deleted_and_made_anew_is_not_answered_by_its_old_directory(
    autojump_clock: MockClock,
) -> None:
    registries, registry = registry_with("a:v1", "a:other")
    async with mounted(registries) as mount:
        await mount.stat("a/v1")
        del registry.add("a").tags["v1"]
        await trio.sleep(31)
        assert not await mount.exists("a/v1")
        push_text(registry.add("a"), "v1", "anew")
        await mount.ls("a")
        assert await mount.text("a/v1/artifact.txt") == "anew"


async def test_pin_resolves_a_tag_once(autojump_clock: MockClock) -> None:
    registries, registry = registry_with("a:v1")
    async with mounted(registries, options=FilesystemOptions(pin=True)) as mount:
        entry = await mount.entry("a/v1")
        assert entry.name_seconds == pytest.approx(FOREVER_SECONDS)
        push_text(registry.add("a"), "v1", "moved")
        await trio.sleep(10_000)
        assert await mount.text("a/v1/artifact.txt") == "a:v1"


async def test_names_by_digest_hold_for_ever() -> None:
    registries, registry = registry_with("a:v1")
    digest = registry.add("a").tags["v1"].digest
    async with mounted(registries) as mount:
        for path in (f"a@{digest}", f"a/.oras/digests/sha256/{digest.hex}"):
            assert (await mount.entry(path)).name_seconds == FOREVER_SECONDS
            assert (await mount.entry(f"{path}/nope")).name_seconds == FOREVER_SECONDS


async def test_the_last_digest_stands_while_the_registry_is_away(
    autojump_clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "tag keeps its last digest")
    registries, registry = registry_with("a:v1")
    async with mounted(registries) as mount:
        before = await mount.stat("a/v1")
        registry.failure = ConnectionRefused("refused")
        await trio.sleep(100)
        entry = await mount.entry("a/v1")
        assert entry.attr == before
        assert entry.name_seconds == 5.0
        with pytest.raises(ConnectionRefused):
            await mount.entry("a/v2")
        registry.failure = None
        assert not await mount.exists("a/v2")


@pytest.mark.parametrize("error", [ConnectionRefused("x"), RegistryFailure("x"), TimedOut("x")])
async def test_a_passing_fault_is_never_an_absence(error: ConnectionRefused) -> None:
    registries, registry = registry_with("a:v1")
    registry.failure = error
    async with mounted(registries) as mount:
        for path in ("a/v1", "a:v1", "name.with.dot", "a/b/c/d"):
            with pytest.raises(type(error)):
                await mount.entry(path)
        for path in ("", "a"):
            with pytest.raises(type(error)):
                await mount.ls(path)


async def test_a_repository_whose_tags_are_remembered_is_found_with_the_registry_away() -> None:
    registries, registry = registry_with("team/hello:v1")
    registry.add("team").failure = ConnectionRefused("refused")  # the cache answers for the other
    async with mounted(registries) as mount:
        assert await mount.text("team/hello/v1/artifact.txt") == "team/hello:v1"
        with pytest.raises(ConnectionRefused):
            await mount.entry("team/nope")


async def test_a_refused_name_does_not_exist_and_rejected_credentials_are_an_error() -> None:
    registries, registry = registry_with("a:v1")
    async with mounted(registries) as mount:
        registry.add("a").failure = Forbidden("denied", status=403)
        registry.add("b").failure = Unauthorized("who are you", status=401)
        assert not await mount.exists("a:v1")
        assert not await mount.exists("a/v1.0")
        with pytest.raises(Unauthorized):
            await mount.entry("b:v1")


async def test_tags_that_are_refused_of_a_proven_repository_are_an_error_and_not_none() -> None:
    registries, registry = registry_with("a:v1")
    registry.add("a").tag_list_failure = Unauthorized("who are you", status=401)
    async with mounted(registries) as mount:
        assert await mount.ls("a") == []
        assert await mount.exists("a/v1")
        with pytest.raises(Unauthorized):
            await mount.ls("a")
        assert await mount.text("a/v1/artifact.txt") == "a:v1"


async def test_a_lookup_gives_up_but_its_request_goes_on(autojump_clock: MockClock) -> None:
    registries, registry = registry_with("a:v1")
    repository = registry.add("a")
    repository.gate = trio.Event()
    async with mounted(registries) as mount:
        with pytest.raises(TimedOut):
            await mount.entry("a:v1")
        with pytest.raises(TimedOut):
            await mount.entry("a:v1")
        assert registries.calls == [("resolve", "a", "v1")]
        repository.gate.set()
        assert await mount.exists("a:v1")
        assert registries.calls == [("resolve", "a", "v1")]


async def test_docker_hub_names_of_one_component_are_in_the_library() -> None:
    registries = FakeRegistries()
    hub = registries.add("docker.io")
    hub.catalog_failure = NO_CATALOG
    push_text(hub.add("library/alpine"), "3", "alpine")
    push_text(hub.add("alpine/git"), "v2", "git")
    async with mounted(registries, NamespaceRoot("docker.io", "")) as mount:
        assert await mount.text("alpine/3/artifact.txt") == "alpine"
        assert await mount.text("alpine:3/artifact.txt") == "alpine"
        assert await mount.text("alpine/git/v2/artifact.txt") == "git"
        assert "docker.io/library/alpine:3@" in await mount.text("alpine/3/.oras/reference")


async def test_the_root_of_all_registries_finds_hosts() -> None:
    registries, _ = registry_with("a:v1")
    registries.hosts, registries.resolvable = ["ghcr.io"], {"example.org"}
    async with mounted(registries, RegistriesRoot()) as mount:
        assert await mount.ls() == ["ghcr.io"]
        assert await mount.text(f"{HOST}/a/v1/artifact.txt") == "a:v1"
        for name in ("ghcr.io", "GHCR.io", "localhost", "example.org", "[::1]:5000"):
            assert await mount.exists(name), name
        registries.take_calls()
        for name in (".git", "no-dot", "a b"):
            assert not await mount.exists(name)
        assert registries.calls == []
        assert not await mount.exists("package.json")


async def test_a_mounted_namespace_and_artifact_are_roots() -> None:
    registries, registry = registry_with("team/hello:v1")
    async with mounted(registries, NamespaceRoot(HOST, "team")) as mount:
        assert await mount.text("hello/v1/artifact.txt") == "team/hello:v1"
    async with mounted(registries, ArtifactRoot(HOST, "team/hello", Target("v1"))) as mount:
        assert await mount.ls() == ["artifact.txt"]
        assert await mount.text("artifact.txt") == "team/hello:v1"
    digest = registry.add("team/hello").tags["v1"].digest
    target = Target(None, digest)
    async with mounted(registries, ArtifactRoot(HOST, "team/hello", target)) as mount:
        assert await mount.text(".oras/reference") == f"{HOST}/team/hello@{digest}\n"


async def test_a_layout_is_a_repository_at_the_root() -> None:
    registries = FakeRegistries(hosts=["one"])
    repository = registries.add("oci:one").add("")
    push_text(repository, "v1", "local")
    async with mounted(registries, LayoutRoot("one")) as mount:
        assert await mount.ls() == ["v1"]
        assert await mount.text(":v1/artifact.txt") == "local"
        assert not await mount.exists("other")
        assert "list_repositories" not in {call[0] for call in registries.calls}
    async with mounted(registries, LayoutRoot("one", Target("v1"))) as mount:
        assert await mount.ls() == ["artifact.txt"]
    async with mounted(registries, LayoutsRoot()) as mount:
        assert await mount.ls() == ["one"]
        assert await mount.text("one/v1/artifact.txt") == "local"
        assert await mount.text("one:v1/artifact.txt") == "local"
        assert not await mount.exists("two")
        assert not await mount.exists("two:v1")


async def test_a_missing_tag_at_the_root_is_said_and_asked_again() -> None:
    registries, registry = registry_with()
    async with mounted(registries, ArtifactRoot(HOST, "a", Target("v1"))) as mount:
        with pytest.raises(NotFound, match="no such tag"):
            await mount.ls()
        push_text(registry.add("a"), "v1", "late")
        assert await mount.ls() == ["artifact.txt"]


async def test_what_was_browsed_stays_browsable_with_the_registry_away(
    autojump_clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "tag keeps its last digest")
    registries, registry = registry_with("team/hello:v1")
    async with mounted(registries) as mount:
        await mount.ls()
        await mount.ls("team")
        await mount.text("team/hello/v1/artifact.txt")
        registry.failure = ConnectionRefused("refused")
        await trio.sleep(1000)
        assert await mount.ls() == ["team"]
        assert await mount.ls("team") == ["hello"]
        assert await mount.exists("team/hello/v1")


async def test_a_digest_that_the_cache_may_know_proves_no_repository() -> None:
    registries, registry = registry_with("team/hello:v1")
    registry.catalog_failure = NO_CATALOG
    registry.hides_tags = True
    digest = registry.add("team/hello").tags["v1"].digest
    async with mounted(registries) as mount:
        assert await mount.text(f"team/hello@{digest}/artifact.txt") == "team/hello:v1"
        assert await mount.ls("team") == []
        assert await mount.text("team/hello:v1/artifact.txt") == "team/hello:v1"
        assert await mount.ls("team") == ["hello"], "a tag is answered by its registry"


async def test_what_was_seen_before_is_listed_while_the_registry_is_away() -> None:
    registries, registry = registry_with("team/hello:v1", "other:v1")
    registry.failure = ConnectionRefused("away")
    async with mounted(registries) as mount:
        with pytest.raises(ConnectionRefused):
            await mount.ls()
    registry.seen_before = ["team/deep/er", "team/hello"]
    async with mounted(registries) as mount:
        assert await mount.ls() == ["team"]
        assert await mount.ls("team") == ["deep", "hello"]
        assert await mount.ls("team/deep") == ["er"]


async def test_a_listing_without_the_tags_of_a_repository_is_an_error_not_a_part() -> None:
    registries, registry = registry_with("a:v1", "a/b:v1")
    registry.seen_before = ["a/b"]
    async with mounted(registries) as mount:
        assert await mount.ls() == ["a"]
        registry.failure = ConnectionRefused("away")
        with pytest.raises(ConnectionRefused):
            await mount.ls("a")
