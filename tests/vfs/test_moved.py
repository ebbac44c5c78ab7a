"""An edit right after a walk: what nobody has looked into since waits, by the inodes it had."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orasfs.errors import NotFound, ReadOnly
from orasfs.staging.changes import AttrChanges
from orasfs.staging.draft import Draft
from orasfs.vfs.becoming import Becoming
from orasfs.vfs.nodes.drafttop import DraftTopNode
from orasfs.vfs.nodes.moved import MovedNode
from orasfs.vfs.operations import Attr, Ino
from tests.fakes.repositories import FakeRegistries, tar_of
from tests.support.drafting import drafts_at
from tests.support.walking import HOST, Walker, mounted

TREE = tar_of(
    {
        "t": None,
        "t/top": b"top",
        "t/a": None,
        "t/a/f": b"file",
        "t/a/g": b"other",
        "t/a/b": None,
        "t/a/b/deep": b"deep",
    },
    links={"t/a/link": "->f", "t/hard": "t/top"},
)
PATHS = ("t", "t/top", "t/hard", "t/a", "t/a/f", "t/a/g", "t/a/link", "t/a/b", "t/a/b/deep")


class World:
    """A mount in which an artifact was walked and then edited, and the inodes from before."""

    def __init__(self, walker: Walker, drafts: list[Draft], before: dict[str, Attr]) -> None:
        self.walker = walker
        self.filesystem = walker.filesystem
        self.drafts = drafts
        self.before = before

    def ino(self, path: str) -> Ino:
        return self.before[path].ino

    @property
    def tree(self) -> Path:
        (draft,) = self.drafts
        return draft.directory / "tree"

    def waiting(self) -> set[str]:
        """Return the paths of what waits; hard links have one inode."""
        inodes = self.filesystem._tables.inodes
        return {path for path in PATHS if isinstance(inodes.node(self.ino(path)), MovedNode)}

    async def write(self, path: str, content: bytes) -> None:
        opened = await self.filesystem.open(self.ino(path), os.O_WRONLY | os.O_TRUNC)
        assert self.filesystem.write_now(opened.fh, 0, content)
        self.filesystem.release(opened.fh)

    async def read(self, ino: Ino) -> bytes:
        opened = await self.filesystem.open(ino, os.O_RDONLY)
        try:
            return await self.filesystem.read(opened.fh, 0, 100)
        finally:
            self.filesystem.release(opened.fh)

    async def check_inodes(self, *but: str) -> None:
        """Look all paths up again: they have the inodes they had."""
        for path in PATHS:
            if path not in but:
                found = await self.walker.stat(f"a/v1/{path}")
                assert (path, found.ino) == (path, self.ino(path))


async def edit(walker: Walker) -> None:
    ino = (await walker.stat("a/v1")).ino
    await walker.filesystem.setxattr(ino, "user.oras.edit", b"1")


@asynccontextmanager
async def edited(path: Path) -> AsyncIterator[World]:
    registries = FakeRegistries()
    repository = registries.add(HOST).add("a")
    repository.push(repository.packed(TREE, "t"), tag="v1")
    with drafts_at(path) as drafts:
        async with mounted(registries, drafts=drafts) as walker:
            before = {path: await walker.stat(f"a/v1/{path}") for path in PATHS}
            await edit(walker)
            yield World(walker, list(drafts.store.drafts()), before)


async def test_an_edit_makes_no_file_below_a_directory_that_nobody_looks_into(
    tmp_path: Path,
) -> None:
    async with edited(tmp_path) as world:
        # A file of two names does not wait, so "t" has its entries.
        assert world.waiting() == {"t/a/f", "t/a/g", "t/a/link", "t/a/b", "t/a/b/deep"}
        assert [path.name for path in (world.tree / "t" / "a").iterdir()] == []
        for path in world.waiting():
            assert await world.walker.attr_of(world.ino(path)) == world.before[path]
        assert await world.filesystem.readlink(world.ino("t/a/link")) == "f"
        assert "t/a/f" in world.waiting()
        await world.check_inodes()
        assert world.waiting() == set()


@pytest.mark.parametrize("path", ["t/a/f", "t/a/b/deep", "t/top"])
async def test_what_is_written_by_an_inode_from_before_is_in_the_draft(
    tmp_path: Path, path: str
) -> None:
    async with edited(tmp_path) as world:
        reader = await world.filesystem.open(world.ino(path), os.O_RDONLY)
        await world.write(path, b"written")
        assert await world.filesystem.read(reader.fh, 0, 100) == b"written"
        world.filesystem.release(reader.fh)
        assert await world.walker.read(f"a/v1/{path}") == b"written"
        assert (world.tree / path).read_bytes() == b"written"
        assert (await world.walker.attr_of(world.ino(path))).size == len("written")
        await world.check_inodes()


async def test_directories_from_before_are_listed_and_changed(tmp_path: Path) -> None:
    async with edited(tmp_path) as world:
        filesystem, deep = world.filesystem, world.ino("t/a/b")
        listing = await filesystem.opendir(deep)
        assert [each.name for each in await filesystem.readdir(listing, 0)] == ["deep"]
        filesystem.releasedir(listing)
        assert world.waiting() == set()
        await filesystem.mkdir(deep, "new", 0o755)
        await filesystem.unlink(deep, "deep")
        with pytest.raises(NotFound):
            await world.walker.stat("a/v1/t/a/b/deep")
        assert [path.name for path in (world.tree / "t/a/b").iterdir()] == ["new"]
        await world.check_inodes("t/a/b/deep")


async def test_a_listing_of_a_directory_from_before_sees_what_is_removed(tmp_path: Path) -> None:
    async with edited(tmp_path) as world:
        filesystem = world.filesystem
        listing = await filesystem.opendir(world.ino("t/a"))
        await filesystem.readdir(listing, 0)
        await filesystem.unlink(world.ino("t/a"), "g")
        names = [each.name for each in await filesystem.readdir(listing, 0)]
        filesystem.releasedir(listing)
        assert names == ["b", "f", "link"]


async def test_an_inode_from_before_stays_what_it_is_when_a_directory_above_is_renamed(
    tmp_path: Path,
) -> None:
    async with edited(tmp_path) as world:
        filesystem, above = world.filesystem, world.ino("t")
        await filesystem.rename(above, "a", above, "c", 0)
        await filesystem.mkdir(above, "a", 0o755)
        assert "t/a/b/deep" in world.waiting()
        await world.write("t/a/b/deep", b"written")
        assert (world.tree / "t/c/b/deep").read_bytes() == b"written"
        assert not list((world.tree / "t/a").iterdir())
        await filesystem.rename(world.ino("t/a"), "f", above, "f", 0)
        await world.write("t/a/f", b"moved")
        assert (world.tree / "t/f").read_bytes() == b"moved"


async def test_a_file_from_before_can_get_another_name_and_attributes(tmp_path: Path) -> None:
    async with edited(tmp_path) as world:
        filesystem, deep = world.filesystem, world.ino("t/a/b/deep")
        entry = await filesystem.link(deep, world.ino("t"), "name")
        assert entry.attr is not None
        assert (entry.attr.ino, entry.attr.link_count) == (deep, 2)
        await filesystem.setattr(world.ino("t/a/g"), AttrChanges(mode=0o600), None)
        assert (await world.walker.stat("a/v1/t/a/g")).mode & 0o777 == 0o600
        await filesystem.setxattr(world.ino("t/a/f"), "user.mine", b"1")
        assert await filesystem.listxattr(world.ino("t/a/f")) == ["user.mine"]


async def test_attributes_tell_that_it_is_in_a_draft(tmp_path: Path) -> None:
    async with edited(tmp_path) as world:
        state = await world.filesystem.getxattr(world.ino("t/a/b/deep"), "user.oras.state")
        assert state == b"modified"


async def test_what_waits_when_the_draft_is_committed_is_the_artifacts(tmp_path: Path) -> None:
    async with edited(tmp_path) as world:
        (draft,) = world.drafts
        assert draft.base is not None
        inodes = world.filesystem._tables.inodes
        (top,) = (node for _, node in inodes if isinstance(node, DraftTopNode))
        artifact = top.place.committed(draft.key, draft.base.descriptor)
        inos = await Becoming(inodes, draft, artifact).finish()
        assert {world.ino(path) for path in PATHS} <= set(inos)
        assert world.waiting() == set()
        assert await world.read(world.ino("t/a/b/deep")) == b"deep"
        with pytest.raises(ReadOnly):
            await world.write("t/a/b/deep", b"x")


async def test_what_waits_when_the_draft_is_discarded_is_the_bases(tmp_path: Path) -> None:
    async with edited(tmp_path) as world:
        top = (await world.walker.stat("a/v1")).ino
        await world.filesystem.setxattr(top, "user.oras.discard", b"1")
        assert await world.read(world.ino("t/a/b/deep")) == b"deep"
        with pytest.raises(ReadOnly):
            await world.write("t/a/f", b"x")
        listing = await world.filesystem.opendir(world.ino("t/a/b"))
        assert [each.name for each in await world.filesystem.readdir(listing, 0)] == ["deep"]
        world.filesystem.releasedir(listing)
        await edit(world.walker)
        opened = await world.filesystem.open(
            (await world.walker.stat("a/v1/t/a/f")).ino, os.O_WRONLY | os.O_TRUNC
        )
        assert world.filesystem.write_now(opened.fh, 0, b"again")
        world.filesystem.release(opened.fh)
        assert await world.walker.read("a/v1/t/a/f") == b"again"
