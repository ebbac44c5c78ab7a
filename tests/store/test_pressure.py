"""10,000 random reads through a cache a tenth as large as what is read: every byte is right."""

import os
import random
from pathlib import Path

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.store.cache import Cache
from orasfs.store.content.budget import Budget
from orasfs.store.content.room import open_room
from orasfs.store.options import CacheOptions
from tests.fakes.source import MemorySource

READS = int(os.environ.get("ORASFS_PRESSURE_READS", "10000"))
SEED = int(os.environ.get("ORASFS_SEED", "1"))
BLOBS = 60
MOST_BYTES = 300_000
READERS = 4
READS_EACH_OPEN = 10


async def read_randomly(
    cache: Cache, source: MemorySource, blobs: list[Descriptor], chance: random.Random, count: int
) -> None:
    repository = cache.repository(source, "host", "a")
    for _ in range(count // READS_EACH_OPEN):
        descriptor = chance.choice(blobs)
        content = source.blobs[descriptor.digest]
        reader = await repository.open_blob(descriptor)
        for _ in range(READS_EACH_OPEN):
            offset = chance.randrange(len(content) + 5)
            size = chance.choice((1, 4096, 65536, MOST_BYTES))
            got = reader.read_now(offset, size)
            if got is None:
                got = await reader.read(offset, size)
            assert got == content[offset : offset + size]
        reader.close()


async def test_every_byte_is_right_under_pressure(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - to be repeated
    source = MemorySource()
    blobs = [
        source.add_blob(chance.randbytes(chance.randrange(1, MOST_BYTES))) for _ in range(BLOBS)
    ]
    limit = sum(blob.size for blob in blobs) // 10
    # The larger ones come in pieces, the smaller ones whole.
    options = CacheOptions(budget=Budget(size=limit), lazy_bytes=MOST_BYTES // 2)
    async with trio.open_nursery() as nursery:
        cache = Cache(tmp_path, nursery, options=options)
        async with trio.open_nursery() as readers:
            for number in range(READERS):
                own = random.Random(SEED + number)  # noqa: S311 - to be repeated
                count = READS // READERS
                readers.start_soon(read_randomly, cache, source, blobs, own, count)
        await cache.aclose()
        nursery.cancel_scope.cancel()
    assert source.bytes_sent > 5 * limit, "there was no pressure"
    room = open_room(tmp_path)
    room.recover()
    total = room.ledger.total()
    room.ledger.close()
    files = [path for place in ("blobs", "ingest") for path in (tmp_path / place).rglob("*")]
    assert total == sum(path.lstat().st_blocks * 512 for path in files if path.is_file())
    assert total <= limit
