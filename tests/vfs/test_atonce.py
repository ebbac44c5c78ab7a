"""What needs no waiting is answered at once, as by the operation that waits; the rest is not."""

import os

import pytest

from orasfs.errors import NoAttribute, ReadOnly, Unsupported
from orasfs.vfs.operations import ROOT_INO
from tests.fakes.repositories import FakeRegistries, FakeRepository
from tests.support.walking import HOST, mounted


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
