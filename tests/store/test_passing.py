"""Reading on where the cache cannot keep what is read."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orasfs.errors import ContentMismatch
from orasfs.oci.storage import BlobReader
from orasfs.store import disk, ingest, passing
from orasfs.store.budget import Budget
from orasfs.store.cache import Cache
from orasfs.store.options import CacheOptions, Verify
from orasfs.store.passing import CHUNK_BYTES
from orasfs.store.repository import CachedRepository
from tests.fakes.source import MemorySource

SIZE = 5 * CHUNK_BYTES + 1234
CONTENT = os.urandom(SIZE)
TOO_SMALL = Budget(size=SIZE // 2)
LAZY = CacheOptions(budget=TOO_SMALL, lazy_bytes=SIZE // 2)
STRICT = CacheOptions(budget=TOO_SMALL)


@asynccontextmanager
async def cached(
    root: Path, source: MemorySource, options: CacheOptions = STRICT
) -> AsyncIterator[CachedRepository]:
    async with trio.open_nursery() as nursery:
        cache = Cache(root, nursery, options=options)
        with trio.fail_after(20):
            yield cache.repository(source, "host", "a")
            await cache.aclose()
        nursery.cancel_scope.cancel()


async def read_all(reader: BlobReader) -> bytes:
    pieces = [await reader.read(start, 100_000) for start in range(0, reader.size, 100_000)]
    return b"".join(pieces)


def kept(root: Path) -> list[Path]:
    places = (root / "blobs", root / "ingest")
    return [path for place in places for path in place.rglob("*") if path.is_file()]


async def test_what_is_larger_than_the_cache_is_verified_and_not_kept(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(CONTENT)
    async with cached(tmp_path, source) as repository:
        reader = await repository.open_blob(descriptor)
        assert reader.is_verified
        assert await read_all(reader) == CONTENT
        assert len(source.streams) == 1
        reader.close()
    assert kept(tmp_path) == []


async def test_a_large_one_is_read_from_where_it_is_wanted(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(CONTENT)
    async with cached(tmp_path, source, LAZY) as repository:
        reader = await repository.open_blob(descriptor)
        start = 3 * CHUNK_BYTES + 17
        assert await reader.read(start, 100) == CONTENT[start : start + 100]
        assert source.bytes_sent == CHUNK_BYTES
        assert reader.read_now(start + 5, 20) == CONTENT[start + 5 : start + 25]
        assert await reader.read(start, SIZE) == CONTENT[start:]
        assert len(source.streams) == 1, "what follows comes by the same stream"
        assert await reader.read(SIZE, 10) == b""
        reader.close()


async def test_source_that_ignores_ranges_is_read_right(tmp_path: Path) -> None:
    source = MemorySource()
    source.ignores_ranges = True
    descriptor = source.add_blob(CONTENT)
    async with cached(tmp_path, source, LAZY) as repository:
        reader = await repository.open_blob(descriptor)
        for start in (4 * CHUNK_BYTES, 5, 2 * CHUNK_BYTES - 1):
            assert await reader.read(start, 300_000) == CONTENT[start : start + 300_000]
        reader.close()


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"x"])
async def test_wrong_bytes_are_not_served(tmp_path: Path, wrong: bytes) -> None:
    source = MemorySource()
    descriptor = source.add_blob(CONTENT)
    source.served[descriptor.digest] = wrong
    async with cached(tmp_path, source) as repository:
        reader = await repository.open_blob(descriptor)
        with pytest.raises(ContentMismatch):
            await reader.read(0, 10)
        reader.close()


async def test_bytes_that_become_others_are_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "WINDOW_BYTES", 2 * CHUNK_BYTES)
    source = MemorySource()
    descriptor = source.add_blob(CONTENT)
    async with cached(tmp_path, source) as repository:
        reader = await repository.open_blob(descriptor)
        assert await reader.read(0, 10) == CONTENT[:10]
        place = 4 * CHUNK_BYTES + 5
        source.served[descriptor.digest] = CONTENT[:place] + b"?" + CONTENT[place + 1 :]
        with pytest.raises(ContentMismatch, match="others before"):
            await reader.read(place, 1)
        reader.close()


def fail(monkeypatch: pytest.MonkeyPatch, number: int, after: int) -> None:
    """Let the disk refuse all writing after so many writes."""
    write = disk.write_fully
    done = 0

    def failing(fd: int, content: bytes | memoryview, offset: int) -> None:
        nonlocal done
        done += 1
        if done > after:
            raise OSError(number, os.strerror(number))
        write(fd, content, offset)

    monkeypatch.setattr(disk, "write_fully", failing)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("verify", [Verify.LAZY, Verify.STRICT])
@pytest.mark.parametrize("after", [0, 4, 7])
async def test_a_disk_that_fails_fails_no_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, verify: Verify, after: int
) -> None:
    source = MemorySource()
    source.chunk_bytes = 100_000
    descriptor = source.add_blob(CONTENT)
    options = CacheOptions(verify=verify, lazy_bytes=1000)
    async with cached(tmp_path, source, options) as repository:
        fail(monkeypatch, number, after)
        reader = await repository.open_blob(descriptor)
        assert await read_all(reader) == CONTENT
        reader.close()
        monkeypatch.undo()


async def test_a_cache_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[[int, str], None]
) -> None:
    source = MemorySource()
    descriptor, other = source.add_blob(CONTENT), source.add_blob(b"other")
    manifest = source.add_manifest(b'{"schemaVersion":2,"config":{},"layers":[]}', "v1")
    options = CacheOptions()
    async with cached(tmp_path, source, options) as repository:
        reader = await repository.open_blob(descriptor)
        assert await read_all(reader) == CONTENT
        reader.close()
        await repository.resolve("v1")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    for name in ("open_private", "open_locked", "sweep"):
        monkeypatch.setattr(ingest, name, refuse)
    expect_log(30, "cache cannot be written")
    source.streams.clear()
    async with cached(tmp_path, source, options) as repository:
        reader = await repository.open_blob(descriptor)
        assert await read_all(reader) == CONTENT
        reader.close()
        assert source.streams == []
        reader = await repository.open_blob(other)
        assert await read_all(reader) == b"other"
        reader.close()
        expect_log(30, "manifest not kept")
        await repository.fetch_manifest(manifest)
