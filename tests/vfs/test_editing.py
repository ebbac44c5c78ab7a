"""Writing into what is committed: `-o edit`, and who is inside when an edit begins."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orasfs.errors import NotFound, ReadOnly
from orasfs.oci.reference import Target
from orasfs.staging.changes import AttrChanges
from orasfs.staging.drafts import DraftStore
from orasfs.vfs.operations import ROOT_INO
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.root import ArtifactRoot, RootSpecification
from tests.fakes.repositories import FakeRegistries, tar_of
from tests.support.drafting import drafts_at
from tests.support.walking import HOST, Walker, mounted

DOCS = tar_of(
    {"docs": None, "docs/readme": b"read me", "docs/sub": None, "docs/sub/deep": b"deep"},
    links={"docs/hard": "docs/readme"},
)
EDITING = FilesystemOptions(edits=True)


@pytest.fixture
def registries() -> FakeRegistries:
    registries = FakeRegistries()
    repository = registries.add(HOST).add("a")
    repository.push(repository.layer(b"one", "one.txt"), repository.packed(DOCS, "docs"), tag="v1")
    return registries


@asynccontextmanager
async def editing(
    registries: FakeRegistries,
    path: Path,
    options: FilesystemOptions = EDITING,
    root: RootSpecification | None = None,
) -> AsyncIterator[tuple[Walker, DraftStore]]:
    with drafts_at(path) as drafts:
        async with mounted(registries, root, options, drafts=drafts) as walker:
            yield walker, drafts.store


async def append(walker: Walker, ino: int, content: bytes, offset: int = 0) -> None:
    filesystem = walker.filesystem
    opened = await filesystem.open(ino, os.O_WRONLY)  # type: ignore[arg-type]  # an Ino
    assert filesystem.write_now(opened.fh, offset, content)
    filesystem.release(opened.fh)


async def _open(walker: Walker) -> None:
    await append(walker, (await walker.stat("a/v1/docs/readme")).ino, b"READ")


async def _truncate(walker: Walker) -> None:
    ino = (await walker.stat("a/v1/one.txt")).ino
    await walker.filesystem.setattr(ino, AttrChanges(size=0), None)


async def _chmod(walker: Walker) -> None:
    ino = (await walker.stat("a/v1/docs")).ino
    await walker.filesystem.setattr(ino, AttrChanges(mode=0o700), None)


async def _touch(walker: Walker) -> None:
    ino = (await walker.stat("a/v1/docs/sub/deep")).ino
    await walker.filesystem.setattr(ino, AttrChanges(mtime_ns=1), None)


async def _create(walker: Walker) -> None:
    top = (await walker.stat("a/v1")).ino
    _, opened = await walker.filesystem.create(top, "new", 0o644, os.O_WRONLY)
    walker.filesystem.release(opened.fh)


async def _mknod(walker: Walker) -> None:
    await walker.filesystem.mknod((await walker.stat("a/v1/docs")).ino, "new", 0o100644)


async def _mkdir(walker: Walker) -> None:
    await walker.filesystem.mkdir((await walker.stat("a/v1/docs/sub")).ino, "new", 0o755)


async def _symlink(walker: Walker) -> None:
    await walker.filesystem.symlink((await walker.stat("a/v1")).ino, "new", "one.txt")


async def _link(walker: Walker) -> None:
    docs = (await walker.stat("a/v1/docs")).ino
    await walker.filesystem.link((await walker.stat("a/v1/docs/readme")).ino, docs, "new")


async def _unlink(walker: Walker) -> None:
    await walker.filesystem.unlink((await walker.stat("a/v1/docs")).ino, "hard")


async def _rmdir(walker: Walker) -> None:
    sub = (await walker.stat("a/v1/docs/sub")).ino
    await walker.filesystem.unlink(sub, "deep")
    await walker.filesystem.rmdir((await walker.stat("a/v1/docs")).ino, "sub")


async def _rename(walker: Walker) -> None:
    top, sub = (await walker.stat("a/v1")).ino, (await walker.stat("a/v1/docs/sub")).ino
    await walker.filesystem.rename(sub, "deep", top, "moved", 0)


async def _setxattr(walker: Walker) -> None:
    ino = (await walker.stat("a/v1/one.txt")).ino
    await walker.filesystem.setxattr(ino, "user.oras.mediatype", b"text/plain")


CHANGES = (
    *(_open, _truncate, _chmod, _touch, _create, _mknod, _mkdir, _symlink, _link, _unlink),
    *(_rmdir, _rename, _setxattr),
)


@pytest.mark.parametrize("change", CHANGES)
async def test_every_kind_of_first_change_begins_a_draft(
    change: Callable[[Walker], Awaitable[None]], registries: FakeRegistries, tmp_path: Path
) -> None:
    async with editing(registries, tmp_path) as (walker, store):
        await change(walker)
        (draft,) = store.drafts()
        assert draft.base is not None
        assert await walker.xattr("a/v1", "user.oras.state") == "modified"
        assert await walker.xattr("a:v1", "user.oras.state") == "committed"


@pytest.mark.parametrize("change", CHANGES)
async def test_without_the_option_every_change_is_refused(
    change: Callable[[Walker], Awaitable[None]], registries: FakeRegistries, tmp_path: Path
) -> None:
    async with editing(registries, tmp_path, FilesystemOptions()) as (walker, store):
        with pytest.raises(ReadOnly):
            await change(walker)
        assert not store.drafts()


async def test_changes_are_seen_by_the_inodes_that_were_known(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with editing(registries, tmp_path) as (walker, _):
        paths = ("a/v1", "a/v1/one.txt", "a/v1/docs", "a/v1/docs/readme", "a/v1/docs/sub/deep")
        before = {path: await walker.stat(path) for path in paths}
        await append(walker, before["a/v1/docs/readme"].ino, b"written", 7)
        after = {path: await walker.stat(path) for path in paths}
        assert {path: each.ino for path, each in before.items()} == {
            path: each.ino for path, each in after.items()
        }
        assert after["a/v1/docs/readme"].size == len(b"read mewritten")
        assert await walker.read("a/v1/docs/readme") == b"read mewritten"
        assert await walker.read("a/v1/docs/hard") == b"read mewritten"
        await append(walker, before["a/v1/one.txt"].ino, b"ONE")
        assert await walker.read("a/v1/one.txt") == b"ONE"
        assert await walker.read("a:v1/one.txt") == b"one"


async def test_an_open_file_sees_what_is_written(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with editing(registries, tmp_path) as (walker, _):
        filesystem = walker.filesystem
        ino = (await walker.stat("a/v1/one.txt")).ino
        reader = await filesystem.open(ino, os.O_RDONLY)
        await append(walker, ino, b"ONE")
        assert await filesystem.read(reader.fh, 0, 10) == b"ONE"
        filesystem.release(reader.fh)


async def test_a_directory_that_is_being_listed_can_be_emptied(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    """As rm -r does; the draft that it empties is dropped, and nothing is lost."""
    async with editing(registries, tmp_path) as (walker, store):
        filesystem = walker.filesystem
        docs = (await walker.stat("a/v1/docs")).ino
        listing = await filesystem.opendir(docs)
        (await filesystem.readdir(listing, 0))  # the names that rm has got
        await filesystem.unlink(docs, "hard")
        names = [entry.name for entry in await filesystem.readdir(listing, 0)]
        assert names == ["readme", "sub"]
        filesystem.releasedir(listing)
        assert store.drafts()
        assert await walker.ls("a:v1/docs") == ["hard", "readme", "sub"]


async def test_who_is_inside_is_in_the_draft_after_an_order(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with editing(registries, tmp_path, FilesystemOptions()) as (walker, store):
        top, one = await walker.stat("a/v1"), await walker.stat("a/v1/one.txt")
        await walker.filesystem.setxattr(top.ino, "user.oras.edit", b"1")
        await append(walker, one.ino, b"ONE")
        await walker.filesystem.setxattr(top.ino, "user.oras.edit", b"1")
        assert await walker.read("a/v1/one.txt") == b"ONE"
        assert len(store.drafts()) == 1


async def test_what_cannot_be_edited_says_what_to_do(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    repository = registries.registries[HOST].add("a")
    child = repository.push(repository.layer(b"x", "x"), tag="child")
    repository.push_index(child, tag="index")
    async with editing(registries, tmp_path) as (walker, store):
        for path, words in (("a/index", "on one of its children"), (f"a@{child.digest}", "tag")):
            top = (await walker.stat(path)).ino
            with pytest.raises(ReadOnly, match=words):
                await walker.filesystem.mkdir(top, "new", 0o755)
            assert words in await walker.text(f"{path}/.oras/error")
        assert not store.drafts()


async def test_the_root_of_a_mount_has_no_place_for_a_draft(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    root = ArtifactRoot(HOST, "a", Target("v1"))
    async with editing(registries, tmp_path, root=root) as (walker, _):
        with pytest.raises(ReadOnly, match=f"mount {HOST}/a to edit it"):
            await walker.filesystem.mkdir(ROOT_INO, "new", 0o755)


async def test_the_metadata_directory_stays_read_only(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with editing(registries, tmp_path) as (walker, store):
        ino = (await walker.stat("a/v1/.oras/manifest.json")).ino
        with pytest.raises(ReadOnly):
            await walker.filesystem.open(ino, os.O_WRONLY)
        assert not store.drafts()
        with pytest.raises(NotFound):
            await walker.stat("a/none")


async def test_a_file_that_the_kernel_reads_by_itself_gets_another_inode(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    async with editing(registries, tmp_path, FilesystemOptions()) as (walker, _):
        filesystem = walker.filesystem
        told: list[tuple[int, str]] = []
        filesystem._editing.invalidate = lambda ino, name: told.append((ino, name))
        top, one = await walker.stat("a/v1"), await walker.stat("a/v1/one.txt")
        reader = await filesystem.open(one.ino, os.O_RDONLY)
        handle = filesystem._tables.files.get(reader.fh)
        handle.opened = replace(handle.opened, backed=NeverBacked())
        await filesystem.setxattr(top.ino, "user.oras.edit", b"1")
        assert told == [(top.ino, "one.txt")]
        assert (await walker.stat("a/v1/one.txt")).ino != one.ino
        assert await filesystem.read(reader.fh, 0, 10) == b"one"
        filesystem.release(reader.fh)


async def test_a_file_that_could_be_read_by_the_kernel_keeps_its_inode_where_a_write_edits(
    registries: FakeRegistries, tmp_path: Path
) -> None:
    """Its reader is shown the write, and whoever opens it again by that inode may write."""
    async with editing(registries, tmp_path) as (walker, _):
        filesystem = walker.filesystem
        one = (await walker.stat("a/v1/one.txt")).ino
        reader = await filesystem.open(one, os.O_RDONLY)
        handle = filesystem._tables.files.get(reader.fh)
        handle.opened = replace(handle.opened, backed=NeverBacked())
        await filesystem.mkdir((await walker.stat("a/v1/docs")).ino, "new", 0o755)
        await append(walker, one, b"ONE")
        assert (await walker.stat("a/v1/one.txt")).ino == one
        assert await filesystem.read(reader.fh, 0, 10) == b"ONE"
        filesystem.release(reader.fh)


class NeverBacked:
    """Is asked only by a transport."""

    def backing_fd(self) -> int | None:
        return None
