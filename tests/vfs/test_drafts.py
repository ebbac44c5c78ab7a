"""Drafts in the filesystem: where they begin, whose names they have, and what they become."""

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from orasfs.errors import (
    AlreadyExists,
    Busy,
    CrossDevice,
    Forbidden,
    InvalidInput,
    InvalidName,
    LocalFailure,
    NoAttribute,
    NotEmpty,
    NotPermitted,
    OrasfsError,
    ReadOnly,
    Unsupported,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import ANY, Expectation
from orasfs.staging.changes import AttrChanges
from orasfs.staging.committer import TakeOver
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.vfs import becoming as vfs_becoming
from orasfs.vfs.drafts import Drafts, Rest
from orasfs.vfs.nodes.base import Node
from orasfs.vfs.nodes.draft import StagedNode
from orasfs.vfs.operations import Ino
from orasfs.vfs.root import RegistriesRoot
from tests.fakes.notifier import MemoryNotifier
from tests.fakes.repositories import FakeRegistries
from tests.support.drafting import drafts_at
from tests.support.walking import HOST, Walker, mounted

Mount = Callable[[], AbstractAsyncContextManager[Walker]]


class FakeCommitter:
    """Pushes each file at the top of a draft as a layer of that title."""

    def __init__(self, registries: FakeRegistries) -> None:
        self._registries = registries
        self.fails_with: OrasfsError | None = None
        self.cancelled: list[str] = []
        self.is_running = False

    async def commit(
        self, draft: Draft, ticket: str = "", /, *, take_over: TakeOver
    ) -> Descriptor | None:
        await trio.lowlevel.checkpoint()
        if self.fails_with is not None:
            raise self.fails_with
        return await self._push(draft, draft.key.tag, take_over) if draft.key.tag else None

    async def publish(
        self, draft: Draft, tag: str, *, expected: Expectation = ANY, take_over: TakeOver
    ) -> Descriptor | None:
        await trio.lowlevel.checkpoint()
        return await self._push(draft, tag, take_over)

    def cancel(self, draft: Draft) -> None:
        self.cancelled.append(draft.id)

    def is_committing(self, draft: Draft) -> bool:
        return self.is_running

    async def _push(self, draft: Draft, tag: str, take_over: TakeOver) -> Descriptor:
        repository = self._registries.registries[HOST].add(draft.key.repository)
        layers = [
            repository.layer(path.read_bytes(), path.name)
            for path in sorted((draft.directory / "tree").iterdir())
            if path.is_file()
        ]
        descriptor = repository.push(*layers, tag=tag)
        await take_over(descriptor)
        return descriptor


@pytest.fixture
def registries() -> FakeRegistries:
    registries = FakeRegistries()
    repository = registries.add(HOST).add("team/site")
    repository.push(repository.layer(b"one", "index.html"), tag="v1")
    return registries


@pytest.fixture
def committer(registries: FakeRegistries) -> FakeCommitter:
    return FakeCommitter(registries)


@pytest.fixture
def mount(registries: FakeRegistries, committer: FakeCommitter, tmp_path: Path) -> Mount:
    @asynccontextmanager
    async def make() -> AsyncIterator[Walker]:
        with drafts_at(tmp_path, committer) as drafts:
            async with mounted(registries, drafts=drafts) as walker:
                yield walker

    return make


async def mkdir(walker: Walker, path: str) -> Ino:
    parent, _, name = path.rpartition("/")
    above = (await walker.stat(parent)).ino
    entry = await walker.filesystem.mkdir(above, name, 0o755)
    assert entry.attr is not None
    return entry.attr.ino


async def write(walker: Walker, path: str, content: bytes) -> Ino:
    parent, _, name = path.rpartition("/")
    above = (await walker.stat(parent)).ino
    flags = os.O_WRONLY
    entry, opened = await walker.filesystem.create(above, name, 0o644, flags)
    assert walker.filesystem.write_now(opened.fh, 0, content)
    walker.filesystem.release(opened.fh)
    assert entry.attr is not None
    return entry.attr.ino


async def sync(walker: Walker, path: str, *, data_only: bool = False) -> None:
    await walker.filesystem.fsyncdir((await walker.stat(path)).ino, data_only=data_only)


@pytest.mark.parametrize(
    "path", ["team/site:v2", "team/site/v2", "team/site/.new", "team/other:v1", "new:v1"]
)
async def test_a_draft_is_written_and_there_again_after_a_remount(mount: Mount, path: str) -> None:
    async with mount() as walker:
        await mkdir(walker, path)
        await write(walker, f"{path}/f", b"content")
        assert await walker.ls(path) == ["f"]
        assert path.rpartition("/")[2] in await walker.ls(path.rpartition("/")[0])
        assert await walker.xattr(path, "user.oras.state") == "draft"
    async with mount() as walker:
        assert await walker.text(f"{path}/f") == "content"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("team/site/v1", AlreadyExists),
        ("team/site:v1", AlreadyExists),
        ("team/site/.oras", AlreadyExists),
        ("team/site@sha256:00", InvalidName),
        ("team/site:", InvalidName),
        ("team/UPPER", InvalidName),
        (".git", InvalidName),
    ],
)
async def test_nothing_else_is_begun(mount: Mount, path: str, error: type[OrasfsError]) -> None:
    async with mount() as walker:
        with pytest.raises(error):
            await mkdir(walker, path)


async def test_without_a_store_nothing_can_be_changed(registries: FakeRegistries) -> None:
    async with mounted(registries) as walker:
        with pytest.raises(ReadOnly):
            await mkdir(walker, "team/site:v2")


async def test_a_namespace_is_local_and_stays(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "my.space")
        with pytest.raises(NotPermitted):
            await write(walker, "my.space/f", b"")
        await mkdir(walker, "my.space/site:v1")
    async with mount() as walker:
        assert "my.space" in await walker.ls()
        root = (await walker.stat("")).ino
        with pytest.raises(NotEmpty):
            await walker.filesystem.rmdir(root, "my.space")
        await walker.filesystem.rmdir((await walker.stat("my.space")).ino, "site:v1")
        await walker.filesystem.rmdir(root, "my.space")
        assert "my.space" not in await walker.ls()


async def test_what_leads_to_a_draft_is_listed(mount: Mount) -> None:
    """So that `find` comes to it, though the registry knows nothing of its repository."""
    async with mount() as walker:
        for path in ("a/b/c/d:v1", "a/e:v1", "top:v1"):
            await mkdir(walker, path)
    async with mount() as walker:
        assert sorted(await walker.ls()) == ["a", "team", "top:v1"]
        assert sorted(await walker.ls("a")) == ["b", "e:v1"]
        assert await walker.ls("a/b") == ["c"]
        assert await walker.ls("a/b/c") == ["d:v1"]
        await walker.filesystem.rmdir((await walker.stat("a/b/c")).ino, "d:v1")
        assert await walker.ls("a") == ["e:v1"]
        await mkdir(walker, "team/site:v2")
        assert sorted(await walker.ls("team")) == ["site", "site:v2"]


async def test_a_commit_ends_when_the_kernel_has_forgotten_the_names(mount: Mount) -> None:
    """Content can wait; and a rename waits for nothing: it has the directory locked."""
    async with mount() as walker:
        notifier = MemoryNotifier()
        walker.filesystem.set_notifier(notifier)
        place = (await walker.stat("team/site")).ino
        draft = await mkdir(walker, "team/site:v2")
        file = await write(walker, "team/site:v2/f", b"")
        await sync(walker, "team/site:v2")
        names, contents = notifier.told[: notifier.told.index("settle")], notifier.told[-2:]
        assert {(place, "v2"), (place, ":v2")} <= set(names)
        assert set(contents) == {draft, file}
        await mkdir(walker, "team/site/.new")
        notifier.told.clear()
        await walker.filesystem.rename(place, ".new", place, "v3", 0)
        assert (place, ":v3") in notifier.told
        assert "settle" not in notifier.told


@asynccontextmanager
async def becoming(walker: Walker, path: str) -> AsyncIterator[Drafts]:
    """Commit a draft; in the block its inodes have not become the artifact's yet."""
    drafts, taken, release = walker.filesystem._mount.drafts, trio.Event(), trio.Event()
    assert drafts is not None
    listener = drafts.listener
    assert listener is not None

    async def slow(draft: Draft, key: DraftKey, descriptor: Descriptor, node: Node) -> Rest:
        rest = await listener(draft, key, descriptor, node)

        async def later() -> None:
            taken.set()
            await release.wait()
            await rest()

        return later

    drafts.listener = slow
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync, walker, path)
        await taken.wait()
        yield drafts
        release.set()


async def test_names_stand_for_the_artifact_before_its_inodes_do(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site:v2")
        below = await mkdir(walker, "team/site:v2/d")
        await write(walker, "team/site:v2/f", b"content")
        await write(walker, "team/site:v2/d/g", b"of a directory")
        async with becoming(walker, "team/site:v2") as drafts:
            assert drafts.store.drafts() == []
            for path in ("team/site:v2", "team/site/v2"):
                assert await walker.xattr(path, "user.oras.state") == "committed"
                assert await walker.text(f"{path}/f") == "content"
            late = (await walker.filesystem.lookup(below, "g")).attr
            assert late is not None
            opened = await walker.filesystem.open(late.ino, os.O_RDONLY)  # the draft's, still
            walker.filesystem.release(opened.fh)
        assert not isinstance(walker.filesystem._tables.inodes.node(late.ino), StagedNode)


async def test_others_have_their_turn_while_many_inodes_become_the_artifacts(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vfs_becoming, "_AT_ONCE", 10)
    async with mount() as walker, trio.open_nursery() as nursery:
        top = await mkdir(walker, "team/site:v2")
        for number in range(50):
            await write(walker, f"team/site:v2/{number}", b"content")
        inodes = walker.filesystem._tables.inodes
        left: set[int] = set()

        async def look() -> None:
            while True:
                left.add(sum(isinstance(node, StagedNode) for _, node in inodes))
                await trio.lowlevel.checkpoint()

        await walker.stat("team/site:v2/0")
        nursery.start_soon(look)
        await sync(walker, "team/site:v2")
        assert inodes.lookups(top)
        nursery.cancel_scope.cancel()
    assert len({each // 10 for each in left} - {0, 5}) >= 2, "they come in steps"


async def test_a_draft_of_another_name_is_published_over_one_that_is_going(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site/v2")
        old = await write(walker, "team/site/v2/f", b"old")
        await mkdir(walker, "team/site/.new")
        new = await write(walker, "team/site/.new/f", b"new")
        place = (await walker.stat("team/site")).ino
        async with trio.open_nursery() as nursery, becoming(walker, "team/site/v2") as drafts:
            nursery.start_soon(walker.filesystem.rename, place, ".new", place, "v2", 0)
            await trio.testing.wait_all_tasks_blocked()
        assert drafts.store.drafts() == []
        assert not drafts.successors, "a draft was never dropped"
        for ino in (old, new):
            assert not isinstance(walker.filesystem._tables.inodes.node(ino), StagedNode)


async def test_a_tag_is_known_though_the_kernel_had_forgotten_the_draft(mount: Mount) -> None:
    async with mount() as walker:
        assert not await walker.exists("team/site/v2")
        ino = await mkdir(walker, "team/site:v2")
        walker.filesystem.forget(ino, walker.filesystem._tables.inodes.lookups(ino))
        drafts = walker.filesystem._mount.drafts
        assert drafts is not None
        (draft,) = drafts.store.drafts()
        await drafts.commit(draft)
        assert await walker.xattr("team/site/v2", "user.oras.state") == "committed"


async def test_an_edit_waits_until_nothing_is_left_of_the_draft(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site:v2")
        await write(walker, "team/site:v2/f", b"content")
        async with trio.open_nursery() as nursery, becoming(walker, "team/site:v2") as drafts:
            ino = (await walker.stat("team/site:v2")).ino
            nursery.start_soon(walker.filesystem.setxattr, ino, "user.oras.edit", b"1")
            await trio.testing.wait_all_tasks_blocked()
            assert drafts.store.drafts() == []
        await write(walker, "team/site:v2/more", b"more")
        assert await walker.ls("team/site:v2") == ["f", "more"]


async def test_registries_of_drafts_are_listed_and_found(
    registries: FakeRegistries, committer: FakeCommitter, tmp_path: Path
) -> None:
    """Though their names resolve no more."""
    registries.resolvable = {"new.example"}
    for is_new in (True, False):
        with drafts_at(tmp_path, committer) as drafts:
            async with mounted(registries, RegistriesRoot(), drafts=drafts) as walker:
                if is_new:
                    await mkdir(walker, "new.example/team/site:v1")
                assert await walker.ls() == ["new.example"]
                assert await walker.ls("new.example/team") == ["site:v1"]
        registries.resolvable = set()


async def test_a_draft_with_something_in_it_is_not_removed(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site/v2")
        await write(walker, "team/site/v2/f", b"")
        site = (await walker.stat("team/site")).ino
        for name in ("v2", "v1"):
            with pytest.raises(NotEmpty):
                await walker.filesystem.rmdir(site, name)
        await walker.filesystem.unlink((await walker.stat("team/site/v2")).ino, "f")
        await walker.filesystem.rmdir(site, "v2")
        assert not await walker.exists("team/site/v2")


async def test_after_a_commit_the_same_inodes_are_the_artifact(mount: Mount) -> None:
    async with mount() as walker:
        top = await mkdir(walker, "team/site:v2")
        file = await write(walker, "team/site:v2/f", b"content")
        await sync(walker, "team/site:v2")
        assert (await walker.stat("team/site:v2")).ino == top
        assert (await walker.stat("team/site:v2/f")).ino == file
        assert await walker.xattr("team/site:v2", "user.oras.state") == "committed"
        assert await walker.text("team/site:v2/f") == "content"
        assert await walker.text("team/site/v2/f") == "content"
        with pytest.raises(ReadOnly):
            await walker.filesystem.open(file, os.O_WRONLY)
        with pytest.raises(ReadOnly):
            await write(walker, "team/site:v2/g", b"")


async def test_only_fsync_of_the_top_commits(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site:v2")
        await mkdir(walker, "team/site:v2/d")
        await sync(walker, "team/site:v2", data_only=True)
        await sync(walker, "team/site:v2/d")
        await sync(walker, "team/site/v1")
        assert await walker.xattr("team/site:v2", "user.oras.state") == "draft"


async def test_a_failed_commit_leaves_the_draft_and_says_why(
    mount: Mount, committer: FakeCommitter
) -> None:
    committer.fails_with = Forbidden("you may not")
    async with mount() as walker:
        top = await mkdir(walker, "team/site:v2")
        await write(walker, "team/site:v2/f", b"content")
        with pytest.raises(Forbidden):
            await sync(walker, "team/site:v2")
        assert "you may not" in await walker.text("team/site:v2/.oras/error")
        committer.fails_with = None
        await walker.filesystem.setxattr(top, "user.oras.commit", b"ticket")
        await trio.testing.wait_all_tasks_blocked()
        assert await walker.xattr("team/site:v2", "user.oras.state") == "committed"


async def test_a_commit_can_be_cancelled_and_not_begun_twice(
    mount: Mount, committer: FakeCommitter
) -> None:
    async with mount() as walker:
        top = await mkdir(walker, "team/site:v2")
        committer.is_running = True
        with pytest.raises(Busy):
            await walker.filesystem.setxattr(top, "user.oras.commit", b"ticket")
        await walker.filesystem.setxattr(top, "user.oras.commit", b"0")
        assert len(committer.cancelled) == 1


async def test_a_draft_without_a_name_is_published_by_a_rename(mount: Mount) -> None:
    async with mount() as walker:
        top = await mkdir(walker, "team/site/.new")
        await write(walker, "team/site/.new/f", b"two")
        site = (await walker.stat("team/site")).ino
        await sync(walker, "team/site/.new")
        assert (await walker.stat("team/site/.new")).ino == top
        await walker.filesystem.rename(site, ".new", site, "v1", 0)
        assert await walker.ls("team/site") == ["v1"]
        assert await walker.text("team/site/v1/f") == "two"
        assert (await walker.stat("team/site/v1")).ino == top


async def test_drafts_are_renamed_in_their_repository(mount: Mount) -> None:
    async with mount() as walker:
        top = await mkdir(walker, "team/site/v2")
        await write(walker, "team/site/v2/f", b"")
        await mkdir(walker, "team/site/v4")
        site, team = (await walker.stat("team/site")).ino, (await walker.stat("team")).ino
        rename = walker.filesystem.rename
        await rename(site, "v2", site, "v3", 0)
        assert (await walker.stat("team/site/v3")).ino == top
        await rename(site, "v3", team, "site:v3", 0)
        assert (await walker.stat("team/site:v3")).ino == top
        await rename(team, "site:v3", site, "v4", 0)
        for target, name, error in (
            (team, "other:v2", CrossDevice),
            (top, "below", CrossDevice),
            (site, "v1", NotEmpty),
            (site, "a@b", InvalidName),
        ):
            with pytest.raises(error):
                await rename(site, "v4", target, name, 0)
        with pytest.raises(InvalidInput):
            await rename(site, "v4", site, "v1", 2)
        with pytest.raises(NotPermitted):
            await rename(site, "v1", site, "v9", 0)
        with pytest.raises(CrossDevice):
            await rename(top, "f", site, "f", 0)


async def test_nothing_is_changed_while_a_commit_runs(mount: Mount, tmp_path: Path) -> None:
    async with mount() as walker:
        top = await mkdir(walker, "team/site:v2")
        file = await write(walker, "team/site:v2/f", b"content")
        drafts = walker.filesystem._mount.drafts
        assert drafts is not None
        drafts.store.drafts()[0].is_committing = True
        filesystem = walker.filesystem
        for action in (
            lambda: filesystem.open(file, os.O_RDWR),
            lambda: filesystem.mkdir(top, "d", 0o755),
            lambda: filesystem.unlink(top, "f"),
            lambda: filesystem.rename(top, "f", top, "g", 0),
            lambda: filesystem.setattr(file, AttrChanges(size=0), None),
            lambda: filesystem.setxattr(file, "user.x", b""),
        ):
            with pytest.raises(Busy):
                await action()
        assert await walker.text("team/site:v2/f") == "content"


async def test_writers_are_counted(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site:v2")
        file = await write(walker, "team/site:v2/f", b"content")
        drafts = walker.filesystem._mount.drafts
        assert drafts is not None
        draft = drafts.store.drafts()[0]
        opened = [await walker.filesystem.open(file, f) for f in (os.O_RDONLY, os.O_RDWR)]
        assert draft.writers == 1
        for each in opened:
            walker.filesystem.release(each.fh)
        assert draft.writers == 0


async def test_attributes_of_a_draft(mount: Mount) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site:v2")
        file = await write(walker, "team/site:v2/f", b"content")
        filesystem = walker.filesystem
        await filesystem.setxattr(file, "user.oras.mediatype", b"text/plain")
        await filesystem.setxattr(file, "user.mine", b"1")
        assert await walker.xattrs("team/site:v2/f") == ["user.mine", "user.oras.mediatype"]
        await filesystem.removexattr(file, "user.mine")
        for name, error in (
            ("user.mine", NoAttribute),
            ("user.oras.state", NotPermitted),
        ):
            with pytest.raises(error):
                await filesystem.removexattr(file, name)
        for name, refusal in (
            ("user.oras.state", NotPermitted),
            ("user.orasfs.x", NotPermitted),
            ("user.oras.order", InvalidInput),
            ("security.capability", Unsupported),
            ("system.posix_acl_access", Unsupported),
        ):
            with pytest.raises(refusal):
                await filesystem.setxattr(file, name, b"x")
        attr, _ = await filesystem.setattr(file, AttrChanges(mode=0o600, mtime_ns=7), None)
        assert (stat.S_IMODE(attr.mode), attr.mtime_ns) == (0o600, 7)


@pytest.mark.parametrize("order", ["commit", "discard", "edit", "base"])
async def test_what_is_in_a_draft_takes_no_orders(mount: Mount, order: str) -> None:
    async with mount() as walker:
        await mkdir(walker, "team/site:v2")
        file = await write(walker, "team/site:v2/f", b"content")
        with pytest.raises(InvalidInput, match=f"the top of the draft {HOST}/team/site:v2"):
            await walker.filesystem.setxattr(file, f"user.oras.{order}", b"1")


async def test_special_files_and_links_out_of_a_draft_are_refused(mount: Mount) -> None:
    async with mount() as walker:
        top = await mkdir(walker, "team/site:v2")
        filesystem = walker.filesystem
        with pytest.raises(NotPermitted):
            await filesystem.mknod(top, "fifo", stat.S_IFIFO | 0o644)
        entry = await filesystem.mknod(top, "f", stat.S_IFREG | 0o644)
        assert entry.attr is not None
        committed = (await walker.stat("team/site/v1/index.html")).ino
        with pytest.raises(CrossDevice):
            await filesystem.link(committed, top, "g")
        await filesystem.link(entry.attr.ino, top, "h")
        with pytest.raises(LocalFailure) as caught:
            await filesystem.link(entry.attr.ino, top, "h")
        assert caught.value.number == errno.EEXIST
        link = await filesystem.symlink(top, "link", "/etc/shadow")
        assert link.attr is not None
        assert await filesystem.readlink(link.attr.ino) == "/etc/shadow"


async def test_a_listing_shows_what_a_name_stands_for_now(mount: Mount) -> None:
    async with mount() as walker:
        top = await mkdir(walker, "team/site:v2")
        old = await write(walker, "team/site:v2/a", b"old")
        await write(walker, "team/site:v2/b", b"")
        filesystem = walker.filesystem
        fh = await filesystem.opendir(top)
        await filesystem.readdir(fh, 2)
        await filesystem.unlink(top, "b")
        await filesystem.unlink(top, "a")
        new = await write(walker, "team/site:v2/a", b"new")
        entries = await filesystem.readdir(fh, 0)
        assert [entry.name for entry in entries] == ["a"]
        assert entries[0].entry.attr is not None
        assert entries[0].entry.attr.ino == new != old
