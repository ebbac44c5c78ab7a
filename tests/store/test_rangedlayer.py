"""Layers whose bytes are gone from the cache while their index stayed: they are read by ranges."""

import gzip
import io
import os
import sys
import zlib
from pathlib import Path

import pytest
import trio

from orasfs.errors import ConnectionRefused, ContentMismatch
from orasfs.staging.layerblob import Compression, write_layer
from orasfs.store.repository import CachedRepository
from orasfs.tree import restarts
from orasfs.tree.node import PackedLayer
from tests.fakes.source import MemorySource
from tests.support.archives import directory, files, pieces_of, tar_of
from tests.support.caches import LAZY, content, forget_bytes, repository_at
from tests.support.content import flipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
FILES = {f"docs/{number:02}": os.urandom(700_000) for number in range(8)}
FILES["docs/large"] = os.urandom(3 * MIB)
TAR = tar_of(directory("docs"), *files(FILES))


def pieces() -> list[bytes]:
    return [TAR[start : start + MIB] for start in range(0, len(TAR), MIB)]


def packed() -> bytes:
    output = io.BytesIO()
    pieces = pieces_of(io.BytesIO(TAR))
    write_layer(pieces, Compression.GZIP, output, lambda _: io.BytesIO())
    return output.getvalue()


BLOBS = {
    "packed": packed(),
    "plain": TAR,
    "gzip": b"".join(gzip.compress(piece, 1) for piece in pieces()),
    "zstd": b"".join(map(zstd.compress, pieces())),
}


async def evicted(root: Path, source: MemorySource, form: str) -> PackedLayer:
    """Unpack a layer, and let its bytes go."""
    layer = PackedLayer(source.add_blob(BLOBS[form]), "docs")
    async with repository_at(root, source, LAZY) as repository:
        await repository.open_layer(layer)
    forget_bytes(root)
    source.forget_requests()
    return layer


async def check(repository: CachedRepository, layer: PackedLayer, name: str) -> None:
    opened = await repository.open_layer(layer)
    assert await content(opened, name) == FILES[name]


@pytest.mark.parametrize("form", BLOBS)
async def test_one_file_is_read_without_the_rest(tmp_path: Path, form: str) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source, form)
    async with repository_at(tmp_path, source, LAZY) as repository:
        await check(repository, layer, "docs/05")
        (asked,) = source.streams
        assert asked.stop is not None
        assert asked.stop - asked.start < 2.1 * MIB
        await check(repository, layer, "docs/05")
        assert len(source.streams) == 1, "it is kept"
        await check(repository, layer, "docs/large")
    source.open_error = ConnectionRefused("down")
    async with repository_at(tmp_path, source, LAZY) as repository:
        await check(repository, layer, "docs/large")


@pytest.mark.parametrize("form", BLOBS)
async def test_all_files_are_read_side_by_side(tmp_path: Path, form: str) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source, form)
    async with repository_at(tmp_path, source, LAZY) as repository:
        async with trio.open_nursery() as nursery:
            for name in FILES:
                nursery.start_soon(check, repository, layer, name)
        assert source.bytes_sent < 1.1 * len(BLOBS[form]), "no byte is fetched twice"


async def test_wrong_bytes_fail_and_right_ones_are_taken_then(tmp_path: Path) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source, "gzip")
    source.served[layer.descriptor.digest] = flipped(BLOBS["gzip"])
    failed = set()
    async with repository_at(tmp_path, source, LAZY) as repository:
        for name in FILES:
            try:
                await check(repository, layer, name)
            except ContentMismatch:
                failed.add(name)
        assert 0 < len(failed) < 4
        source.served.clear()
        for name in FILES:
            await check(repository, layer, name)


@pytest.mark.parametrize("reason", ["no ranges", "mirrors", "no table"])
async def test_layer_is_passed_again_where_parts_cannot_be_had(
    tmp_path: Path, reason: str
) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source, "gzip")
    source.ignores_ranges = reason == "no ranges"
    source.is_trusted = reason != "mirrors"
    if reason == "no table":
        damage(tmp_path)
    async with repository_at(tmp_path, source, LAZY) as repository:
        for name in FILES:
            await check(repository, layer, name)
    # From byte 0 on the whole is as good as a range; then it is found out.
    assert len(source.streams) == (3 if reason == "no ranges" else 1)
    assert source.streams[-1].stop is None


def damage(root: Path) -> None:
    (table,) = root.glob("orasfs/layers/*/*/index.chunks")
    table.write_bytes(table.read_bytes()[:-1] + b"x")


async def test_blob_that_stayed_is_read_instead_of_the_network(tmp_path: Path) -> None:
    source = MemorySource()
    layer = PackedLayer(source.add_blob(BLOBS["plain"]), "docs")
    async with repository_at(tmp_path, source, LAZY) as repository:
        await repository.open_layer(layer)
    forget_bytes(tmp_path, layer.descriptor.digest)
    source.open_error = ConnectionRefused("down")
    async with repository_at(tmp_path, source, LAZY) as repository:
        for name in FILES:
            await check(repository, layer, name)


async def test_reading_on_takes_few_requests(tmp_path: Path) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source, "zstd")
    async with repository_at(tmp_path, source, LAZY) as repository:
        for name in FILES:
            await check(repository, layer, name)
    assert len(source.streams) <= 6


SAME = os.urandom(20_000) * 10


def wrongly_marked() -> bytes:
    """Return gzip with marks where it is not begun anew: it refers to what is before them."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = tar_of(directory("docs"), *files(dict.fromkeys(FILES, SAME)))
    made = [restarts.HEAD]
    for start in range(0, len(content), 100_000):
        made.append(deflate.compress(content[start : start + 100_000]))
        made += [deflate.flush(zlib.Z_SYNC_FLUSH), restarts.REST_OF_MARK]
    trailer = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    return b"".join((*made, deflate.flush(), trailer))


async def test_blob_that_is_marked_wrongly_is_passed_again(tmp_path: Path) -> None:
    source = MemorySource()
    BLOBS["wrong"] = wrongly_marked()
    try:
        layer = await evicted(tmp_path, source, "wrong")
    finally:
        del BLOBS["wrong"]
    async with repository_at(tmp_path, source, LAZY) as repository:
        opened = await repository.open_layer(layer)
        for name in FILES:
            assert await content(opened, name) == SAME
    assert source.streams[-1].stop is None


async def test_failure_that_nobody_foresaw_is_the_readers_and_not_the_mounts(
    tmp_path: Path,
) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source, "gzip")
    async with repository_at(tmp_path, source, LAZY) as repository:
        source.open_error = ZeroDivisionError()  # type: ignore[assignment]  # on purpose
        with pytest.raises(ZeroDivisionError):
            await check(repository, layer, "docs/00")
        source.open_error = None
        await check(repository, layer, "docs/00")
