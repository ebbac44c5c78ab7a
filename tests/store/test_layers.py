"""Unpacking layers and reading their members, through the cache."""

import gc
import gzip
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from backports import zstd

from orasfs.errors import (
    ConnectionRefused,
    ContentMismatch,
    ContentRefused,
    InvalidContent,
    NotFound,
    StorageFull,
    Unreachable,
)
from orasfs.oci.digest import Digest
from orasfs.store.files import disk
from orasfs.store.packed.openlayer import OpenLayer
from orasfs.tree.layers import Layer
from orasfs.tree.node import PackedLayer
from tests.fakes.source import MemorySource
from tests.support import caches
from tests.support.archives import file, files, link, tar_of
from tests.support.caches import place_of, repository_at

FILES = {"docs/a.txt": b"hello", "docs/sub/zeros": bytes(300_000), "docs/big": os.urandom(500_000)}


TAR = tar_of(*files(FILES))
OUTWARD = tar_of(*files(FILES), link("docs/out", "../../etc/passwd"))
BLOBS = {
    "gzip": gzip.compress(TAR, 1),
    "zstd": zstd.compress(TAR),
    "plain": TAR,
}


def packed(
    source: MemorySource,
    blob: bytes,
    content_digest: Digest | None = None,
    *,
    has_whiteouts: bool = False,
) -> PackedLayer:
    root = "" if has_whiteouts else "docs"
    return PackedLayer(source.add_blob(blob), root, content_digest, has_whiteouts)


async def contents(layer: Layer) -> dict[str, bytes]:
    return await caches.contents(layer, FILES)


@pytest.mark.parametrize("kind", sorted(BLOBS))
async def test_members_are_what_was_packed(tmp_path: Path, kind: str) -> None:
    source = MemorySource()
    layer = packed(source, BLOBS[kind], Digest.of(TAR))
    async with repository_at(tmp_path, source) as repository:
        assert repository.layer_now(layer) is None
        opened = await repository.open_layer(layer)
        assert await contents(opened) == FILES
        assert opened.index.tar_size == len(TAR)
        assert repository.layer_now(layer) is opened
        assert await repository.open_layer(layer) is opened
    by_parts = {"index.chunks"} if kind == "plain" else set()  # the others are one stream
    names = {path.name for path in place_of(tmp_path, layer.descriptor).iterdir()}
    assert names == {"index", "slab", "summary"} | by_parts
    assert list((tmp_path / "ingest").iterdir()) == []


async def test_layer_is_unpacked_once_and_needs_no_blob_later(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, BLOBS["gzip"])
    async with repository_at(tmp_path, source) as repository:
        opened: list[Layer] = []

        async def open_it() -> None:
            opened.append(await repository.open_layer(layer))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(open_it)
        assert len(set(map(id, opened))) == 1
        assert repository._shared.layers._layers._counters.layers_unpacked == 1
    source.open_error = ConnectionRefused("down")
    (tmp_path / "blobs/sha256" / layer.descriptor.digest.hex).unlink()
    async with repository_at(tmp_path, source) as repository:
        at_once = repository.layer_now(layer)
        assert at_once is not None, "a small index is at hand after a remount"
        assert await contents(at_once) == FILES
        assert await contents(await repository.open_layer(layer)) == FILES
    assert len(source.streams) == 1


DAMAGES = [  # the slab's bytes are trusted to the disk, as a blob's are: only its size is checked
    (part, damage)
    for part in ("index", "slab", "summary")
    for damage in ("missing", "truncated", "changed")
    if (part, damage) != ("slab", "changed")
]


@pytest.mark.parametrize(("part", "damage"), DAMAGES)
async def test_damaged_parts_are_rebuilt(tmp_path: Path, part: str, damage: str) -> None:
    source = MemorySource()
    layer = packed(source, BLOBS["gzip"])
    async with repository_at(tmp_path, source) as repository:
        await repository.open_layer(layer)
    path = place_of(tmp_path, layer.descriptor) / part
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "changed":
        path.write_bytes(content[:-20] + b"x" * 20)
    async with repository_at(tmp_path, source) as repository:
        at_once = repository.layer_now(layer)
        assert (at_once is None) == (part != "slab"), "an index is of use without its slab"
        opened = await repository.open_layer(layer)
        assert isinstance(opened, OpenLayer)
        assert await contents(opened) == FILES
        if opened.unpacking is not None:
            await opened.unpacking.ended.wait()
        assert repository._shared.layers._layers._counters.layers_unpacked == 1
    async with repository_at(tmp_path, source) as repository:
        assert await contents(await repository.open_layer(layer)) == FILES
        assert repository._shared.layers._layers._counters.layers_unpacked == 0


async def test_zeros_take_no_disk(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, gzip.compress(tar_of(file("docs/zeros", bytes(64 << 20))), 9))
    async with repository_at(tmp_path, source) as repository:
        opened = await repository.open_layer(layer)
        ordinal = opened.index.locate("docs/zeros")
        assert ordinal is not None
        reader = opened.open_member(ordinal)
        assert reader.size == 64 << 20
        assert await reader.read(40 << 20, 1 << 20) == bytes(1 << 20)
        reader.close()
    status = (tmp_path / "blobs/sha256" / Digest.of(bytes(64 << 20)).hex).stat()
    assert status.st_size == 64 << 20
    assert status.st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_tar_of_another_digest_is_a_mismatch(tmp_path: Path, algorithm: str) -> None:
    source = MemorySource()
    wrong = packed(source, BLOBS["gzip"], Digest.of(b"other", algorithm))
    right = packed(source, BLOBS["gzip"], Digest.of(TAR, algorithm))
    async with repository_at(tmp_path, source) as repository:
        for _ in range(2):
            with pytest.raises(ContentMismatch, match="content digest"):
                await repository.open_layer(wrong)
        assert repository.layer_now(wrong) is None
        assert await contents(await repository.open_layer(right)) == FILES
        assert repository.layer_now(right) is not None
        assert repository._shared.layers._layers._counters.layers_unpacked == 1


async def test_layer_that_would_leave_its_title_is_refused(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, gzip.compress(OUTWARD))
    async with repository_at(tmp_path, source) as repository:
        for _ in range(2):
            with pytest.raises(ContentRefused):
                await repository.open_layer(layer)
        assert repository.layer_now(layer) is None
    async with repository_at(tmp_path, source) as repository:
        assert repository.layer_now(layer) is None


async def test_image_layer_is_not_judged_by_a_title(tmp_path: Path) -> None:
    source = MemorySource()
    blob = gzip.compress(OUTWARD)
    layer = packed(source, blob, has_whiteouts=True)
    async with repository_at(tmp_path, source) as repository:
        assert await contents(await repository.open_layer(layer)) == FILES


@pytest.mark.parametrize(
    "blob",
    [b"\x1f\x8b broken gzip", BLOBS["gzip"][:-100], b"x" * 5000, TAR[:3000]],
    ids=["broken", "cut", "no-tar", "cut-tar"],
)
async def test_blob_that_is_no_layer_is_invalid_once_and_for_all(
    tmp_path: Path, blob: bytes
) -> None:
    source = MemorySource()
    layer = packed(source, blob)
    async with repository_at(tmp_path, source) as repository:
        for _ in range(3):
            with pytest.raises(InvalidContent):
                await repository.open_layer(layer)
        assert len(source.streams) == 1
    assert list((tmp_path / "ingest").iterdir()) == []


async def test_missing_blob_is_asked_for_again(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, BLOBS["gzip"])
    content = source.blobs.pop(layer.descriptor.digest)
    async with repository_at(tmp_path, source) as repository:
        with pytest.raises(NotFound):
            await repository.open_layer(layer)
        source.add_blob(content)
        await trio.sleep(0.06)  # the failure is remembered for so long
        assert await contents(await repository.open_layer(layer)) == FILES


async def test_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource()
    layer = packed(source, BLOBS["gzip"])
    async with repository_at(tmp_path, source) as repository:
        reader = await repository.open_blob(layer.descriptor)
        await reader.read(0, 1)
        reader.close()
        written = 0

        def fill(fd: int, content: bytes, offset: int) -> None:
            nonlocal written
            written += len(content)
            if written > 100_000:
                raise OSError(28, "no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_fully", fill)
            with pytest.raises(StorageFull):
                await repository.open_layer(layer)
        assert not place_of(tmp_path, layer.descriptor).exists()
        assert list((tmp_path / "ingest").glob("*.tmp")) == []
        assert await contents(await repository.open_layer(layer)) == FILES


async def test_slab_is_closed_when_no_one_uses_its_layer(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, BLOBS["gzip"])
    async with repository_at(tmp_path, source) as repository:
        opened: Layer | None = await repository.open_layer(layer)
        assert isinstance(opened, OpenLayer)
        ordinal = opened.index.locate("docs/a.txt")
        assert ordinal is not None
        reader = opened.open_member(ordinal)
        fd = opened.slab_fd
        repository._shared.store.pending.settle_all()
        await trio.testing.wait_all_tasks_blocked()  # it is told by the next turn of the loop
        repository._shared.layers.relax()
        opened = None
        gc.collect()
        assert await reader.read(0, 10) == b"hello", "a reader keeps it open"
        reader.close()
        gc.collect()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        assert await contents(await repository.open_layer(layer)) == FILES


async def test_wrong_layer_blob_is_never_unpacked(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, BLOBS["gzip"])
    source.served[layer.descriptor.digest] = BLOBS["gzip"][:-1] + b"x"
    async with repository_at(tmp_path, source) as repository:
        with pytest.raises(ContentMismatch):
            await repository.open_layer(layer)
    assert not place_of(tmp_path, layer.descriptor).exists()


async def test_who_waits_for_a_check_that_is_stopped_is_told_in_words(tmp_path: Path) -> None:
    """The end of a mount is no reason for a task of its own to fail in another way."""
    source = MemorySource()
    layer = packed(source, BLOBS["gzip"])
    other = Digest("sha512", hashlib.sha512(TAR).hexdigest())
    async with repository_at(tmp_path, source) as repository:
        await repository.open_layer(layer)
        repository._shared.layers.stop()
        with pytest.raises(Unreachable, match="stopped"):
            await repository.open_layer(replace(layer, content_digest=other))
