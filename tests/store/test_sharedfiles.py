"""Files that a layer has in common with earlier ones: from where, and when they are fetched."""

import gc
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from orasfs.oci.manifest import Manifest, parse_document
from orasfs.staging.layerblob import Compression
from orasfs.store.packed.publishedlayer import PublishedLayer
from orasfs.store.repository import CachedRepository
from orasfs.tree.layers import Layer
from orasfs.tree.publishedindex import decode
from tests.fakes.source import MemorySource
from tests.support.archives import directory, files, tar_of
from tests.support.caches import LAZY, cache_at, content, forget_bytes, place_of
from tests.support.published import MIB, changed, hashed, packed, published
from tests.support.referred import Published, publish, refer

SMALL = {f"docs/sub/{number:02}": os.urandom(300_000) for number in range(8)}
FIRST = {**SMALL, "docs/large": os.urandom(2 * MIB), "docs/small": b"small", "docs/gone": b"x"}
CHANGED = {"docs/sub/03": os.urandom(300_000), "docs/small": b"SMALL", "docs/new": b"new"}
SECOND = {**{path: FIRST[path] for path in FIRST if path != "docs/gone"}, **CHANGED}


def _tar(contents: dict[str, bytes]) -> bytes:
    return tar_of(directory("docs"), directory("docs/sub"), *files(contents))


TARS = [_tar(FIRST), _tar(dict(sorted(SECOND.items())))]
BLOBS = [packed(tar=tar) for tar in TARS]
WHOLE = len(BLOBS[1])


@dataclass
class World:
    """Two versions of a directory, of which a cache has the first one unpacked."""

    root: Path
    source: MemorySource = field(default_factory=MemorySource)

    def __post_init__(self) -> None:
        self.first = publish(BLOBS[0], b"\0", source=self.source, tar=TARS[0])

    def second(self, index: bytes | None = None, *, is_vouched: bool = True) -> Published:
        """Publish the second version."""
        index = published(BLOBS[1]) if index is None else index
        return publish(BLOBS[1], index, source=self.source, tar=TARS[1], is_vouched=is_vouched)

    async def unpack(self, name: str = "a") -> None:
        """Have all of the first version, in a mount of its own."""
        async with cache_at(self.root, LAZY) as cache:
            await cache.repository(self.source, "host", name).complete_layer(self.first.layer)
        self.source.streams.clear()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def read(world: World, second: Published, name: str = "a") -> int:
    """Read all of the second version; return how much of its blob was asked for."""
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", name)
        await check(repository, second)
        assert isinstance(await repository.open_layer(second.layer), PublishedLayer)
    old = world.first.layer.descriptor.digest
    assert not [each for each in world.source.streams if each.digest == old]
    return second.bytes_of_layer


async def check(repository: CachedRepository, second: Published, *paths: str) -> Layer:
    opened = await repository.open_layer(second.layer)
    for path in paths or SECOND:
        assert await content(opened, path) == SECOND[path]
        assert await content(opened, path) == SECOND[path]
    assert not opened.is_verified
    return opened


async def test_only_what_changed_is_fetched_where_the_artifact_names_the_index(
    world: World,
) -> None:
    await world.unpack()
    second = world.second()
    assert 0 < await read(world, second) < 0.6 * WHOLE, "chunks are a MiB or less"


async def test_what_is_between_files_that_changed_is_not_fetched_with_them(
    tmp_path: Path,
) -> None:
    """They are read as if somebody read on and on, with gaps."""
    first = {f"docs/{number:03}": os.urandom(130_000) for number in range(120)}
    others = {f"docs/{number:03}": os.urandom(130_000) for number in range(0, 120, 6)}
    tar, tar_after = (tar_of(directory("docs"), *files(each)) for each in (first, first | others))
    world = World(tmp_path)
    world.first = publish(packed(tar=tar), b"\0", source=world.source, tar=tar)
    await world.unpack()
    blob = packed(tar=tar_after)
    second = publish(blob, source=world.source, tar=tar_after, is_vouched=True)
    chunks = decode(published(blob), second.layer.descriptor, "docs").chunks
    async with cache_at(tmp_path, LAZY) as cache:
        opened = await cache.repository(world.source, "host", "a").open_layer(second.layer)
        for path, wanted in (first | others).items():
            assert await content(opened, path) == wanted
    of_a_file = 2 + 130_000 * len(chunks) / len(tar_after)
    assert second.bytes_of_layer < len(others) * of_a_file * len(blob) / len(chunks)


async def test_index_that_the_artifact_does_not_name_shares_nothing(world: World) -> None:
    await world.unpack()
    assert await read(world, world.second(is_vouched=False)) > 0.95 * WHOLE


async def test_index_without_digests_shares_nothing(world: World) -> None:
    await world.unpack()
    assert await read(world, world.second(published(BLOBS[1], b""))) > 0.95 * WHOLE


async def test_layer_of_another_repository_is_not_used(world: World) -> None:
    await world.unpack("other")
    assert await read(world, world.second()) > 0.95 * WHOLE


async def test_what_one_repository_shares_another_one_does_not(world: World) -> None:
    """Both have the same second version, and only one had the first."""
    await world.unpack()
    second = world.second()
    async with cache_at(world.root, LAZY) as cache:
        one, other = (cache.repository(world.source, "host", name) for name in ("a", "b"))
        opened = await check(one, second, "docs/large")
        asked = second.bytes_of_layer
        assert (await other.open_layer(second.layer)) is not opened
        await check(other, second, "docs/large")
        assert second.bytes_of_layer >= asked + 2 * MIB


async def test_artifact_that_names_no_index_is_not_shown_what_another_one_shares(
    world: World,
) -> None:
    """They have the same layer, and both are open."""
    await world.unpack()
    vouched, plain = world.second(), world.second(is_vouched=False)
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        await check(repository, vouched, "docs/large")
        asked = plain.bytes_of_layer
        await check(repository, plain, "docs/large")
        assert plain.bytes_of_layer >= asked + 2 * MIB


async def test_layer_that_was_opened_in_the_same_mount_is_used(world: World) -> None:
    """It may have no final names yet."""
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        await repository.open_layer(world.first.layer)
        second = world.second()
        await check(repository, second)
        assert second.bytes_of_layer < 0.6 * WHOLE


async def test_layer_that_was_unpacked_before_anybody_asked_which_ones_is_used(
    world: World,
) -> None:
    await world.unpack("other")
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        assert repository.layer_now(world.first.layer) is not None
    assert await read(world, world.second()) < 0.6 * WHOLE


async def test_vouched_index_is_tried_before_others(world: World) -> None:
    await world.unpack()
    second = world.second()
    manifests = world.source.manifests
    (subject,) = (each for each in manifests.values() if each.digest == second.layer.manifest)
    for index in (published(BLOBS[1], b""), changed(BLOBS[1])):
        refer(world.source, subject, second.layer.descriptor, index)
    world.source.manifests = dict(reversed(manifests.items()))
    first, *_ = await world.source.list_referrers(subject.digest)
    named = parse_document(await world.source.fetch_manifest(first))
    assert isinstance(named, Manifest)
    assert named.layers[0].digest != second.index.digest
    assert await read(world, second) < 0.6 * WHOLE


async def test_bytes_match_digests_that_are_wrong_in_an_index(world: World) -> None:
    """A file that is said to be what it is not is not found in the earlier layer."""
    await world.unpack()
    digests = bytearray(hashed(BLOBS[1])[2])
    digests[:] = os.urandom(len(digests))
    assert await read(world, world.second(published(BLOBS[1], bytes(digests)))) > 0.95 * WHOLE


async def test_earlier_layer_whose_slab_was_evicted_is_not_used(world: World) -> None:
    await world.unpack()
    forget_bytes(world.root)
    assert await read(world, world.second()) > 0.95 * WHOLE


async def test_file_that_is_evicted_while_it_is_used_is_fetched(world: World) -> None:
    await world.unpack()
    second = world.second()
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        opened = await check(repository, second, "docs/sub/00")
        asked = second.bytes_of_layer
        forget_bytes(world.root)
        await check(repository, second, "docs/sub/01")
        assert second.bytes_of_layer == asked, "the slab is open"
        assert await content(opened, "docs/large") == SECOND["docs/large"]
        assert second.bytes_of_layer >= asked + 2 * MIB
        await check(repository, second)
    old = world.first.layer.descriptor.digest
    assert not [each for each in world.source.streams if each.digest == old]


async def test_damaged_slab_gives_no_wrong_byte(world: World) -> None:
    await world.unpack()
    slab = place_of(world.root, world.first.layer.descriptor) / "slab"
    damaged = bytearray(slab.read_bytes())
    at = damaged.index(FIRST["docs/sub/05"][:50])
    damaged[at + 7] ^= 1
    slab.write_bytes(damaged)
    second = world.second()
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        await check(repository, second, "docs/sub/04")
        asked = second.bytes_of_layer
        await check(repository, second, "docs/sub/05")
        assert second.bytes_of_layer > asked


async def test_truncated_slab_and_damaged_index_are_as_none(world: World) -> None:
    await world.unpack()
    place = place_of(world.root, world.first.layer.descriptor)
    index = bytearray((place / "index").read_bytes())
    index[-1] ^= 1
    (place / "index").write_bytes(index)
    assert await read(world, world.second()) > 0.95 * WHOLE


async def test_what_is_shared_is_at_hand_once_it_was_read(world: World) -> None:
    """Those behind it, too: they are judged together."""
    await world.unpack()
    second = world.second()
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        opened = await repository.open_layer(second.layer)
        reader = opened.open_member(opened.index.locate("docs/large") or 0)
        assert reader.read_now(0, 100) is None
        assert await reader.read(5, 100) == SECOND["docs/large"][5:105]
        assert reader.read_now(0, 100) == SECOND["docs/large"][:100]
        assert not reader.is_verified
        assert reader.backing_fd() is None  # type: ignore[attr-defined]
        reader.close()
        reader.close()
        assert second.bytes_of_layer == 0


async def test_nothing_is_shared_once_the_layer_itself_is_here(world: World) -> None:
    await world.unpack()
    second = world.second()
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        opened = await repository.open_layer(second.layer)
        reader = opened.open_member(opened.index.locate("docs/large") or 0)
        assert await reader.read(0, 10) == SECOND["docs/large"][:10]
        assert isinstance(opened, PublishedLayer)
        opened.forget_parts()
        assert opened.sharing() is None
        assert await reader.read(0, 10) == SECOND["docs/large"][:10]
        assert reader.is_verified
        reader.close()


async def test_index_whose_parts_are_wrong_shares_nothing_any_more(world: World) -> None:
    """Then all comes from the layer itself, which is fetched whole."""
    await world.unpack()

    def wrong(table: bytearray) -> None:
        count: int = struct.unpack_from("<I", table, 12)[0]
        table[-32 * count :] = bytes(32 * count)

    index = changed(BLOBS[1], chunks=wrong, digests=hashed(BLOBS[1])[2])
    second = world.second(index)
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        opened = await repository.open_layer(second.layer)
        for path, wanted in SECOND.items():
            assert await content(opened, path) == wanted
        assert opened.is_verified
    assert second.source.streams[-1].stop is None


async def test_earlier_layer_is_let_go_of_with_the_later_one(world: World) -> None:
    await world.unpack()
    second = world.second()
    slab = place_of(world.root, world.first.layer.descriptor) / "slab"
    async with cache_at(world.root, LAZY) as cache:
        repository = cache.repository(world.source, "host", "a")
        await check(repository, second, "docs/sub/00")
        assert _is_open(slab)
        repository._shared.layers.relax()
        gc.collect()
        assert not _is_open(slab)


def _is_open(path: Path) -> bool:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(each.readlink())
        except OSError:
            continue
    return path in found


@pytest.mark.parametrize("compression", list(Compression))
async def test_how_either_version_is_compressed_makes_no_difference(
    tmp_path: Path, compression: Compression
) -> None:
    world = World(tmp_path)
    blob = packed(compression, TARS[0])
    world.first = publish(blob, b"\0", source=world.source, tar=TARS[0])
    await world.unpack()
    blob = packed(Compression.NONE, TARS[1])
    second = publish(blob, source=world.source, tar=TARS[1], is_vouched=True)
    async with cache_at(tmp_path, LAZY) as cache:
        await check(cache.repository(world.source, "host", "a"), second, "docs/large")
    assert second.bytes_of_layer == 0


async def test_readers_of_many_files_at_once_find_the_earlier_layers_once(
    world: World,
) -> None:
    await world.unpack()
    second = world.second()
    async with cache_at(world.root, LAZY) as cache, trio.open_nursery() as nursery:
        repository = cache.repository(world.source, "host", "a")
        for path in (*SECOND, *SECOND):
            nursery.start_soon(check, repository, second, path)
    assert second.bytes_of_layer < 0.6 * WHOLE
