"""Tags by `ln -s`, `mv` and orders, on repositories in memory."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from orasfs.errors import (
    AlreadyExists,
    CrossDevice,
    Forbidden,
    InvalidInput,
    InvalidName,
    NotFound,
    NotPermitted,
    OrasfsError,
    ReadOnly,
    TagMoved,
)
from orasfs.oci.digest import Digest
from orasfs.oci.storage import ANY, Expectation
from orasfs.staging.drafts import DraftStore
from orasfs.staging.namespaces import LocalNamespaces
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.tagging import Tagging
from tests.fakes.repositories import FakeRegistries, FakeRepository
from tests.fakes.target import MemoryTarget
from tests.support.walking import HOST, Walker, mounted

RENAME_NOREPLACE = 1


class FakeTagTarget(MemoryTarget):
    """The tags of a fake repository, for changing."""

    def __init__(self, repository: FakeRepository) -> None:
        super().__init__()
        self._repository = repository

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation = ANY
    ) -> None:
        await trio.lowlevel.checkpoint()
        self._called("push_manifest")
        found = self._repository.tags.get(reference)
        if expected is not ANY and (found.digest if found else None) != expected:
            raise TagMoved(f"{reference}: moved")
        self._repository.push_raw(raw, media_type, reference)

    async def delete_tag(self, tag: str) -> None:
        await trio.lowlevel.checkpoint()
        self._called("delete_tag")
        del self._repository.tags[tag]

    async def delete_manifest(self, digest: Digest) -> None:
        await trio.lowlevel.checkpoint()
        self._called("delete_manifest")
        tags = self._repository.tags
        for tag in [tag for tag, found in tags.items() if found.digest == digest]:
            del tags[tag]


class World:
    """A mount of one repository with two tags, and the target behind it."""

    def __init__(self, root: Path) -> None:
        self.registries = FakeRegistries()
        self.repository = self.registries.add(HOST).add("team/site")
        for number in (1, 2):
            layer = self.repository.layer(b"%d" % number, "f")
            self.repository.push(layer, tag=f"v{number}")
        self.target = FakeTagTarget(self.repository)
        self.store = DraftStore(root / "drafts")
        namespaces = LocalNamespaces(root / "namespaces.json")
        self.tagging = Tagging(lambda _host, _name: self.target, may_delete=True)
        self.drafts = Drafts(self.store, namespaces, tagging=self.tagging)

    def mounted(self) -> AbstractAsyncContextManager["Hand"]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Hand]:
            async with mounted(self.registries, drafts=self.drafts) as walker:
                yield Hand(walker)

        return opened()

    def tags(self) -> set[str]:
        return set(self.repository.tags)


class Hand:
    """What a person does."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker

    async def symlink(self, text: str, path: str) -> None:
        above, _, name = path.rpartition("/")
        parent = await self.walker.stat(above)
        entry = await self.walker.filesystem.symlink(parent.ino, name, text)
        assert entry.attr is not None
        assert entry.attr.mode & 0o170000 == 0o120000
        assert entry.name_seconds == 0.0
        assert await self.walker.filesystem.readlink(entry.attr.ino) == text

    async def move(self, old: str, new: str, flags: int = 0) -> None:
        (above, _, name), (new_above, _, new_name) = old.rpartition("/"), new.rpartition("/")
        parent, new_parent = await self.walker.stat(above), await self.walker.stat(new_above)
        rename = self.walker.filesystem.rename
        await rename(parent.ino, name, new_parent.ino, new_name, flags)

    async def order(self, path: str, name: str, value: str) -> None:
        ino = (await self.walker.stat(path)).ino
        await self.walker.filesystem.setxattr(ino, f"user.oras.{name}", value.encode())

    async def read(self, path: str) -> str:
        return await self.walker.text(path)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("v1", "team/site/latest"),
        (":v1", "team/site/:latest"),
        ("site:v1", "team/site:latest"),
    ],
)
async def test_a_link_to_a_tag_is_another_tag(world: World, text: str, path: str) -> None:
    async with world.mounted() as hand:
        await hand.symlink(text, path)
        assert await hand.read("team/site/latest/f") == "1"
    assert world.repository.tags["latest"].digest == world.repository.tags["v1"].digest
    assert world.target.counts == {"push_manifest": 1}


async def test_a_link_to_an_index_is_another_tag_in_one_request(world: World) -> None:
    child = world.repository.tags["v1"]
    index = world.repository.push_index(child, tag="all")
    async with world.mounted() as hand:
        await hand.symlink("all", "team/site/every")
        assert await hand.walker.ls("team/site/every") == await hand.walker.ls("team/site/all")
    assert world.repository.tags["every"].digest == index.digest
    assert world.target.counts == {"push_manifest": 1}


async def test_an_alias_is_renamed_onto_a_tag(world: World) -> None:
    told: list[str] = []
    async with world.mounted() as hand:
        world.tagging.listener = lambda _place, tag: told.append(tag)
        await hand.symlink("v2", "team/site/.t")
        assert await hand.read("team/site/.t/f") == "2"
        assert world.target.counts["push_manifest"] == 0
        await hand.move("team/site/.t", "team/site/v1")
        assert await hand.read("team/site/v1/f") == "2"
        assert not await hand.walker.exists("team/site/.t")
    assert told == ["v1"]


async def test_an_alias_that_is_removed_changes_nothing(world: World) -> None:
    async with world.mounted() as hand:
        await hand.symlink("v2", "team/site/.t")
        parent = await hand.walker.stat("team/site")
        await hand.walker.filesystem.rmdir(parent.ino, ".t")
        assert not await hand.walker.exists("team/site/.t")
    assert world.tags() == {"v1", "v2"}


@pytest.mark.parametrize(
    ("text", "path", "error"),
    [
        ("v1", "team/site/v2", AlreadyExists),
        ("v9", "team/site/latest", NotFound),
        ("../../../v1", "team/site/latest", NotPermitted),
        ("/etc/passwd", "team/site/latest", NotPermitted),
        ("../other/v9", "team/site/latest", NotFound),
        ("../other/v1", "team/site/v1", AlreadyExists),
        ("site:v1", "team/.t", CrossDevice),
        ("other:v1", "team/v1", CrossDevice),
        ("../other/v1", "team/site/a:b:c", InvalidName),
        ("-", "team/site/latest", InvalidName),
    ],
)
async def test_links_that_are_no_tags_are_refused(
    world: World, text: str, path: str, error: type[OrasfsError]
) -> None:
    other = world.registries.registries[HOST].add("team/other")
    other.push(other.layer(b"o", "f"), tag="v1")
    async with world.mounted() as hand:
        with pytest.raises(error):
            await hand.symlink(text, path)
    assert world.target.calls == []


@pytest.mark.parametrize(
    ("text", "path"), [("../other/v1", "team/site/v3"), ("other:v1", "team/site:v3")]
)
async def test_a_link_to_a_tag_of_another_repository_begins_a_draft(
    world: World, text: str, path: str
) -> None:
    other = world.registries.registries[HOST].add("team/other")
    other.push(other.layer(b"other", "f"), tag="v1")
    async with world.mounted() as hand:
        await hand.symlink(text, path)
        assert await hand.read(f"{path}/f") == "other"
    (draft,) = world.store.drafts()
    assert draft.expected is None
    assert draft.base is not None
    assert (draft.base.repository, draft.base.descriptor) == ("team/other", other.tags["v1"])
    assert world.target.calls == []


@pytest.mark.parametrize("denial", [None, Forbidden("denied", status=403)])
@pytest.mark.parametrize("name", ["v3", ".new"])
async def test_a_link_to_a_reference_begins_a_copy_from_its_registry(
    world: World, denial: OrasfsError | None, name: str
) -> None:
    far = world.registries.add("ghcr.io").add("org/app")
    far.push(far.layer(b"far", "f"), tag="v1")
    # What the text is as a path, which is looked for first.
    world.registries.registries[HOST].add("team/site/ghcr.io/org/app").failure = denial
    async with world.mounted() as hand:
        await hand.symlink("ghcr.io/org/app:v1", f"team/site/{name}")
        assert await hand.read(f"team/site/{name}/f") == "far"
        with pytest.raises(NotFound):
            await hand.symlink("ghcr.io/org/app:v2", "team/site/v4")
    (draft,) = world.store.drafts()
    assert draft.is_copy
    assert draft.base is not None
    assert (draft.base.registry, draft.base.repository) == ("ghcr.io", "org/app")
    assert draft.key.tag == (name if name == "v3" else None)


async def test_moving_a_tag_puts_the_new_name_and_removes_the_old(world: World) -> None:
    async with world.mounted() as hand:
        await hand.move("team/site/v1", "team/site/v3")
        assert await hand.read("team/site/v3/f") == "1"
        assert not await hand.walker.exists("team/site/v1")
    assert world.tags() == {"v2", "v3"}


async def test_moving_a_tag_without_leave_to_delete_changes_nothing(world: World) -> None:
    world.tagging.may_delete = False
    async with world.mounted() as hand:
        with pytest.raises(NotPermitted, match="-o delete"):
            await hand.move("team/site/v1", "team/site/v3")
        with pytest.raises(NotPermitted):
            await hand.order("team/site/v1", "remove", "1")
    assert world.target.calls == []


async def test_a_tag_is_not_moved_over_another_by_surprise(world: World) -> None:
    async with world.mounted() as hand:
        with pytest.raises(AlreadyExists):
            await hand.move("team/site/v1", "team/site/v2", RENAME_NOREPLACE)
        await hand.symlink("v1", "team/site/.t")
        with pytest.raises(AlreadyExists):
            await hand.move("team/site/.t", "team/site/v2", RENAME_NOREPLACE)
        with pytest.raises(NotPermitted):
            await hand.move("team/site/v1", "team/v1")
    assert await _names(world) == {"v1": "1", "v2": "2"}


async def _names(world: World) -> dict[str, str]:
    async with world.mounted() as hand:
        return {tag: await hand.read(f"team/site/{tag}/f") for tag in world.tags()}


async def test_an_order_puts_a_tag_whatever_it_names(world: World) -> None:
    async with world.mounted() as hand:
        assert await hand.read("team/site/v2/f") == "2"
        await hand.order("team/site/v1", "tag", "v2")
        assert await hand.read("team/site/v2/f") == "1"
        with pytest.raises(InvalidName):
            await hand.order("team/site/v1", "tag", ".bad")
        await hand.order("team/site/v1", "commit", "1")  # nothing to do
        with pytest.raises(ReadOnly):
            await hand.order("team/site/v1", "mediatype", "text/plain")


async def test_a_removal_is_of_the_tag_or_by_digest_of_the_manifest(world: World) -> None:
    async with world.mounted() as hand:
        await hand.symlink("v1", "team/site/latest")
        with pytest.raises(InvalidInput):
            await hand.order("team/site/latest", "remove", "yes")
        await hand.order("team/site/latest", "remove", "1")
        assert world.tags() == {"v1", "v2"}
        assert not await hand.walker.exists("team/site/latest")
        digest = world.repository.tags["v2"].digest
        await hand.order(f"team/site@{digest}", "remove", "1")
    assert world.tags() == {"v1"}
    assert world.target.counts["delete_manifest"] == 1


async def test_a_mount_without_drafts_changes_no_tags(world: World) -> None:
    async with mounted(world.registries) as walker:
        hand = Hand(walker)
        with pytest.raises(ReadOnly):
            await hand.symlink("v1", "team/site/latest")
        with pytest.raises(ReadOnly):
            await hand.order("team/site/v1", "tag", "v2")


async def test_a_discarded_draft_is_gone(world: World) -> None:
    async with world.mounted() as hand:
        parent = await hand.walker.stat("team/site")
        await hand.walker.filesystem.mkdir(parent.ino, "v3", 0o755)
        await hand.order("team/site/v3", "discard", "1")
        assert not await hand.walker.exists("team/site/v3")
    assert world.store.drafts() == []
