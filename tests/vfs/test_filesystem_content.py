"""What is inside an artifact: files, packed directories, indexes, and how they fail."""

import os
import stat

import pytest
import trio
from trio.testing import MockClock

from orasfs.errors import (
    ConnectionRefused,
    ContentRefused,
    InvalidContent,
    IsADirectory,
    NotADirectory,
    NotFound,
    ReadOnly,
    TimedOut,
)
from orasfs.oci import mediatype
from orasfs.oci.digest import Digest
from orasfs.tree.views import ViewOptions
from orasfs.vfs.operations import FOREVER_SECONDS
from orasfs.vfs.options import FilesystemOptions
from tests.fakes.notifier import MemoryNotifier
from tests.fakes.repositories import FakeRegistries, FakeRepository, tar_of
from tests.support.walking import HOST, STATUS, mounted

CREATED = {"org.opencontainers.image.created": "2020-01-02T03:04:05Z"}
CREATED_NS = 1_577_934_245 * 10**9
PACKED_NS = 1_600_000_000 * 10**9
DOCS = tar_of(
    {"docs": None, "docs/readme.md": b"read me", "docs/sub": None, "docs/sub/deep": b"deep"},
    links={"docs/hard.md": "docs/readme.md", "docs/link.md": "->readme.md"},
)


@pytest.fixture
def registries() -> FakeRegistries:
    return FakeRegistries()


@pytest.fixture
def repository(registries: FakeRegistries) -> FakeRepository:
    return registries.add(HOST).add("a")


async def test_raw_layers_are_files_with_the_manifests_time(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    layers = [
        repository.layer(b"hello", "artifact.txt"),
        repository.layer(b"nested", "a/b/c.txt"),
        repository.layer(b"script", "run.sh", io__orasfs__mode="0755"),
        repository.layer(b"no name"),
    ]
    repository.push(*layers, tag="v1", annotations=CREATED)
    async with mounted(registries) as mount:
        assert await mount.ls("a/v1") == ["a", "artifact.txt", "run.sh"]
        attr = await mount.stat("a/v1/artifact.txt")
        assert (attr.mode, attr.size, attr.blocks) == (stat.S_IFREG | 0o644, 5, 1)
        assert attr.mtime_ns == CREATED_NS
        assert await mount.text("a/v1/a/b/c.txt") == "nested"
        assert stat.S_IMODE((await mount.stat("a/v1/run.sh")).mode) == 0o755


async def test_below_a_digest_everything_holds_for_ever(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "d/x"), tag="v1")
    async with mounted(registries) as mount:
        for path in ("a/v1/d", "a/v1/d/x"):
            entry = await mount.entry(path)
            assert (entry.name_seconds, entry.attr_seconds) == (FOREVER_SECONDS,) * 2
        for path in ("a/v1/nope", "a/v1/d/nope"):
            entry = await mount.entry(path)
            assert (entry.attr, entry.name_seconds) == (None, FOREVER_SECONDS)
        opened = await mount.filesystem.open((await mount.stat("a/v1/d/x")).ino, os.O_RDONLY)
        assert opened.keep_cache
        assert not opened.direct_io


async def test_only_names_below_a_digest_are_the_kernels_to_keep(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "d/file"), tag="v1")
    async with mounted(registries) as mount:
        kept = {}
        for path in ("a", "a/v1", "a/v1/d", "a/v1/.oras"):
            fh = await mount.filesystem.opendir((await mount.stat(path)).ino)
            kept[path] = mount.filesystem.keeps_names(fh)
            mount.filesystem.releasedir(fh)
        assert kept == {"a": False, "a/v1": False, "a/v1/d": True, "a/v1/.oras": False}


async def test_a_manifest_is_fetched_once_and_only_when_something_below_is_wanted(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "x"), repository.layer(b"y", "y"), tag="v1")
    async with mounted(registries) as mount:
        await mount.stat("a/v1")
        assert "fetch_manifest" not in {call[0] for call in registries.calls}
        await mount.text("a/v1/x")
        await mount.text("a/v1/y")
        assert [call[0] for call in registries.calls].count("fetch_manifest") == 1


async def test_a_packed_directory_is_its_tar(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), tag="v1", annotations=CREATED)
    async with mounted(registries) as mount:
        attr = await mount.stat("a/v1/docs")
        assert (attr.mode, attr.mtime_ns) == (stat.S_IFDIR | 0o750, PACKED_NS)
        assert await mount.ls("a/v1/docs") == ["hard.md", "link.md", "readme.md", "sub"]
        assert await mount.text("a/v1/docs/sub/deep") == "deep"
        attr = await mount.stat("a/v1/docs/readme.md")
        assert (attr.mode, attr.size) == (stat.S_IFREG | 0o640, 7)
        link = await mount.stat("a/v1/docs/link.md")
        assert link.mode == stat.S_IFLNK | 0o777, "whatever the tar says, as on any disk"
        assert await mount.filesystem.readlink(link.ino) == "readme.md"
        assert [call[0] for call in registries.calls].count("open_layer") == 1


async def test_hard_links_are_one_inode(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), tag="v1")
    async with mounted(registries) as mount:
        one, other = [await mount.stat(f"a/v1/docs/{n}.md") for n in ("readme", "hard")]
        assert one == other
        assert one.link_count == 2
        listed = {e.name: e.entry.attr for e in await mount.entries("a/v1/docs")}
        assert listed["readme.md"] == listed["hard.md"] == one


async def test_a_large_packed_directory_is_not_fetched_for_its_stat(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), tag="v1", annotations=CREATED)
    options = FilesystemOptions(eager_layer_bytes=100)
    async with mounted(registries, options=options) as mount:
        entry = await mount.entry("a/v1/docs")
        assert entry.attr is not None
        assert (entry.attr.mode, entry.attr.mtime_ns) == (stat.S_IFDIR | 0o755, CREATED_NS)
        assert entry.attr_seconds == 0
        (listed,) = await mount.entries("a/v1")
        assert (listed.entry.name_seconds, listed.entry.attr_seconds) == (0, 0)
        assert "open_layer" not in {call[0] for call in registries.calls}
        await mount.ls("a/v1/docs")
        attr, seconds = await mount.filesystem.getattr(entry.attr.ino)
        assert (attr.mtime_ns, seconds) == (PACKED_NS, FOREVER_SECONDS)


async def test_a_refused_layer_fails_who_looks_inside_and_says_why(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), repository.layer(b"x", "x"), tag="v1")
    repository.broken_layers[Digest.of(DOCS)] = ContentRefused("docs: leaves the archive: ../x")
    async with mounted(registries) as mount:
        await mount.stat("a/v1/docs")
        with pytest.raises(ContentRefused):
            await mount.ls("a/v1/docs")
        with pytest.raises(ContentRefused):
            await mount.entry("a/v1/docs/x")
        assert await mount.text("a/v1/x") == "x"
        for path in ("a/v1/.oras/error", "a/.oras/error"):
            assert "ContentRefused: docs: leaves the archive: ../x" in await mount.text(path)


async def test_two_titles_of_different_content_are_listed_and_fail(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"1", "f"), repository.layer(b"2", "./f"), tag="v1")
    async with mounted(registries) as mount:
        (listed,) = await mount.entries("a/v1")
        assert listed.name == "f"
        assert listed.entry.name_seconds == 0
        assert listed.entry.attr is not None
        with pytest.raises(InvalidContent, match="duplicate"):
            await mount.entry("a/v1/f")
        with pytest.raises(InvalidContent, match="duplicate"):
            await mount.filesystem.open(listed.entry.attr.ino, os.O_RDONLY)
        assert "duplicate" in await mount.text("a/v1/.oras/error")


async def test_an_index_has_a_directory_for_each_child(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    children = [repository.push(repository.layer(text, "f")) for text in (b"amd", b"arm")]
    platforms = ("linux/amd64", "linux/arm64")
    index = repository.push_index(*children, tag="v1", platforms=platforms)
    async with mounted(registries) as mount:
        assert await mount.ls("a/v1") == ["linux-amd64", "linux-arm64"]
        assert await mount.text("a/v1/linux-arm64/f") == "arm"
        digest = await mount.xattr("a/v1/linux-amd64", "user.oras.digest")
        assert digest == str(children[0].digest)
        assert await mount.text("a/v1/linux-amd64/.oras/reference") == f"{HOST}/a@{digest}\n"
    options = FilesystemOptions(view=ViewOptions(platform="linux/arm64"))
    async with mounted(registries, options=options) as mount:
        assert await mount.text("a/v1/f") == "arm"
        assert await mount.xattr("a/v1", "user.oras.digest") == str(index.digest)
    options = FilesystemOptions(view=ViewOptions(platform="windows/amd64"))
    async with mounted(registries, options=options) as mount:
        with pytest.raises(NotFound, match="windows/amd64"):
            await mount.ls("a/v1")
        assert "windows/amd64" in await mount.text("a/v1/.oras/error")


async def test_a_container_image_shows_its_merged_root(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    below = tar_of({"etc": None, "etc/gone": b"1", "etc/kept": b"2"})
    above = tar_of({"etc": None, "etc/.wh.gone": b"", "bin": None, "bin/sh": b"#!"})
    layers = [
        {**repository.layer(tar), "mediaType": "application/vnd.oci.image.layer.v1.tar"}
        for tar in (below, above)
    ]
    config = {
        "mediaType": mediatype.OCI_CONFIG,
        "digest": str(repository.blob(b"{ }")),
        "size": 3,
    }
    repository.push(*layers, tag="v1", config=config)
    async with mounted(registries) as mount:
        assert await mount.ls("a/v1") == ["bin", "etc"]
        assert await mount.ls("a/v1/etc") == ["kept"]
        assert await mount.text("a/v1/etc/kept") == "2"


async def test_an_unreadable_manifest_fails_and_is_explained(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    raw = b'{"schemaVersion": 2, "layers": 7}'
    descriptor = repository.push_raw(raw, mediatype.OCI_MANIFEST, "v1")
    async with mounted(registries) as mount:
        with pytest.raises(InvalidContent):
            await mount.ls("a/v1")
        assert "layers" in await mount.text("a/v1/.oras/error")
        assert await mount.read("a/v1/.oras/manifest.json") == raw
        assert str(descriptor.digest) in await mount.text("a/v1/.oras/reference")
        assert await mount.ls("a/v1/.oras") == ["error", "manifest.json", "reference", "referrers"]


async def test_writing_is_refused(registries: FakeRegistries, repository: FakeRepository) -> None:
    repository.push(repository.layer(b"x", "x"), tag="v1")
    async with mounted(registries) as mount:
        ino = (await mount.stat("a/v1/x")).ino
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT):
            with pytest.raises(ReadOnly):
                await mount.filesystem.open(ino, flags)


async def test_files_and_directories_refuse_what_they_are_not(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "x"), tag="v1")
    async with mounted(registries) as mount:
        with pytest.raises(NotADirectory):
            await mount.ls("a/v1/x")
        with pytest.raises(NotADirectory):
            await mount.entry("a/v1/x/y")
        with pytest.raises(IsADirectory):
            await mount.read("a/v1")
        assert await mount.read("a/.oras/error") == b""


async def test_a_missing_blob_fails_and_is_explained(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "x"), tag="v1")
    del repository.content[Digest.of(b"x")]
    async with mounted(registries) as mount:
        with pytest.raises(NotFound):
            await mount.read("a/v1/x")
        assert "open: NotFound" in await mount.text("a/v1/.oras/error")


async def test_an_open_that_gave_up_leaves_nothing_open(
    registries: FakeRegistries, repository: FakeRepository, autojump_clock: MockClock
) -> None:
    repository.push(repository.layer(b"x", "x"), tag="v1")
    async with mounted(registries) as mount:
        ino = (await mount.stat("a/v1/x")).ino
        repository.gate = trio.Event()
        with pytest.raises(TimedOut):
            await mount.filesystem.open(ino, os.O_RDONLY)
        repository.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [reader.is_closed for reader in repository.readers] == [True]


async def test_a_listing_that_fails_half_way_says_so(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.page_size = 1
    repository.push(tag="v1")
    repository.push(tag="v2")
    async with mounted(registries) as mount:
        fh = await mount.filesystem.opendir((await mount.stat("a")).ino)
        assert [each.name for each in await mount.filesystem.readdir(fh, 0)] == ["v1"]
        repository.failure = ConnectionRefused("refused")
        with pytest.raises(ConnectionRefused):
            await mount.filesystem.readdir(fh, 1)
        repository.failure = None
        assert [each.name for each in await mount.filesystem.readdir(fh, 1)] == ["v2"]


async def test_wrong_content_is_dropped_from_the_kernels_cache(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"x", "x"), repository.layer(b"y", "y"), tag="v1")

    async with mounted(registries) as mount:
        attr = await mount.stat("a/v1/x")
        await mount.stat("a/v1/y")
        mount.filesystem.content_mismatch(Digest.of(b"x"))
        notifier = MemoryNotifier()
        mount.filesystem.set_notifier(notifier)
        mount.filesystem.content_mismatch(Digest.of(b"x"))
        assert notifier.told == [attr.ino]


async def test_a_listing_that_the_kernel_does_not_take_leaves_no_inodes(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(*(repository.layer(b"%d" % n, f"f{n:04}") for n in range(1000)), tag="v1")
    async with mounted(registries) as mount:
        ino = (await mount.stat("a/v1")).ino
        before = len(mount.filesystem._tables.inodes)
        fh = await mount.filesystem.opendir(ino)
        entries = await mount.filesystem.readdir(fh, 0)
        assert entries[0].entry.attr is not None
        mount.filesystem.count_lookup(entries[0].entry.attr.ino)
        await mount.filesystem.readdir(fh, 1)
        mount.filesystem.releasedir(fh)
        assert len(mount.filesystem._tables.inodes) == before + 1
        mount.filesystem.forget(entries[0].entry.attr.ino, 1)
        assert len(mount.filesystem._tables.inodes) == before
        assert mount.filesystem.statfs() == STATUS


async def test_a_member_is_read_after_its_layer_was_put_away(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), tag="v1")
    async with mounted(registries) as mount:
        attr = await mount.stat("a/v1/docs/readme.md")
        directory = await mount.stat("a/v1/docs")
        repository.layers.clear()
        opened = await mount.filesystem.open(attr.ino, os.O_RDONLY)
        assert await mount.filesystem.read(opened.fh, 0, 100) == b"read me"
        repository.layers.clear()
        entry = await mount.filesystem.lookup(directory.ino, "readme.md")
        assert entry.attr == attr


async def test_of_what_is_in_a_layer_only_counts_are_kept(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.packed(DOCS, "docs"), tag="v1")
    async with mounted(registries) as mount:
        top = (await mount.stat("a/v1/docs")).ino
        before = len(list(mount.filesystem._tables.inodes))
        attr = await mount.stat("a/v1/docs/readme.md")
        fh = await mount.filesystem.opendir(top)
        listed = {each.name: each.entry.attr for each in await mount.filesystem.readdir(fh, 0)}
        assert listed["readme.md"] == attr
        assert len(list(mount.filesystem._tables.inodes)) == before
        repository.layers.clear()
        assert (await mount.filesystem.getattr(attr.ino))[0] == attr
        mount.filesystem.releasedir(fh)
        mount.filesystem.forget(attr.ino, 1)
        with pytest.raises(KeyError):
            await mount.filesystem.getattr(attr.ino)


async def test_a_restored_layer_that_is_another_is_dropped_from_the_kernels_cache(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    layer = repository.packed(DOCS, "docs")
    repository.push(layer, tag="v1")
    async with mounted(registries) as mount:
        attr = await mount.stat("a/v1/docs/readme.md")
        notifier = MemoryNotifier()
        mount.filesystem.set_notifier(notifier)
        mount.filesystem.content_mismatch(Digest.parse(str(layer["digest"])))
        assert notifier.told == [attr.ino]
