"""Downloads and their readers, on an in-memory source."""

import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from orasfs.errors import (
    ConnectionBroken,
    ContentMismatch,
    NotFound,
    OrasfsError,
    RegistryFailure,
    StorageFull,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.fetching.blobs import Blobs
from orasfs.store.fetching.counters import Counters
from orasfs.store.fetching.downloads import Downloads
from orasfs.store.fetching.readers import FileReader
from orasfs.store.files import disk
from orasfs.store.layout import LayoutSource
from orasfs.store.options import TransferState, Verify
from tests.fakes.source import MemorySource, MemoryStream, TwoPlaces
from tests.support.blobbench import OPTIONS, Bench, bench, until

# Not ending in "x", which tests put there to make them wrong.
SMALL = os.urandom(199_999) + b"."
LARGE = os.urandom(2_999_999) + b"."

ExpectLog = Callable[[int, str], None]


async def test_blob_is_fetched_once_and_then_read_from_the_store(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        assert await b.read(descriptor, source) == SMALL
        await b.downloads.wait_idle()
        assert await b.read(descriptor, source) == SMALL
        assert len(source.streams) == 1
        assert (b.counters.hits, b.counters.misses) == (1, 1)
        assert b.counters.bytes_received == len(SMALL)
    assert ContentStore(tmp_path).read_bytes(descriptor) == SMALL


async def test_twenty_readers_share_one_stream(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(LARGE)
    got: list[bytes] = []

    async def reader(b: Bench) -> None:
        got.append(await b.read(descriptor, source))

    async with bench(tmp_path) as b, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(reader, b)
    assert len(source.streams) == 1
    assert got == [LARGE] * 20


async def test_reader_that_is_cancelled_does_not_stop_the_others(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 100_000
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        scope = trio.CancelScope()

        async def first() -> None:
            with scope:
                await b.read(descriptor, source)

        got = []

        async def second() -> None:
            got.append(await b.read(descriptor, source))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
            await until(source.at_gate.is_set)
            scope.cancel()
            await until(lambda: scope.cancelled_caught)
            source.gate.set()
        assert got == [SMALL]
        assert len(source.streams) == 1


async def test_small_blob_is_not_served_before_it_is_verified(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 100_000
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        await until(source.at_gate.is_set)
        assert reader.read_now(0, 10) is None
        before = reader.is_verified
        assert await is_waiting(partial(reader.read, 0, 10))
        source.gate.set()
        assert await reader.read(5, 10) == SMALL[5:15]
        assert (before, reader.is_verified) == (False, True)
        assert reader.read_now(5, 10) == SMALL[5:15]
        reader.close()


async def test_only_a_whole_and_verified_file_stands_for_the_blob(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 100_000
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        await until(source.at_gate.is_set)
        assert reader.backing_fd() is None
        source.gate.set()
        await reader.read(0, 1)
        fd = reader.backing_fd()
        assert fd is not None
        assert os.pread(fd, len(SMALL) + 1, 0) == SMALL
        reader.close()
        assert reader.backing_fd() is None


async def test_large_blob_of_a_trusted_source_is_served_as_it_arrives(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 2_000_000
    descriptor = source.add_blob(LARGE)
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, 1_500_000) == LARGE[:1_500_000]
        before = reader.is_verified
        assert reader.read_now(0, 100) == LARGE[:100]
        assert reader.read_now(2_000_000, 1) is None
        assert not b.store.has(descriptor)
        assert b.downloads.transfers()[0].state is TransferState.RUNNING
        source.gate.set()
        assert await reader.read(2_999_990, 100) == LARGE[-10:]
        await b.downloads.wait_idle()
        assert (before, reader.is_verified) == (False, True)
        assert b.store.has(descriptor)
        reader.close()


@pytest.mark.parametrize("reason", ["untrusted", "strict"])
async def test_large_blob_is_verified_first_if_asked_to(tmp_path: Path, reason: str) -> None:
    source = MemorySource()
    source.gate_at = 2_000_000
    source.is_trusted = reason != "untrusted"
    verify = Verify.STRICT if reason == "strict" else Verify.LAZY
    descriptor = source.add_blob(LARGE)
    async with bench(tmp_path, replace(OPTIONS, verify=verify)) as b:
        reader = await b.open(descriptor, source)
        await until(source.at_gate.is_set)
        assert reader.read_now(0, 10) is None
        assert await is_waiting(partial(reader.read, 0, 10))
        source.gate.set()
        assert await reader.read(0, 10) == LARGE[:10]
        reader.close()


async def test_wrong_bytes_of_a_small_blob_are_never_served_or_kept(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(SMALL)
    source.served[descriptor.digest] = SMALL[:-1] + b"x"
    async with bench(tmp_path) as b:
        with pytest.raises(ContentMismatch):
            await b.read(descriptor, source)
        await b.downloads.wait_idle()
        assert b.mismatches == []
        assert b.counters.mismatches == 1
        assert b.partials() == []
        assert not b.store.has(descriptor)


async def test_mismatch_after_lazy_serving_ends_all_readers(
    tmp_path: Path, expect_log: ExpectLog, mock_clock: trio.testing.MockClock
) -> None:
    expect_log(logging.ERROR, "wrong bytes were served")
    source = MemorySource()
    source.gate_at = 2_000_000
    descriptor = source.add_blob(LARGE)
    source.served[descriptor.digest] = LARGE[:-1] + b"x"
    async with bench(tmp_path) as b:
        first = await b.open(descriptor, source)
        second = await b.open(descriptor, source)
        assert await first.read(0, 10) == LARGE[:10]
        source.gate.set()
        with contextlib.suppress(ContentMismatch):  # when the last byte has come, or soon after
            await second.read(0, len(LARGE))
        await b.downloads.wait_idle()
        assert b.mismatches == [descriptor.digest]
        assert first.read_now(0, 10) is None
        for reader in (first, second, first):
            with pytest.raises(ContentMismatch):
                await reader.read(0, 10)
        assert b.partials() == []
        assert not b.store.has(descriptor)
        first.close()
        second.close()
        source.served.clear()
        mock_clock.jump(OPTIONS.failure_seconds)
        assert await b.read(descriptor, source) == LARGE


async def test_interrupted_download_is_resumed_by_range(tmp_path: Path) -> None:
    source = MemorySource()
    source.fail_at = 150_000
    source.stream_error = ConnectionBroken("cut")
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        with pytest.raises(ConnectionBroken):
            await b.read(descriptor, source)
        await b.downloads.wait_idle()
        assert b.partials() == [150_000]
    source.fail_at = None
    async with bench(tmp_path) as b:
        assert await b.read(descriptor, source) == SMALL
    assert [request.start for request in source.streams] == [0, 150_000]


async def test_source_that_ignores_the_range_is_skipped_through(tmp_path: Path) -> None:
    source = MemorySource()
    source.fail_at = 150_000
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        with pytest.raises(RegistryFailure):
            await b.read(descriptor, source)
    source.fail_at = None
    source.ignores_ranges = True
    async with bench(tmp_path) as b:
        assert await b.read(descriptor, source) == SMALL


async def test_wrong_partial_of_an_earlier_run_is_started_over_once(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        name = f"sha256-{descriptor.digest.hex}.partial"
        (tmp_path / "ingest" / name).write_bytes(b"\0" * 100_000)
        assert await b.read(descriptor, source) == SMALL
        await b.wait_named()
        assert [request.start for request in source.streams] == [100_000, 0]
        assert b.partials() == []


async def test_open_reader_recovers_after_a_failed_download(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    source = MemorySource()
    source.fail_at = 2_000_000
    source.stream_error = ConnectionBroken("cut")
    descriptor = source.add_blob(LARGE)
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, 100_000) == LARGE[:100_000]
        with pytest.raises(ConnectionBroken):
            await reader.read(100_000, 2_400_000)
        with pytest.raises(ConnectionBroken):
            await reader.read(2_500_000, 10)
        assert await reader.read(0, 1_000_000) == LARGE[:1_000_000]
        assert len(source.streams) == 1, "a failure is not asked for again at once"
        source.fail_at = None
        mock_clock.jump(OPTIONS.failure_seconds)
        assert await reader.read(100_000, 2_400_000) == LARGE[100_000:2_500_000]
        assert [request.start for request in source.streams] == [0, 2_000_000]
        reader.close()


async def test_failure_is_told_to_each_waiter_and_remembered_shortly(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    source = MemorySource()
    descriptor = Descriptor("x/y", Digest.of(SMALL), len(SMALL))
    errors: list[OrasfsError] = []

    async with bench(tmp_path) as b:

        async def reader() -> None:
            with pytest.raises(NotFound) as caught:
                await b.read(descriptor, source)
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(reader)
        await reader()
        assert len(source.streams) == 1
        assert len(set(map(id, errors))) == 4
        mock_clock.jump(OPTIONS.failure_seconds)
        source.add_blob(SMALL)
        assert await b.read(descriptor, source) == SMALL


async def test_what_one_source_lacks_is_asked_of_the_other(tmp_path: Path) -> None:
    failing, full = MemorySource(), MemorySource()
    descriptor = full.add_blob(SMALL)
    failing.add_blob(SMALL)
    failing.gate_at = failing.fail_at = 0
    got = []
    async with bench(tmp_path) as b:

        async def read_failing() -> None:
            with pytest.raises(RegistryFailure):
                await b.read(descriptor, failing)

        async def read_full() -> None:
            got.append(await b.read(descriptor, full))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_failing)
            await until(failing.at_gate.is_set)
            nursery.start_soon(read_full)
            await trio.testing.wait_all_tasks_blocked()
            failing.gate.set()
    assert got == [SMALL]


async def test_large_download_without_readers_stops_after_its_grace(tmp_path: Path) -> None:
    source = MemorySource()
    source.is_trusted = False
    source.gate_at = 2_000_000
    descriptor = source.add_blob(LARGE)
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        await until(source.at_gate.is_set)
        reader.close()
        await b.downloads.wait_idle()
        assert b.partials() == [2_000_000]
        assert b.counters.downloads_failed == 0
        source.gate.set()
        assert await b.read(descriptor, source) == LARGE
    assert [request.start for request in source.streams] == [0, 2_000_000]


async def test_reader_that_comes_back_within_the_grace_keeps_the_download(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    source = MemorySource()
    source.is_trusted = False
    source.gate_at = 2_000_000
    descriptor = source.add_blob(LARGE)
    async with bench(tmp_path) as b:
        (await b.open(descriptor, source)).close()
        reader = await b.open(descriptor, source)
        mock_clock.jump(2 * OPTIONS.grace_seconds)
        await trio.testing.wait_all_tasks_blocked()
        source.gate.set()
        assert await reader.read(2_900_000, 5) == LARGE[2_900_000:2_900_005]
        reader.close()
        await b.downloads.wait_idle()
    assert len(source.streams) == 1


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_reader_that_is_closed_lets_go_once_its_reads_are_done(
    tmp_path: Path, content: bytes
) -> None:
    source = MemorySource()
    descriptor = source.add_blob(content)
    source.gate_at = 0
    got: list[bytes] = []

    async def read(reader: FileReader) -> None:
        got.append(await reader.read(0, len(content)))

    options = replace(OPTIONS, open_seconds=0.01)  # before a byte has come
    async with bench(tmp_path, options) as b:
        reader = await b.open(descriptor, source)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, reader)
            await until(source.at_gate.is_set)
            await trio.testing.wait_all_tasks_blocked()
            reader.close()
            with pytest.raises(ValueError, match="closed"):
                await reader.read(0, 1)
            assert reader.read_now(0, 1) is None
            await trio.sleep(3 * OPTIONS.grace_seconds)  # a download that no one uses would end
            source.gate.set()
        reader.close()
    assert got == [content]


async def test_small_download_without_readers_runs_to_its_end(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    source = MemorySource()
    source.gate_at = 100_000
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        (await b.open(descriptor, source)).close()
        mock_clock.jump(2 * OPTIONS.grace_seconds)
        await trio.testing.wait_all_tasks_blocked()
        source.gate.set()
        await b.downloads.wait_idle()
        assert b.store.has(descriptor)


async def test_end_of_the_mount_is_not_held_up_and_keeps_what_came(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 2_000_000
    descriptor = source.add_blob(LARGE)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            downloads = Downloads(nursery, 4, OPTIONS.lazy_bytes)
            blobs = Blobs(ContentStore(tmp_path), downloads, nursery, OPTIONS, Counters(), print)
            blob = await blobs.acquire(descriptor, source)
            nursery.start_soon(blob.arrival.wait_verified)
            await until(source.at_gate.is_set)
            nursery.cancel_scope.cancel()
    source.gate_at = None
    async with bench(tmp_path) as b:
        # The thread that was left behind may still hold the file: then a second one is made.
        assert await b.read(descriptor, source) == LARGE


async def test_source_that_sends_another_range_is_refused(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(SMALL)

    class Shifted(MemorySource):
        def open_stream(
            self, descriptor: Descriptor, start: int = 0, stop: int | None = None
        ) -> MemoryStream:
            return super().open_stream(descriptor, start + 10, stop)

    shifted = Shifted()
    shifted.add_blob(SMALL)
    async with bench(tmp_path) as b:
        with pytest.raises(RegistryFailure, match="asked for byte 0"):
            await b.read(descriptor, shifted)


async def test_bug_in_a_source_reaches_the_reader_and_not_the_mount(tmp_path: Path) -> None:
    class Buggy(MemorySource):
        def open_stream(
            self, descriptor: Descriptor, start: int = 0, stop: int | None = None
        ) -> MemoryStream:
            raise ZeroDivisionError("a bug")

    source = Buggy()
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        with pytest.raises(ZeroDivisionError):
            await b.read(descriptor, source)


async def test_many_reads_of_one_reader_recover_with_one_new_download(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    source = MemorySource()
    source.gate_at = 1_000_000
    source.fail_at = 2_000_000
    descriptor = source.add_blob(LARGE)
    got: list[bytes] = []
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        source.gate.set()
        with pytest.raises(RegistryFailure):
            await reader.read(2_500_000, 10)
        source.fail_at = None
        mock_clock.jump(OPTIONS.failure_seconds)

        async def read(offset: int) -> None:
            got.append(await reader.read(offset, 1000))

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(read, 2_000_000 + number * 1000)
        assert b"".join(sorted(got)) == b"".join(
            sorted(LARGE[at : at + 1000] for at in range(2_000_000, 2_010_000, 1000))
        )
        assert len(source.streams) == 2
        reader.close()
        with pytest.raises(ValueError, match="closed"):
            await reader.read(0, 1)
        assert reader.read_now(0, 1) is None


async def test_full_disk_fails_the_readers_and_leaves_no_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    source = MemorySource()
    descriptor = source.add_blob(SMALL)

    def full(fd: int, content: bytes, offset: int) -> None:
        raise OSError(28, "no space left on device")

    async with bench(tmp_path) as b:
        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_fully", full)
            with pytest.raises(StorageFull):
                await b.read(descriptor, source)
        await b.downloads.wait_idle()
        assert b.partials() == []
        mock_clock.jump(OPTIONS.failure_seconds)
        assert await b.read(descriptor, source) == SMALL


async def test_open_reader_outlives_the_removal_of_its_blob(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, 3) == SMALL[:3]
        await b.wait_named()
        b.store.path_of(descriptor.digest).unlink()
        assert await reader.read(0, len(SMALL) + 1) == SMALL
        reader.close()
        reader.close()


async def test_two_caches_on_one_directory_get_the_same_blob_at_once(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 100_000
    descriptor = source.add_blob(SMALL)
    got: list[bytes] = []
    async with bench(tmp_path) as one, bench(tmp_path) as other:

        async def read(b: Bench) -> None:
            got.append(await b.read(descriptor, source))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, one)
            nursery.start_soon(read, other)
            await until(lambda: len(source.streams) == 2)
            source.gate.set()
    assert got == [SMALL, SMALL]
    assert list((tmp_path / "ingest").iterdir()) == []


async def test_reads_at_and_past_the_end_are_short(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_blob(SMALL)
    empty = source.add_blob(b"")
    async with bench(tmp_path) as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(len(SMALL) - 3, 100) == SMALL[-3:]
        assert await reader.read(len(SMALL), 100) == b""
        assert await reader.read(len(SMALL) + 7, 100) == b""
        assert reader.read_now(len(SMALL), 100) == b""
        assert reader.read_now(len(SMALL) - 3, 100) == SMALL[-3:]
        reader.close()
        assert await b.read(empty, source) == b""


async def test_downloads_over_the_limit_are_queued(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 0
    first, second = source.add_blob(LARGE), source.add_blob(LARGE[1:])
    small = source.add_blob(SMALL)
    options = replace(OPTIONS, downloads=1, streams=1)
    async with bench(tmp_path, options) as b, trio.open_nursery() as nursery:
        nursery.start_soon(b.read, first, source)
        await until(source.at_gate.is_set)
        nursery.start_soon(b.read, second, source)
        nursery.start_soon(b.read, small, source)
        await until(lambda: len(source.streams) == 2 and len(b.downloads.transfers()) == 3)
        states = {transfer.digest: transfer.state for transfer in b.downloads.transfers()}
        assert states == {
            first.digest: TransferState.RUNNING,
            second.digest: TransferState.QUEUED,
            small.digest: TransferState.RUNNING,  # waits for no large one
        }
        source.gate.set()


async def test_open_does_not_wait_long_for_the_first_bytes(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate_at = 0
    descriptor = source.add_blob(SMALL)
    async with bench(tmp_path, replace(OPTIONS, open_seconds=0.05)) as b:
        reader = await b.open(descriptor, source)
        assert reader.read_now(0, 1) is None
        source.gate.set()
        assert await reader.read(0, 5) == SMALL[:5]
        reader.close()


async def is_waiting(read: Callable[[], Awaitable[bytes]]) -> bool:
    """Tell whether a read does not end by itself."""
    with trio.move_on_after(0.05):
        await read()
        return False
    return True


def layout_with(path: Path, content: bytes, stored: bytes) -> tuple[LayoutSource, Descriptor]:
    descriptor = Descriptor("x/y", Digest.of(content), len(content))
    blob = path / "blobs/sha256" / descriptor.digest.hex
    blob.parent.mkdir(parents=True)
    blob.write_bytes(stored)
    return LayoutSource(path), descriptor


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_blob_of_a_layout_is_served_in_place(tmp_path: Path, content: bytes) -> None:
    source, descriptor = layout_with(tmp_path / "layout", content, content)
    async with bench(tmp_path / "cache") as b:
        reader = await b.open(descriptor, source)
        assert await reader.read(0, len(content)) == content
        await b.downloads.wait_idle()
        assert reader.is_verified
        reader.close()
        assert not b.store.has(descriptor)
        assert b.counters.bytes_received == 0
        again = await b.open(descriptor, source)
        assert again.is_verified, "once a mount is enough"
        again.close()


async def test_small_wrong_blob_of_a_layout_is_not_served(tmp_path: Path) -> None:
    source, descriptor = layout_with(tmp_path / "layout", SMALL, SMALL[:-1] + b"x")
    async with bench(tmp_path / "cache") as b:
        with pytest.raises(ContentMismatch):
            await b.read(descriptor, source)


@asynccontextmanager
async def occupied(b: Bench, content: bytes = LARGE[1:]) -> AsyncIterator[threading.Event]:
    """Hold the only thread, so that no check can be done until the event is set."""
    gated = MemorySource()
    gated.is_trusted = False
    gated.gate_at = 0
    blob = gated.add_blob(content)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(b.read, blob, gated))
        await until(gated.at_gate.is_set)
        yield gated.gate


async def test_large_wrong_blob_of_a_layout_ends_its_readers(
    tmp_path: Path, expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log(logging.ERROR, "wrong bytes were served")
    source, descriptor = layout_with(tmp_path / "layout", LARGE, LARGE[:-1] + b"x")
    async with bench(tmp_path / "cache", replace(OPTIONS, downloads=1)) as b:
        async with occupied(b) as gate:
            reader = await b.open(descriptor, source)
            assert await reader.read(0, 10) == LARGE[:10]
            gate.set()
        await b.downloads.wait_idle()
        with pytest.raises(ContentMismatch):
            await reader.read(0, 10)
        assert b.mismatches == [descriptor.digest]
        reader.close()


@pytest.mark.parametrize("at_once", [1, 2])
async def test_who_reads_all_of_a_layouts_wrong_blob_learns_it(
    tmp_path: Path, expect_log: ExpectLog, at_once: int
) -> None:
    """Whether one reader reads all, or each of two a part."""
    expect_log(logging.ERROR, "wrong bytes were served")
    source, descriptor = layout_with(tmp_path / "layout", LARGE, LARGE[:-1] + b"x")
    options = replace(OPTIONS, downloads=1)
    async with bench(tmp_path / "cache", options) as b, occupied(b) as gate:
        readers = [await b.open(descriptor, source) for _ in range(at_once)]
        for offset in range(0, len(LARGE) - 1, 7919):
            reader = readers[offset % at_once]
            count = min(7919, len(LARGE) - 1 - offset)
            assert await reader.read(offset, count) == LARGE[offset : offset + count]
        assert readers[0].read_now(len(LARGE) - 1, 1) is None
        gate.set()
        for reader in readers:
            with pytest.raises(ContentMismatch):
                await reader.read(len(LARGE) - 1, 1)
            reader.close()


async def test_what_was_read_before_a_check_was_stopped_counts(tmp_path: Path) -> None:
    """The kernel keeps it: who opens the file again asks for the rest only."""
    source, descriptor = layout_with(tmp_path / "layout", LARGE, LARGE)
    half = len(LARGE) // 2
    options = replace(OPTIONS, downloads=1)
    async with bench(tmp_path / "cache", options) as b:
        async with occupied(b) as gate:
            reader = await b.open(descriptor, source)
            await reader.read(0, half)
            arrival = b.blobs._open[descriptor.digest, descriptor.size].arrival
            reader.close()
            await until(lambda: arrival.is_stopping)
            gate.set()
        async with occupied(b, LARGE[2:]) as gate:
            reader = await b.open(descriptor, source)
            assert await reader.read(half, 10) == LARGE[half : half + 10]
            assert reader.read_now(half + 10, len(LARGE) - half - 10) is None
            gate.set()
            assert await reader.read(half, half) == LARGE[half : 2 * half]
            reader.close()


async def test_file_of_another_size_in_a_layout_is_a_mismatch(tmp_path: Path) -> None:
    source, descriptor = layout_with(tmp_path / "layout", SMALL, SMALL[:-1])
    async with bench(tmp_path / "cache") as b:
        with pytest.raises(ContentMismatch):
            await b.open(descriptor, source)


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_wrong_bytes_are_fetched_from_another_place_before_anybody_sees_them(
    tmp_path: Path, content: bytes
) -> None:
    source = TwoPlaces()
    source.is_trusted = False
    descriptor = source.add_blob(content)
    source.served[descriptor.digest] = content[::-1]
    async with bench(tmp_path) as b:
        assert await b.read(descriptor, source) == content
        assert b.counters.mismatches == 0
    assert source.rejected == [descriptor.digest]
    assert len(source.streams) == 2


async def test_where_no_place_has_the_right_bytes_the_last_mismatch_is_told(
    tmp_path: Path,
) -> None:
    source = TwoPlaces()
    descriptor = source.add_blob(SMALL)
    source.served[descriptor.digest] = SMALL[::-1]
    source.blobs[descriptor.digest] = SMALL[:-1] + b"?"
    async with bench(tmp_path) as b:
        with pytest.raises(ContentMismatch):
            await b.read(descriptor, source)
        assert b.counters.mismatches == 1
    assert len(source.streams) == 2
