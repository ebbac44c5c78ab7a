"""What needs no waiting is answered at once, as by the operation that waits; the rest is not."""

import os
from collections.abc import Iterator, Sequence

import pytest

from orasfs.errors import NoAttribute, ReadOnly, Unsupported
from orasfs.vfs.operations import ROOT_INO, Fh, Ino, MemberRow
from tests.fakes.repositories import FakeRegistries, FakeRepository, tar_of
from tests.support.walking import HOST, Walker, mounted

DOCS = tar_of(
    {"docs": None, "docs/a": b"a", "docs/sub": None, "docs/sub/deep": b"deep", "docs/new/f": b"f"},
    links={"docs/hard": "docs/a", "docs/link": "->a"},
)


@pytest.fixture
def registries() -> FakeRegistries:
    return FakeRegistries()


@pytest.fixture
def repository(registries: FakeRegistries) -> FakeRepository:
    return registries.add(HOST).add("a")


async def test_a_name_is_found_at_once_when_it_is_known(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "d/file"), tag="v1")
    async with mounted(registries) as mount:
        filesystem = mount.filesystem
        assert filesystem.lookup_now((await mount.stat("a")).ino, "v1") is None
        assert filesystem.lookup_now(ROOT_INO, ".orasfs") is None
        inside = (await mount.stat("a/v1/d")).ino
        entry = filesystem.lookup_now(inside, "file")
        assert entry == await filesystem.lookup(inside, "file")
        assert entry is not None
        assert entry.attr is not None
        assert filesystem.getattr_now(entry.attr.ino) == (entry.attr, entry.attr_seconds)


async def test_a_listing_is_at_hand_when_its_names_are(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "d/file"), tag="v1")
    async with mounted(registries) as mount:
        filesystem = mount.filesystem
        top = (await mount.stat("a/v1")).ino
        assert filesystem.opendir_now(top) is None
        inside = (await mount.stat("a/v1/d")).ino
        fh = filesystem.opendir_now(inside)
        assert fh is not None
        found = filesystem.readdir_now(fh, 0)
        assert found is not None
        assert [each.name for each in found] == ["file"]
        assert filesystem.readdir_now(fh, found[-1].next_id) == []
        filesystem.releasedir(fh)


async def test_files_are_opened_at_once_to_read_and_never_to_write(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "file"), tag="v1")
    async with mounted(registries) as mount:
        filesystem = mount.filesystem
        generated = (await mount.stat("a/v1/.oras/reference")).ino
        file = filesystem.open_now(generated, os.O_RDONLY)
        assert file is not None
        assert filesystem.backing_fd(file.fh) is None
        filesystem.release(file.fh)
        assert filesystem.open_now(generated, os.O_RDWR) is None
        with pytest.raises(ReadOnly):
            await filesystem.open(generated, os.O_RDWR)
        assert filesystem.open_now((await mount.stat("a/v1/file")).ino, os.O_RDONLY) is None


async def test_attributes_that_nothing_has_are_refused_at_once(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    async with mounted(registries) as mount:
        filesystem = mount.filesystem
        with pytest.raises(NoAttribute):
            filesystem.getxattr_now(ROOT_INO, "security.capability")
        with pytest.raises(Unsupported):
            filesystem.getxattr_now(ROOT_INO, "system.posix_acl_access")
        assert filesystem.getxattr_now(ROOT_INO, "user.oras.state") is None


def take_members(
    mount: Walker, fh: Fh, start: int = 0, limit: int = 100
) -> list[MemberRow] | None:
    """Take members as a transport does whose buffer takes `limit` of them."""
    taken: list[MemberRow] = []

    def consume(rows: Iterator[MemberRow]) -> Sequence[Ino]:
        taken.extend(row for row, _ in zip(rows, range(limit), strict=False))
        return [row[1] for row in taken]

    return taken if mount.filesystem.list_members(fh, start, consume) else None


async def test_members_of_a_layer_are_listed_as_by_readdir(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), tag="v1")
    async with mounted(registries) as mount:
        for path in ("a/v1/docs", "a/v1/docs/sub", "a/v1/docs/new"):
            fh = await mount.filesystem.opendir((await mount.stat(path)).ino)
            entries = await mount.filesystem.readdir(fh, 0)
            expected = [
                (os.fsencode(each.name), attr.ino, attr.mode, attr.size, attr.mtime_ns)
                for each in entries
                if (attr := each.entry.attr) is not None and each.entry.name_seconds
            ]
            members = take_members(mount, fh)
            assert members is not None
            assert [row[:5] for row in members] == expected
            assert [row[5] for row in members] == [
                each.entry.attr.link_count for each in entries if each.entry.attr
            ]
            start = entries[0].next_id
            assert take_members(mount, fh, start) == members[1:]
            mount.filesystem.releasedir(fh)


async def test_only_members_that_were_taken_count_as_lookups(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), tag="v1")
    async with mounted(registries) as mount:
        inodes = mount.filesystem._tables.inodes
        fh = await mount.filesystem.opendir((await mount.stat("a/v1/docs")).ino)
        before = len(inodes)
        assert take_members(mount, fh, limit=0) == []
        assert len(inodes) == before
        members = take_members(mount, fh, limit=2)
        assert members is not None
        assert [row[0] for row in members] == [b"a", b"hard"]
        assert inodes.lookups(members[0][1]) == inodes.lookups(members[1][1]) == 2
        assert len(inodes) == before + 1
        for row in members:
            mount.filesystem.forget(row[1], 1)
        assert len(inodes) == before
        assert not list(inodes.members())


async def test_other_directories_are_listed_by_their_nodes(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(
        repository.packed(DOCS, "docs"), repository.layer(b"raw", "docs/raw"), tag="v1"
    )
    async with mounted(registries) as mount:
        for path in ("a", "a/v1", "a/v1/docs"):
            fh = await mount.filesystem.opendir((await mount.stat(path)).ino)
            assert take_members(mount, fh) is None
            mount.filesystem.releasedir(fh)


async def test_a_small_member_of_a_layer_is_had_whole_once(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    big = tar_of({"docs": None, "docs/a": b"a", "docs/b": b"b" * 100_000, "docs/none": b""})
    repository.push(repository.packed(big, "docs"), repository.layer(b"raw", "raw"), tag="v1")
    async with mounted(registries) as mount:
        filesystem, found = mount.filesystem, []
        for path in ("docs/a", "docs/a", "docs/b", "docs/none", "raw"):
            file = await filesystem.open((await mount.stat(f"a/v1/{path}")).ino, os.O_RDONLY)
            found.append(filesystem.whole_now(file.fh))
            filesystem.release(file.fh)
        assert found == [b"a", None, None, None, None]


async def open_in_order(mount: Walker, paths: Sequence[str]) -> list[Ino | None]:
    """Open files one after the other; return what is likely to be opened after each."""
    found = []
    for path in paths:
        file = await mount.filesystem.open((await mount.stat(path)).ino, os.O_RDONLY)
        found.append(mount.filesystem.follower(file.fh))
        mount.filesystem.release(file.fh)
    return found


async def test_who_opens_files_in_the_tar_s_order_is_likely_to_go_on(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    names = ["docs/a", "docs/b", "docs/sub/c", "docs/sub/d"]
    tree = {"docs": None, **dict.fromkeys(names[:2], b"x"), "docs/sub": None}
    tree |= dict.fromkeys(names[2:], b"x")
    repository.push(repository.packed(tar_of(tree), "docs"), tag="v1")
    async with mounted(registries) as mount:
        paths = [f"a/v1/{name}" for name in names]
        inos = [(await mount.stat(path)).ino for path in paths]
        assert await open_in_order(mount, paths) == [None, inos[2], inos[3], None]
        assert await open_in_order(mount, paths[::-1]) == [None] * 4


async def test_nothing_follows_what_is_in_no_layer(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"a", "a"), repository.layer(b"b", "b"), tag="v1")
    async with mounted(registries) as mount:
        assert await open_in_order(mount, ["a/v1/a", "a/v1/b"]) == [None, None]


async def test_a_small_member_that_is_not_open_is_had_whole_once(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    tree = tar_of({"docs": None, "docs/a": b"a", "docs/b": b"b" * 100_000, "docs/none": b""})
    repository.push(repository.packed(tree, "docs"), repository.layer(b"raw", "raw"), tag="v1")
    async with mounted(registries) as mount:
        filesystem, found = mount.filesystem, []
        for path in ("docs/a", "docs/a", "docs/b", "docs/none", "docs", "raw"):
            found.append(filesystem.whole_of((await mount.stat(f"a/v1/{path}")).ino))
        assert found == [b"a", None, None, None, None, None]
        ino = (await mount.stat("a/v1/docs/a")).ino
        filesystem.forget(ino, filesystem._tables.inodes.lookups(ino))
        assert filesystem.whole_of(ino) is None
