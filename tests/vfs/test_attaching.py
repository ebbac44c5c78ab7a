"""Drafts in `.oras/referrers`, on repositories in memory, and copies as nodes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.errors import AlreadyExists, InvalidName, NotEmpty, NotPermitted, ReadOnly
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import ANY, Expectation
from orasfs.staging.committer import TakeOver
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.staging.drafts import DraftStore
from orasfs.staging.namespaces import LocalNamespaces
from orasfs.vfs.drafts import Drafts
from tests.fakes.repositories import FakeRegistries, FakeRepository
from tests.support.drafting import drafts_at
from tests.support.walking import HOST, Walker, mounted

REFERRERS = "team/site/v1/.oras/referrers"


class InstantCommitter:
    """Makes a manifest of a draft at once, without its content."""

    def __init__(self, repository: FakeRepository) -> None:
        self.repository = repository

    async def commit(
        self, draft: Draft, _ticket: str = "", /, *, take_over: TakeOver
    ) -> Descriptor | None:
        layer = self.repository.layer(b"attached", "note.txt")
        descriptor = self.repository.push(layer, subject=draft.subject)
        await take_over(descriptor)
        return descriptor

    async def publish(
        self, draft: Draft, tag: str, *, expected: Expectation = ANY, take_over: TakeOver
    ) -> Descriptor | None:
        raise AssertionError((draft, tag, expected, take_over))

    def cancel(self, draft: Draft) -> None:
        raise AssertionError(draft)

    def is_committing(self, _draft: Draft) -> bool:
        return False


class World:
    """A mount of one repository with an artifact."""

    def __init__(self, root: Path) -> None:
        self.registries = FakeRegistries()
        self.repository = self.registries.add(HOST).add("team/site")
        self.subject = self.repository.push(self.repository.layer(b"1", "f"), tag="v1")
        self.store = DraftStore(root / "drafts")
        namespaces = LocalNamespaces(root / "namespaces.json")
        self.drafts = Drafts(self.store, namespaces, InstantCommitter(self.repository))


async def make(walker: Walker, path: str) -> None:
    above, _, name = path.rpartition("/")
    await walker.filesystem.mkdir((await walker.stat(above)).ino, name, 0o755)


async def sync(walker: Walker, path: str) -> None:
    await walker.filesystem.fsyncdir((await walker.stat(path)).ino, data_only=False)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


async def test_a_directory_among_the_referrers_is_a_draft_with_a_subject(world: World) -> None:
    async with mounted(world.registries, drafts=world.drafts) as walker:
        await make(walker, f"{REFERRERS}/sbom")
        assert await walker.ls(REFERRERS) == ["sbom"]
        assert await walker.xattr(f"{REFERRERS}/sbom", "user.oras.state") == "draft"
        assert await walker.ls("team/site") == ["v1"]
        with pytest.raises(AlreadyExists):
            await make(walker, f"{REFERRERS}/sbom")
    (draft,) = world.store.drafts()
    key = DraftKey(HOST, "team/site", "sbom", subject=str(world.subject.digest))
    assert draft.key == key
    assert draft.key.tag is None
    assert draft.subject is not None
    assert draft.subject.digest == world.subject.digest
    assert str(key).endswith(f"@{world.subject.digest}/.oras/referrers/sbom")


async def test_it_is_found_again_under_every_name_of_its_subject(
    world: World, tmp_path: Path
) -> None:
    async with mounted(world.registries, drafts=world.drafts) as walker:
        await make(walker, f"{REFERRERS}/sbom")
    world.store.close()
    world.repository.tags["v2"] = world.subject
    with drafts_at(tmp_path) as drafts:
        async with mounted(world.registries, drafts=drafts) as walker:
            assert await walker.ls("team/site/v2/.oras/referrers") == ["sbom"]


async def test_what_was_committed_is_there_by_its_digest_and_by_its_name(world: World) -> None:
    async with mounted(world.registries, drafts=world.drafts) as walker:
        assert not await walker.exists(f"{REFERRERS}/sha256")
        await make(walker, f"{REFERRERS}/sbom")
        ino = (await walker.stat(f"{REFERRERS}/sbom")).ino
        await sync(walker, f"{REFERRERS}/sbom")
        assert not world.store.drafts()
        (name,) = await walker.ls(f"{REFERRERS}/sha256")
        assert await walker.text(f"{REFERRERS}/sha256/{name}/note.txt") == "attached"
        assert await walker.text(f"{REFERRERS}/sbom/note.txt") == "attached"
        assert (await walker.stat(f"{REFERRERS}/sbom")).ino == ino
        assert await walker.ls(REFERRERS) == ["sha256"]
        with pytest.raises(NotEmpty):
            await remove(walker, REFERRERS, "sbom")
        with pytest.raises(AlreadyExists):
            await make(walker, f"{REFERRERS}/sbom")


async def test_what_the_kernel_had_forgotten_is_there_by_its_name_too(world: World) -> None:
    async with mounted(world.registries, drafts=world.drafts) as walker:
        await make(walker, f"{REFERRERS}/sbom")
        inodes, ino = (
            walker.filesystem._tables.inodes,
            (await walker.stat(f"{REFERRERS}/sbom")).ino,
        )
        walker.filesystem.forget(ino, inodes.lookups(ino))
        (draft,) = world.store.drafts()
        await world.drafts.commit(draft)
        assert await walker.text(f"{REFERRERS}/sbom/note.txt") == "attached"


async def remove(walker: Walker, above: str, name: str) -> None:
    await walker.filesystem.rmdir((await walker.stat(above)).ino, name)


@pytest.mark.parametrize("name", ["sha256", "sha512", ".hidden", "a:b"])
async def test_names_that_mean_something_else_are_refused(world: World, name: str) -> None:
    async with mounted(world.registries, drafts=world.drafts) as walker:
        with pytest.raises(InvalidName):
            await make(walker, f"{REFERRERS}/{name}")


async def test_a_draft_is_dropped_while_it_is_empty_and_has_no_base(world: World) -> None:
    async with mounted(world.registries, drafts=world.drafts) as walker:
        await make(walker, f"{REFERRERS}/sbom")
        top = await walker.stat(f"{REFERRERS}/sbom")
        with pytest.raises(NotPermitted):
            await walker.filesystem.setxattr(top.ino, "user.oras.base", b"v1")
        await make(walker, f"{REFERRERS}/sbom/below")
        with pytest.raises(NotEmpty):
            await remove(walker, REFERRERS, "sbom")
        await remove(walker, f"{REFERRERS}/sbom", "below")
        await remove(walker, REFERRERS, "sbom")
        assert await walker.ls(REFERRERS) == []


async def test_without_drafts_nothing_is_attached(world: World) -> None:
    async with mounted(world.registries) as walker:
        with pytest.raises(ReadOnly):
            await make(walker, f"{REFERRERS}/sbom")


async def test_a_copy_shows_what_it_copies_and_cannot_be_changed(world: World) -> None:
    async with mounted(world.registries, drafts=world.drafts) as walker:
        parent = (await walker.stat("team")).ino
        await walker.filesystem.symlink(parent, "copy:v1", "site/v1")
        assert await walker.ls("team/copy:v1") == ["f"]
        assert await walker.text("team/copy:v1/f") == "1"
        assert await walker.xattr("team/copy:v1", "user.oras.state") == "draft"
        base = await walker.xattr("team/copy:v1", "user.oras.base")
        assert base == f"{HOST}/team/site@{world.subject.digest}"
        top = await walker.stat("team/copy:v1")
        entry = await walker.filesystem.lookup(top.ino, "f")
        assert entry.name_seconds == 0  # by this name the kernel is to find the committed one
        with pytest.raises(ReadOnly, match=r"user\.oras\.base"):
            await make(walker, "team/copy:v1/more")
        with pytest.raises(NotEmpty):
            await walker.filesystem.rmdir(parent, "copy:v1")
        top = await walker.stat("team/copy:v1")
        await walker.filesystem.setxattr(top.ino, "user.oras.referrers", b"1")
        for name in ("artifacttype", "base", "annotation.a", "edit"):
            with pytest.raises(ReadOnly):
                await walker.filesystem.setxattr(top.ino, f"user.oras.{name}", b"v1")
        assert await walker.ls("team/copy:v1/.oras") == []
        assert await walker.text("team/copy:v1/.oras/reference") == f"{HOST}/team/copy:v1\n"
        metadata = await walker.stat("team/copy:v1/.oras")
        with pytest.raises(ReadOnly):
            await walker.filesystem.create(metadata.ino, "annotations.json", 0o644, 1)
    (draft,) = world.store.drafts()
    assert draft.is_copy
    assert draft.wants_referrers
    assert not draft.is_empty
