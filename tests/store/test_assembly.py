"""Large blobs read in pieces, on an in-memory source."""

import logging
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orasfs.errors import ConnectionBroken, ContentMismatch, NotFound, RegistryFailure, StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader
from orasfs.store.content.cas import ContentStore
from orasfs.store.fetching.pace import Pace
from orasfs.store.files import disk
from orasfs.store.files.chunks import CHUNK_BYTES
from orasfs.store.options import Verify
from tests.fakes.source import MemorySource, MemoryStream
from tests.support.blobbench import OPTIONS, Bench, bench, until

MIB = 1024 * 1024
SIZE = 32 * MIB + 777
CONTENT = random.Random(5).randbytes(SIZE - 1) + b"."  # noqa: S311 - data, not a secret

ExpectLog = Callable[[int, str], None]


def published() -> tuple[MemorySource, Descriptor]:
    source = MemorySource()
    return source, source.add_blob(CONTENT)


def at(offset: int, size: int) -> bytes:
    return CONTENT[offset : offset + size]


async def test_opening_asks_for_nothing(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert reader.read_now(0, 1) is None
        reader.close()
    assert source.streams == []
    assert list((tmp_path / "ingest").iterdir()) == []


async def test_head_costs_a_mebibyte_and_nothing_more_is_fetched(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, 4096) == at(0, 4096)
        assert reader.read_now(0, 4096) == at(0, 4096)
        await until(lambda: b.downloads.transfers() == [])
        reader.close()
    assert source.bytes_sent == MIB
    assert [(request.start, request.stop) for request in source.streams] == [(0, MIB)]


async def test_read_at_a_far_place_costs_a_chunk(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(20 * MIB + 5, 4096) == at(20 * MIB + 5, 4096)
        assert await reader.read(SIZE - 10, 4096) == at(SIZE - 10, 10)
        reader.close()
    assert source.bytes_sent <= 2 * CHUNK_BYTES


async def test_reading_in_order_is_one_request(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        got = [await reader.read(start, 128 * 1024) for start in range(0, SIZE, 128 * 1024)]
        assert b"".join(got) == CONTENT
        await b.wait_named()
        assert reader.is_verified
        reader.close()
        assert b.store.has(descriptor)
        assert list((tmp_path / "ingest").iterdir()) == []
    assert [(request.start, request.stop) for request in source.streams] == [(0, None)]


async def test_reading_in_small_steps_is_few_requests(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        for start in range(0, SIZE, 16 * 1024):
            assert await reader.read(start, 16 * 1024) == at(start, 16 * 1024)
        await b.downloads.wait_idle()
        reader.close()
    assert len(source.streams) <= 6
    assert source.bytes_sent == SIZE


async def test_readers_at_two_places_do_not_wait_for_each_other(tmp_path: Path) -> None:
    source, descriptor = published()
    source.gate_at = 2 * MIB  # the one at the front is stuck there

    class Split(MemorySource):
        def open_stream(
            self, descriptor: Descriptor, start: int = 0, stop: int | None = None
        ) -> MemoryStream:
            self.gate_at = 2 * MIB if start < MIB else None
            return super().open_stream(descriptor, start, stop)

    source = Split()
    source.add_blob(CONTENT)
    async with bench(tmp_path) as b, trio.open_nursery() as nursery:
        front = await b.open(descriptor, source)
        assert await front.read(0, MIB) == at(0, MIB)
        nursery.start_soon(front.read, MIB, 4 * MIB)
        await until(lambda: source.at_gate.is_set() or len(source.streams) > 1)
        back = await b.open(descriptor, source)
        assert await back.read(20 * MIB, 1000) == at(20 * MIB, 1000)
        source.gate.set()
        nursery.start_soon(front.read, 5 * MIB, SIZE)
        assert await back.read(0, SIZE) == CONTENT
        await b.downloads.wait_idle()
        front.close()
        back.close()
    assert source.bytes_sent == SIZE, "what was fetched is not fetched again"


class FarPace(Pace):
    """Takes the source, which is in memory, for one that is far away."""

    def answered(self, seconds: float, *, is_part: bool) -> None:
        super().answered(0.1, is_part=is_part)


def shared(b: Bench, source: MemorySource, *, streams: int = 4) -> Pace:
    """Make a source one that is far away, as has been found out."""
    pace = b.blobs._paces[source] = FarPace(4)
    pace.answered(0.1, is_part=not source.ignores_ranges)
    pace._streams = streams
    return pace


async def test_several_streams_share_what_is_read_in_order_over_a_long_way(
    tmp_path: Path,
) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        shared(b, source)
        reader = await b.open(descriptor, source)
        got = [await reader.read(start, 128 * 1024) for start in range(0, SIZE, 128 * 1024)]
        assert b"".join(got) == CONTENT
        await b.downloads.wait_idle()
        assert reader.is_verified
        reader.close()
    assert source.bytes_sent == SIZE
    parts = sorted((request.start, request.stop or SIZE) for request in source.streams)
    assert [stop for _, stop in parts][:-1] == [start for start, _ in parts][1:]
    assert 8 <= len(parts) <= 40


async def test_several_streams_are_under_way_at_once(tmp_path: Path) -> None:
    source, descriptor = published()
    source.gate_at = 0
    async with bench(tmp_path) as b, trio.open_nursery() as nursery:
        shared(b, source)
        reader = await b.open(descriptor, source)
        nursery.start_soon(partial(b.read, descriptor, source))
        await until(lambda: len(source.streams) == 4)
        starts = sorted(request.start for request in source.streams)
        assert starts == [0, 2 * MIB, 4 * MIB, 6 * MIB], "the nearest parts, and no more"
        source.gate.set()
        assert await reader.read(0, SIZE) == CONTENT
        reader.close()
    assert source.bytes_sent == SIZE


async def test_a_stream_under_way_is_joined_by_others_when_they_may_help(tmp_path: Path) -> None:
    source, descriptor = published()
    source.gate_at = 3 * MIB
    got: list[bytes] = []

    async def read_all(b: Bench) -> None:
        got.append(await b.read(descriptor, source))

    async with bench(tmp_path) as b, trio.open_nursery() as nursery:
        pace = shared(b, source, streams=1)
        nursery.start_soon(read_all, b)
        await until(source.at_gate.is_set)
        assert len(source.streams) == 1
        pace._streams = 4
        reader = await b.open(descriptor, source)
        for start in range(0, 3 * MIB, 128 * 1024):
            assert await reader.read(start, 128 * 1024) == at(start, 128 * 1024)
        await until(lambda: len(source.streams) >= 2)
        source.gate.set()
        await until(lambda: got)
        reader.close()
    assert got == [CONTENT]
    assert source.bytes_sent == SIZE


async def test_a_source_that_gives_the_whole_is_read_by_one_even_over_a_long_way(
    tmp_path: Path,
) -> None:
    source, descriptor = published()
    source.ignores_ranges = True
    async with bench(tmp_path) as b:
        pace = shared(b, source)
        assert await b.read(descriptor, source) == CONTENT
        assert pace.streams == 1
        before = len(source.streams)
        assert before <= 4, "two at first, and what one of them left"
    other = tmp_path / "other"
    async with bench(other) as b:
        b.blobs._paces[source] = pace
        assert await b.read(descriptor, source) == CONTENT
    assert len(source.streams) == before + 1


async def test_what_is_fetched_ahead_of_a_reader_ends_with_it_and_others_read_on(
    tmp_path: Path,
) -> None:
    source, descriptor = published()
    options = replace(OPTIONS, idle_seconds=20)
    async with bench(tmp_path, options) as b:
        front = await b.open(descriptor, source)
        back = await b.open(descriptor, source)
        for start in range(0, 3 * MIB, MIB):
            await front.read(start, MIB)
        assert await back.read(30 * MIB, 1000) == at(30 * MIB, 1000)
        assert b.downloads.transfers()
        front.close()
        await until(lambda: b.downloads.transfers() == [])
        assert await back.read(0, SIZE) == CONTENT
        back.close()


async def test_threads_that_share_an_open_file_are_each_read_ahead_for(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        half = 16 * MIB
        for start in range(0, half, 128 * 1024):
            for place in (start, half + start):
                assert await reader.read(place, 128 * 1024) == at(place, 128 * 1024)
        reader.close()
    assert len(source.streams) <= 8, "a request for each read would be 256"


async def test_streams_of_one_blob_are_few(tmp_path: Path) -> None:
    source, descriptor = published()
    got: list[bool] = []

    async def read(b: Bench, offset: int) -> None:
        reader = await b.open(descriptor, source)
        got.append(await reader.read(offset, 100_000) == at(offset, 100_000))
        reader.close()

    options = replace(OPTIONS, streams_per_blob=2, idle_seconds=0.1)
    async with bench(tmp_path, options) as b, trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(read, b, number * MIB)
    assert got == [True] * 30


async def test_streams_stop_at_once_when_no_one_reads(tmp_path: Path) -> None:
    source, descriptor = published()
    source.chunk_bytes = 1000
    async with bench(tmp_path, replace(OPTIONS, grace_seconds=5.0)) as b:
        reader = await b.open(descriptor, source)
        await reader.read(0, 200_000)
        reader.close()
        await until(lambda: b.downloads.transfers() == [])
        assert source.bytes_sent < 2 * MIB
        assert b.counters.downloads_failed == 0
        source.chunk_bytes = MIB
        assert await b.read(descriptor, source) == CONTENT
    assert source.bytes_sent == SIZE, "nothing is fetched twice"


async def test_slow_reader_is_not_run_away_from(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path, replace(OPTIONS, idle_seconds=0.05)) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, MIB) == at(0, MIB)
        await until(lambda: b.downloads.transfers() == [])
        assert source.bytes_sent <= 4 * MIB
        assert await reader.read(MIB, SIZE) == CONTENT[MIB:]
        reader.close()
        await b.downloads.wait_idle()
    assert source.bytes_sent == SIZE


async def test_file_with_holes_is_gone_on_with_by_the_next_mount(tmp_path: Path) -> None:
    source, descriptor = published()
    places = (0, 7 * MIB, 20 * MIB + 12345)
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        for place in places:
            await reader.read(place, 4096)
        reader.close()
    before = source.bytes_sent
    assert before < 3 * MIB
    async with bench(tmp_path) as b:
        source.open_error = RegistryFailure("away")
        reader = await b.open(descriptor, source)
        for place in places:
            assert await reader.read(place, 4096) == at(place, 4096)
        source.open_error = None
        assert await reader.read(0, SIZE) == CONTENT
        await b.downloads.wait_idle()
        assert b.counters.bytes_received == SIZE - before
        reader.close()
    assert source.bytes_sent == SIZE
    assert ContentStore(tmp_path).read_bytes(descriptor) == CONTENT


async def test_layer_that_is_wanted_whole_is_verified_first(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        blob = await b.blobs.acquire(descriptor, source)
        await blob.arrival.wait_verified()
        assert os.pread(blob.arrival.fd, SIZE, 0) == CONTENT
        assert not blob.arrival.was_served
        b.blobs.release(blob)
    assert len(source.streams) == 1


async def test_wrong_leftovers_that_no_one_saw_are_fetched_anew_once(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        name = f"sha256-{descriptor.digest.hex}.partial"
        (tmp_path / "ingest" / name).write_bytes(bytes(2 * MIB))
        blob = await b.blobs.acquire(descriptor, source)
        await blob.arrival.wait_verified()
        assert blob.arrival.is_verified
        assert os.pread(blob.arrival.fd, SIZE, 0) == CONTENT
        b.blobs.release(blob)
    assert [request.start for request in source.streams] == [2 * MIB, 0]


async def test_wrong_bytes_that_were_served_end_all_readers(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.ERROR, "wrong bytes were served")
    source, descriptor = published()
    source.served[descriptor.digest] = CONTENT[:-1] + b"x"
    async with bench(tmp_path) as b:
        readers = [await b.open(descriptor, source) for _ in range(2)]
        assert await readers[0].read(9 * MIB, 10) == at(9 * MIB, 10)
        assert await readers[1].read(SIZE - 1, 1) == b"x"
        blob = await b.blobs.acquire(descriptor, source)
        await blob.arrival.wait_verified()
        assert isinstance(blob.arrival.error, ContentMismatch)
        b.blobs.release(blob)
        await b.downloads.wait_idle()
        assert b.mismatches == [descriptor.digest]
        for reader in readers:
            assert reader.read_now(9 * MIB, 10) is None
            with pytest.raises(ContentMismatch):
                await reader.read(9 * MIB, 10)
            reader.close()
        assert not b.store.has(descriptor)
    assert list((tmp_path / "ingest").iterdir()) == []


async def read_all(reader: BlobReader, size: int, *, backwards: bool) -> None:
    offsets = range(0, SIZE, size)
    for offset in reversed(offsets) if backwards else offsets:
        count = min(size, SIZE - offset)
        content = reader.read_now(offset, count) or await reader.read(offset, count)
        assert content == at(offset, count)


@pytest.mark.parametrize("backwards", [False, True])
async def test_who_reads_all_of_it_always_learns_that_it_is_wrong(
    tmp_path: Path, expect_log: ExpectLog, *, backwards: bool
) -> None:
    expect_log(logging.ERROR, "wrong bytes were served")
    source, descriptor = published()
    other = replace(descriptor, digest=Digest.of(b"other"))
    source.served[other.digest] = CONTENT
    async with bench(tmp_path) as b:
        reader = await b.open(other, source)
        with pytest.raises(ContentMismatch):
            await read_all(reader, MIB, backwards=backwards)
        reader.close()
        await b.downloads.wait_idle()
        assert b.mismatches == [other.digest]


@pytest.mark.parametrize("served", [CONTENT[:-5], CONTENT + b"more"])
async def test_content_of_another_size_is_a_mismatch(tmp_path: Path, served: bytes) -> None:
    source, descriptor = published()
    source.served[descriptor.digest] = served
    async with bench(tmp_path) as b:
        blob = await b.blobs.acquire(descriptor, source)
        await blob.arrival.wait_verified()
        assert isinstance(blob.arrival.error, ContentMismatch)
        b.blobs.release(blob)
        await b.downloads.wait_idle()


async def test_failure_is_the_readers_own_and_others_read_on(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        one, other = [await b.open(descriptor, source) for _ in range(2)]
        assert await one.read(0, 10) == at(0, 10)
        source.open_error = ConnectionBroken("cut")
        with pytest.raises(ConnectionBroken):
            await other.read(20 * MIB, 10)
        assert await other.read(500_000, 10) == at(500_000, 10), "what is there stays readable"
        asked = len(source.streams)
        with pytest.raises(ConnectionBroken):
            await one.read(20 * MIB, 10)
        assert len(source.streams) == asked, "not asked again at once"
        source.open_error = None
        mock_clock.jump(OPTIONS.failure_seconds)
        assert await one.read(20 * MIB, 10) == at(20 * MIB, 10)
        one.close()
        other.close()


async def test_blob_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    source, descriptor = published()
    source.blobs.clear()
    async with bench(tmp_path) as b:
        with pytest.raises(NotFound):
            await b.read(descriptor, source)


async def test_what_one_source_lacks_is_asked_of_the_other(tmp_path: Path) -> None:
    source, descriptor = published()
    failing = MemorySource()
    async with bench(tmp_path) as b:
        first = await b.open(descriptor, failing)
        second = await b.open(descriptor, source)
        assert await second.read(9 * MIB, 10) == at(9 * MIB, 10)
        first.close()
        second.close()


async def test_source_that_gives_the_whole_is_read_by_one_stream_to_the_end(
    tmp_path: Path,
) -> None:
    source, descriptor = published()
    source.ignores_ranges = True
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(20 * MIB, 10) == at(20 * MIB, 10)
        assert await reader.read(3 * MIB, 10) == at(3 * MIB, 10)
        assert await reader.read(0, SIZE) == CONTENT
        await b.downloads.wait_idle()
        assert reader.is_verified
        reader.close()
    assert len(source.streams) == 1
    assert source.bytes_sent == SIZE


async def test_source_that_gives_more_than_was_asked_is_read_on(tmp_path: Path) -> None:
    source, descriptor = published()
    source.ignores_ranges = True
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, 4096) == at(0, 4096)
        await until(lambda: source.bytes_sent > MIB)
        assert await reader.read(30 * MIB, 10) == at(30 * MIB, 10)
        await b.downloads.wait_idle()
        assert reader.is_verified
        reader.close()
    assert len(source.streams) == 1


async def test_several_streams_of_such_a_source_become_one(tmp_path: Path) -> None:
    source, descriptor = published()
    source.ignores_ranges = True
    got: list[bool] = []

    async def read(b: Bench, offset: int) -> None:
        reader = await b.open(descriptor, source)
        got.append(await reader.read(offset, 10) == at(offset, 10))
        reader.close()

    async with bench(tmp_path) as b, trio.open_nursery() as nursery:
        keeper = await b.open(descriptor, source)
        for number in range(4):
            nursery.start_soon(read, b, (30 - 7 * number) * MIB)
        await until(lambda: len(got) == 4)
        assert await keeper.read(0, SIZE) == CONTENT
        keeper.close()
    assert got == [True] * 4


async def test_source_that_sends_another_range_is_refused(tmp_path: Path) -> None:
    class Shifted(MemorySource):
        def open_stream(
            self, descriptor: Descriptor, start: int = 0, stop: int | None = None
        ) -> MemoryStream:
            return super().open_stream(descriptor, start + 10, stop)

    source = Shifted()
    descriptor = source.add_blob(CONTENT)
    async with bench(tmp_path) as b:
        with pytest.raises(RegistryFailure, match="asked for byte 0"):
            await b.read(descriptor, source)


async def test_source_that_turns_out_not_to_be_trusted_is_verified_first(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, 10) == at(0, 10)
        before = reader.is_verified
        source.is_trusted = False
        assert reader.read_now(0, 10) is None
        assert await reader.read(5 * MIB, 10) == at(5 * MIB, 10)
        assert (before, reader.is_verified) == (False, True)
        reader.close()


async def test_full_disk_fails_the_readers_and_leaves_no_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    source, descriptor = published()

    def full(fd: int, content: memoryview, offset: int) -> None:
        if len(content) > 1000:
            raise OSError(28, "no space left on device")
        os.pwrite(fd, content, offset)

    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_fully", full)
            with pytest.raises(StorageFull):
                await reader.read(9 * MIB, 10)
            await b.downloads.wait_idle()
        assert list((tmp_path / "ingest").iterdir()) == []
        mock_clock.jump(OPTIONS.failure_seconds)
        assert await reader.read(9 * MIB, 10) == at(9 * MIB, 10)
        reader.close()


async def test_reader_that_is_cancelled_leaves_the_others_theirs(tmp_path: Path) -> None:
    source, descriptor = published()
    source.gate_at = 20 * MIB + 100
    async with bench(tmp_path) as b, trio.open_nursery() as nursery:
        reader = await b.open(descriptor, source)
        nursery.start_soon(partial(reader.read, 20 * MIB, 50_000))
        await until(source.at_gate.is_set)
        with trio.move_on_after(0.01) as scope:
            await reader.read(20 * MIB, 10_000)
        assert scope.cancelled_caught
        source.gate.set()
        assert await reader.read(20 * MIB, 50_000) == at(20 * MIB, 50_000)
    reader.close()


async def test_two_mounts_on_one_cache_get_the_same_bytes(tmp_path: Path) -> None:
    source, descriptor = published()
    async with bench(tmp_path) as one, bench(tmp_path) as other:
        readers = [await one.open(descriptor, source), await other.open(descriptor, source)]
        for offset in (0, 20 * MIB, 31 * MIB):
            for reader in readers:
                assert await reader.read(offset, 100) == at(offset, 100)
        for reader in readers:
            assert await reader.read(0, SIZE) == CONTENT
        await one.downloads.wait_idle()
        await other.downloads.wait_idle()
        for reader in readers:
            reader.close()
    assert list((tmp_path / "ingest").iterdir()) == []


offsets = st.integers(0, SIZE - 1) | st.integers(0, 32).map(lambda mib: mib * MIB)
lengths = st.integers(1, 5000) | st.integers(1, 3 * MIB)
steps = st.tuples(st.sampled_from("rrrrcw"), st.integers(0, 3), offsets, lengths)


@settings(max_examples=40)
@given(
    schedule=st.lists(steps, min_size=1, max_size=25),
    chunk_bytes=st.sampled_from([50_000, 256 * 1024, MIB]),
    ignores_ranges=st.booleans(),
    is_strict=st.booleans(),
)
def test_any_schedule_of_reads_gives_the_content(
    schedule: list[tuple[str, int, int, int]],
    chunk_bytes: int,
    *,
    ignores_ranges: bool,
    is_strict: bool,
) -> None:
    """Reads (r) by four readers side by side, closing (c), and waiting for all so far (w)."""
    source, descriptor = published()
    source.chunk_bytes = chunk_bytes
    source.ignores_ranges = ignores_ranges
    options = replace(OPTIONS, verify=Verify.STRICT if is_strict else Verify.LAZY)

    async def run(b: Bench) -> None:
        readers = [await b.open(descriptor, source) for _ in range(4)]

        async def check(number: int, offset: int, length: int) -> None:
            reader = readers[number]
            found = reader.read_now(offset, length)
            if found is None:
                found = await reader.read(offset, length)
            assert found == at(offset, length)

        async with trio.open_nursery() as nursery:
            for kind, number, offset, length in schedule:
                if kind == "r":
                    nursery.start_soon(check, number, offset, length)
                elif kind == "w":
                    await check(number, offset, length)
        for kind, number, offset, length in schedule:
            if kind == "c":
                readers[number].close()
                readers[number] = await b.open(descriptor, source)
                await check(number, offset, length)
        for reader in readers:
            reader.close()

    async def main(root: Path) -> None:
        async with bench(root, options) as b:
            await run(b)

    with tempfile.TemporaryDirectory() as root:
        trio.run(main, Path(root))
    if not ignores_ranges:
        assert source.bytes_sent <= SIZE, "what was fetched is never fetched again"
