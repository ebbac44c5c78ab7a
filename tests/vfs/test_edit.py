"""Editing what is committed: names at once, bytes when they are wanted, changes on top."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orasfs.errors import (
    InvalidInput,
    NotEmpty,
    NotFound,
    Unsupported,
)
from orasfs.oci.manifest import Manifest
from orasfs.staging.capture import LowerContent, capture
from orasfs.staging.changes import AttrChanges
from orasfs.staging.draft import Draft
from orasfs.staging.drafts import DraftStore
from orasfs.staging.revise import Base
from orasfs.staging.tree import StagedDirectory, StagedFile, find
from orasfs.vfs.drafts import LowerTree
from orasfs.vfs.nodes.lower import LEFT_BYTES
from orasfs.vfs.operations import Ino
from tests.fakes.repositories import FakeRegistries, tar_of
from tests.support.drafting import drafts_at
from tests.support.walking import HOST, Walker, mounted

DOCS = tar_of(
    {"docs": None, "docs/readme": b"read me", "docs/sub": None, "docs/sub/deep": b"deep"},
    links={"docs/hard": "docs/readme", "docs/link": "->readme"},
)
OTHER = tar_of({"other": None, "other/f": b"other"})


@pytest.fixture
def registries() -> FakeRegistries:
    registries = FakeRegistries()
    repository = registries.add(HOST).add("a")
    layers = [
        repository.layer(b"one", "one.txt"),
        repository.packed(DOCS, "docs"),
        repository.layer(b"untitled"),
        repository.layer(b"nested", "n/e/sted.txt"),
        repository.packed(OTHER, "other"),
    ]
    repository.push(*layers, tag="v1")
    return registries


class Edited:
    """A mount with drafts, and helpers that use it by paths."""

    def __init__(self, walker: Walker, store: DraftStore) -> None:
        self.walker = walker
        self.filesystem = walker.filesystem
        self.store = store

    @property
    def draft(self) -> Draft:
        return self.store.drafts()[0]

    async def edit(self) -> None:
        ino = (await self.walker.stat("a/v1")).ino
        await self.filesystem.setxattr(ino, "user.oras.edit", b"1")

    async def ino(self, path: str) -> Ino:
        return (await self.walker.stat(path)).ino

    async def write(self, path: str, content: bytes, offset: int = 0) -> None:
        opened = await self.filesystem.open(await self.ino(path), os.O_RDWR)
        assert self.filesystem.write_now(opened.fh, offset, content)
        self.filesystem.release(opened.fh)

    @property
    def lower(self) -> LowerTree:
        drafts = self.filesystem._mount.drafts
        assert drafts is not None
        return drafts.lowers[self.draft.id]

    async def settle(self) -> Base:
        return await self.lower.settle()

    def staged(self) -> StagedDirectory:
        return capture(self.draft.directory / "tree").tree


@asynccontextmanager
async def mounted_at(registries: FakeRegistries, path: Path) -> AsyncIterator[Edited]:
    with drafts_at(path) as drafts:
        async with mounted(registries, drafts=drafts) as walker:
            yield Edited(walker, drafts.store)


async def test_an_edited_artifact_shows_what_it_was(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        before = {
            path: await walker.stat(f"a/v1/{path}")
            for path in ("one.txt", "docs", "docs/readme", "docs/sub/deep", "docs/link")
        }
        await edited.edit()
        assert await walker.xattr("a/v1", "user.oras.state") == "modified"
        assert await walker.ls("a/v1") == ["docs", "n", "one.txt", "other"]
        assert await walker.ls("a/v1/docs") == ["hard", "link", "readme", "sub"]
        for path, old in before.items():
            new = await walker.stat(f"a/v1/{path}")
            assert (new.mode, new.mtime_ns) == (old.mode, old.mtime_ns)
            if not new.is_directory and not stat.S_ISLNK(new.mode):
                assert (new.size, new.link_count) == (old.size, old.link_count)
        assert await walker.text("a/v1/one.txt") == "one"
        assert await walker.text("a/v1/docs/sub/deep") == "deep"
        assert await walker.text("a/v1/n/e/sted.txt") == "nested"
        link = await walker.stat("a/v1/docs/link")
        assert await walker.filesystem.readlink(link.ino) == "readme"


async def test_nothing_changed_keeps_every_layer_and_copies_nothing(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        await edited.edit()
        await walker.text("a/v1/docs/readme")
        base = await edited.settle()
        assert base.unchanged == frozenset(range(5))
        assert isinstance(base.manifest, Manifest)
        one = edited.staged().entries["one.txt"]
        assert isinstance(one, StagedFile)
        assert isinstance(one.content, LowerContent)
        assert edited.draft.expected == edited.draft.base.descriptor.digest  # type: ignore[union-attr]  # it has one


async def test_packed_layers_are_fetched_when_somebody_looks(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        await walker.stat("a/v1/.oras")
        registries.take_calls()
        await edited.edit()
        await edited.write("a/v1/one.txt", b"ONE")
        base = await edited.settle()
        assert 1 in base.unchanged
        assert not [call for call in registries.take_calls() if "layer" in call[0]]
        committed = await walker.stat("a:v1/docs")
        shown = await walker.stat("a/v1/docs")
        assert (shown.mode, shown.mtime_ns) == (committed.mode, committed.mtime_ns)
        await edited.filesystem.setattr(shown.ino, AttrChanges(mode=0o700), None)
        assert 1 not in (await edited.settle()).unchanged


@pytest.mark.parametrize(
    ("path", "changed"), [("one.txt", 0), ("docs/sub/deep", 1), ("n/e/sted.txt", 3)]
)
async def test_a_written_file_changes_its_layer_only(
    registries: FakeRegistries, tmp_path: Path, path: str, changed: int
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        await edited.edit()
        await edited.write(f"a/v1/{path}", b"X", offset=1)
        old = {"one.txt": "one", "docs/sub/deep": "deep", "n/e/sted.txt": "nested"}[path]
        assert await walker.text(f"a/v1/{path}") == old[0] + "X" + old[2:]
        base = await edited.settle()
        assert base.unchanged == frozenset(range(5)) - {changed}
        for each in ("docs/readme", "docs/hard") if changed == 1 else ():
            file = find(edited.staged(), each)
            assert isinstance(file, StagedFile)
            assert isinstance(file.content, LowerContent), "a small file is not copied"
            assert await edited.lower.read(file.content.path) == b"read me"


async def test_a_file_that_is_not_small_is_copied_for_a_commit(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    sizes = {"big/small": LEFT_BYTES, "big/large": LEFT_BYTES + 1}
    repository = registries.registries[HOST].add("b")
    files = {"big": None} | {name: bytes(size) for name, size in sizes.items()}
    repository.push(repository.packed(tar_of(files), "big"), tag="v1")
    async with mounted_at(registries, tmp_path) as edited:
        await edited.filesystem.setxattr(await edited.ino("b/v1"), "user.oras.edit", b"1")
        await edited.filesystem.mkdir(await edited.ino("b/v1/big"), "new", 0o755)
        assert (await edited.settle()).unchanged == set()
        small, large = (find(edited.staged(), name) for name in sizes)
        assert isinstance(small, StagedFile)
        assert isinstance(large, StagedFile)
        assert isinstance(small.content, LowerContent)
        assert isinstance(large.content, Path)
        assert await edited.lower.read(small.content.path) == bytes(LEFT_BYTES)
        assert large.content.read_bytes() == bytes(LEFT_BYTES + 1)


async def test_an_open_file_keeps_its_bytes_when_its_name_goes(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        await edited.edit()
        opened = await edited.filesystem.open(await edited.ino("a/v1/docs/readme"), os.O_RDONLY)
        for name in ("readme", "hard"):
            await edited.filesystem.unlink(await edited.ino("a/v1/docs"), name)
        assert await edited.filesystem.read(opened.fh, 0, 20) == b"read me"
        edited.filesystem.release(opened.fh)


async def test_every_kind_of_change_is_seen(registries: FakeRegistries, tmp_path: Path) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        await edited.edit()
        filesystem, top = edited.filesystem, await edited.ino("a/v1")
        await filesystem.setattr(await edited.ino("a/v1/one.txt"), AttrChanges(mode=0o755), None)
        await filesystem.rename(await edited.ino("a/v1/docs"), "readme", top, "moved", 0)
        await filesystem.unlink(await edited.ino("a/v1/n/e"), "sted.txt")
        await filesystem.rename(top, "other", top, "another", 0)
        assert await walker.text("a/v1/moved") == "read me"
        assert await walker.text("a/v1/another/f") == "other"
        base = await edited.settle()
        assert base.unchanged == {2}
        moved = edited.staged().entries["moved"]
        assert isinstance(moved, StagedFile)
        assert isinstance(moved.content, Path)
        assert moved.content.read_bytes() == b"read me"


async def test_truncating_needs_no_bytes_of_the_base(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        await edited.edit()
        one = await edited.ino("a/v1/one.txt")
        await edited.filesystem.setattr(one, AttrChanges(size=0), None)
        assert await walker.text("a/v1/one.txt") == ""
        nested = await edited.ino("a/v1/n/e/sted.txt")
        await edited.filesystem.setattr(nested, AttrChanges(size=3), None)
        assert await walker.text("a/v1/n/e/sted.txt") == "nes"
        opened = await edited.filesystem.open(
            await edited.ino("a/v1/docs/readme"), os.O_WRONLY | os.O_TRUNC
        )
        edited.filesystem.release(opened.fh)
        assert await walker.text("a/v1/docs/readme") == ""


async def test_an_open_file_sees_what_is_written_later(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        await edited.edit()
        opened = await edited.filesystem.open(await edited.ino("a/v1/one.txt"), os.O_RDONLY)
        assert edited.filesystem.read_now(opened.fh, 0, 9) == b"one"
        await edited.write("a/v1/one.txt", b"two and more")
        assert edited.filesystem.read_now(opened.fh, 0, 20) == b"two and more"
        edited.filesystem.release(opened.fh)


async def test_edits_are_there_after_a_remount(registries: FakeRegistries, tmp_path: Path) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        await edited.edit()
        await edited.filesystem.unlink(await edited.ino("a/v1"), "one.txt")
        await edited.write("a/v1/docs/readme", b"REWRITE")
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        assert await walker.ls("a/v1") == ["docs", "n", "other"]
        assert await walker.text("a/v1/docs/readme") == "REWRITE"
        assert await walker.text("a/v1/other/f") == "other"
        assert (await edited.settle()).unchanged == {2, 3, 4}


async def test_a_base_is_given_to_an_empty_draft_once(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        entry = await edited.filesystem.mkdir(await edited.ino("a"), "v2", 0o755)
        assert entry.attr is not None
        top = entry.attr.ino
        with pytest.raises(NotFound):
            await edited.filesystem.setxattr(top, "user.oras.base", b"none")
        await edited.filesystem.setxattr(top, "user.oras.base", b"v1")
        assert await walker.ls("a/v2") == ["docs", "n", "one.txt", "other"]
        assert edited.draft.expected is None
        with pytest.raises(NotEmpty):
            await edited.filesystem.setxattr(top, "user.oras.base", b"v1")


async def test_what_cannot_be_edited_is_refused(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    repository = registries.registries[HOST].add("a")
    child = repository.push(repository.layer(b"x", "x"), tag="child")
    repository.push_index(child, tag="index")
    async with mounted_at(registries, tmp_path) as edited:
        walker = edited.walker
        with pytest.raises(InvalidInput):
            await edited.filesystem.setxattr(await edited.ino("a/v1"), "user.oras.edit", b"2")
        by_digest = f"a@{child.digest}"
        with pytest.raises(Unsupported):
            await edited.filesystem.setxattr(await edited.ino(by_digest), "user.oras.edit", b"1")
        with pytest.raises(Unsupported, match="index"):
            await edited.filesystem.setxattr(await edited.ino("a/index"), "user.oras.edit", b"1")
        assert "begin a draft on one of its children" in await walker.text("a/index/.oras/error")
        assert "REPOSITORY:NEW" in await walker.text(f"{by_digest}/.oras/error")
