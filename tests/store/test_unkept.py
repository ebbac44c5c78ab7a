"""Blobs that are read without being kept, on an in-memory source."""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from orasfs.errors import ContentMismatch
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.fetching.passing import CHUNK_BYTES, WINDOW_BYTES, Passing, PassingReader
from orasfs.store.options import CacheOptions, Verify
from tests.fakes.source import MemorySource, TwoPlaces

SIZE = WINDOW_BYTES + 5 * CHUNK_BYTES + 77
CONTENT = random.Random(7).randbytes(SIZE)  # noqa: S311 - data, not a secret
CHUNKS = range(-(-SIZE // CHUNK_BYTES))
LAZY = CacheOptions(lazy_bytes=1_000_000, failure_seconds=60)
STRICT = replace(LAZY, verify=Verify.STRICT)

ExpectLog = Callable[[int, str], None]


def wrong() -> tuple[MemorySource, Descriptor]:
    """Return a source of a blob that is not what its digest says."""
    source = MemorySource()
    descriptor = replace(source.add_blob(CONTENT), digest=Digest.of(b"other"))
    source.served[descriptor.digest] = CONTENT
    return source, descriptor


async def read(reader: PassingReader, chunks: Sequence[int]) -> None:
    for number in chunks:
        start = number * CHUNK_BYTES
        content = reader.read_now(start, CHUNK_BYTES) or await reader.read(start, CHUNK_BYTES)
        assert content == CONTENT[start : start + CHUNK_BYTES]


@pytest.mark.parametrize("options", [LAZY, STRICT])
async def test_what_is_not_kept_is_read_in_order_and_anywhere(options: CacheOptions) -> None:
    source = MemorySource()
    reader = Passing(options).open(source.add_blob(CONTENT), source)
    await read(reader, CHUNKS)
    await read(reader, random.Random(8).sample(CHUNKS, 20))  # noqa: S311 - not a secret
    await read(reader, CHUNKS)
    reader.close()


@pytest.mark.parametrize("step", [1, 2, 8])
async def test_who_reads_all_of_it_learns_that_it_is_wrong(
    expect_log: ExpectLog, step: int
) -> None:
    """Read-ahead comes in another order than the bytes have, but not far from it."""
    expect_log(logging.ERROR, "wrong bytes were served")
    source, descriptor = wrong()
    told: list[Digest] = []
    passing = Passing(LAZY, told.append)
    first, second = (passing.open(descriptor, source) for _ in range(2))
    order = [
        number
        for start in range(0, len(CHUNKS), step)
        for number in reversed(CHUNKS[start : start + step])
    ]
    await read(second, CHUNKS[:1])
    with pytest.raises(ContentMismatch):
        await read(first, order)
    assert told == [descriptor.digest]
    requests = len(source.streams)
    for reader in (first, second):
        assert reader.read_now(0, 1) is None, "what the window had is gone"
        with pytest.raises(ContentMismatch):
            await reader.read(0, 1)
        reader.close()
    assert len(source.streams) == requests, "it is not fetched again to be refused again"


async def test_reader_behind_another_one_learns_it_too(expect_log: ExpectLog) -> None:
    expect_log(logging.ERROR, "wrong bytes were served")
    source, descriptor = wrong()
    passing = Passing(LAZY)
    ahead, behind = (passing.open(descriptor, source) for _ in range(2))
    for number in CHUNKS[:-1]:
        await read(ahead, [number])
        await read(behind, [number])
    for reader in (ahead, behind):
        with pytest.raises(ContentMismatch):
            await read(reader, CHUNKS[-1:])
    ahead.close()
    behind.close()


async def test_nothing_is_served_that_must_be_verified_first() -> None:
    source, descriptor = wrong()
    told: list[Digest] = []
    reader = Passing(STRICT, told.append).open(descriptor, source)
    with pytest.raises(ContentMismatch):
        await reader.read(0, 1)
    assert told == [], "no one has seen it"
    reader.close()


async def test_what_one_place_has_wrong_comes_from_the_next() -> None:
    source = TwoPlaces()
    descriptor = source.add_blob(CONTENT)
    source.served[descriptor.digest] = CONTENT[::-1]
    reader = Passing(STRICT).open(descriptor, source)
    await read(reader, CHUNKS[:3])
    reader.close()
    assert source.rejected == [descriptor.digest]
