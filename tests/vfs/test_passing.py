"""Packed directories of which a part has passed: what is told of them, and for how long."""

import stat

import pytest

from orasfs.oci.digest import Digest
from orasfs.tree.layerindex import Member, MemberKind
from orasfs.vfs.operations import FOREVER_SECONDS
from orasfs.vfs.options import FilesystemOptions
from tests.fakes.repositories import FakeRegistries, FakeRepository, tar_of
from tests.support.walking import HOST, mounted

DOCS = tar_of(
    {"docs": None, "docs/first": b"first", "docs/sub/deep": b"deep", "docs/sub": None},
    links={"docs/hard": "docs/first"},
)
PASSED = 5 * 512  # the directory, two files with a block of data each
OPTIONS = FilesystemOptions(eager_layer_bytes=0)


@pytest.fixture
def registries() -> FakeRegistries:
    return FakeRegistries()


@pytest.fixture
def repository(registries: FakeRegistries) -> FakeRepository:
    repository = registries.add(HOST).add("a")
    repository.push(repository.packed(DOCS, "docs"), tag="v1")
    repository.passed[Digest.of(DOCS)] = PASSED
    return repository


async def test_what_has_passed_is_found_and_not_kept_by_the_kernel(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    async with mounted(registries, options=OPTIONS) as mount:
        entry = await mount.entry("a/v1/docs/first")
        assert entry.attr is not None
        assert (entry.name_seconds, entry.attr_seconds) == (0, 0)
        assert (entry.attr.size, entry.attr.link_count) == (5, 1)
        assert await mount.text("a/v1/docs/first") == "first"
        assert "open_layer" not in {call[0] for call in registries.calls}


async def test_all_is_for_ever_and_of_the_same_inode_once_the_layer_has_passed(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    async with mounted(registries, options=OPTIONS) as mount:
        before = await mount.stat("a/v1/docs/first")
        deep = await mount.stat("a/v1/docs/sub/deep")
        sub = await mount.entry("a/v1/docs/sub")
        assert sub.attr is not None
        assert (sub.attr.mode, sub.attr_seconds) == (stat.S_IFDIR | 0o755, 0)
        assert (await mount.stat("a/v1/docs/hard")).ino == before.ino
        assert not repository.passed, "a name that had not passed was waited for"
        entry = await mount.entry("a/v1/docs/first")
        assert entry.attr is not None
        assert (entry.name_seconds, entry.attr_seconds) == (FOREVER_SECONDS,) * 2
        assert (entry.attr.ino, entry.attr.link_count) == (before.ino, 2)
        assert await mount.stat("a/v1/docs/sub/deep") == deep
        sub = await mount.entry("a/v1/docs/sub")
        assert sub.attr is not None
        assert (sub.attr.mode, sub.attr_seconds) == (stat.S_IFDIR | 0o750, FOREVER_SECONDS)


async def test_listing_waits_for_the_whole_layer(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    async with mounted(registries, options=OPTIONS) as mount:
        assert await mount.ls("a/v1/docs") == ["first", "hard", "sub"]


async def test_head_of_a_large_layer_tells_the_mode_of_its_directory(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    top = Member(1, MemberKind.DIRECTORY, 0o711, 7, 0, "", 1)
    async with mounted(registries, options=OPTIONS) as mount:
        repository.peeked[Digest.of(DOCS)] = top
        assert await mount.ls("a/v1") == ["docs"]
        entry = await mount.entry("a/v1/docs")
        assert entry.attr is not None
        assert (entry.attr.mode, entry.attr.mtime_ns) == (stat.S_IFDIR | 0o711, 7)
        assert entry.attr_seconds == 0
        assert "open_layer" not in {call[0] for call in registries.calls}
        assert "begin_layer" not in {call[0] for call in registries.calls}
