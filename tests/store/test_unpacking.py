"""A pass over a layer, as those see it who wait for it."""

import gzip
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from orasfs.aio import LOCAL_WORK_SECONDS
from orasfs.errors import TimedOut
from orasfs.oci.descriptor import Descriptor
from orasfs.store.cache import Cache
from orasfs.store.options import CacheOptions
from orasfs.store.repository import CachedRepository
from orasfs.tree.layers import Layer
from orasfs.tree.node import PackedLayer
from orasfs.vfs.waiting import Patience
from tests.fakes.repositories import tar_of
from tests.fakes.source import GATE_SECONDS, MemorySource, MemoryStream
from tests.support.caches import LAZY

WAIT_SECONDS = 30.0
STEP_SECONDS = 20.0
STEPS = 30  # which take ten minutes
OPTIONS = replace(LAZY, streams_ahead=1)  # so that it is one stream which is told to send
CONTENT = bytes(range(256)) * 200


class SteppedSource(MemorySource):
    """Sends a piece of a blob when it is told to, and tells when the last one was taken."""

    def __init__(self, pieces: int, content: bytes) -> None:
        super().__init__()
        self.chunk_bytes = -(-len(content) // pieces)
        self.descriptor = self.add_blob(content)
        self.asked = threading.Semaphore(0)
        self.sent = threading.Semaphore(0)

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> MemoryStream:
        """Open a stream that waits before each piece."""
        end = descriptor.size if stop is None else stop
        return _Stepped(self, self.blobs[descriptor.digest], start, end)

    async def step(self) -> None:
        """Send a piece, and wait until it was taken and the next one is asked for."""
        self.sent.release()
        await self.wait_asked()

    def finish(self) -> None:
        """Send all that is left, and its end."""
        self.sent.release(2 * STEPS)

    async def wait_asked(self) -> None:
        """Wait until a piece is asked for, and the loop has heard of the last one."""
        acquire = self.asked.acquire
        assert await trio.to_thread.run_sync(lambda: acquire(timeout=GATE_SECONDS))


class _Stepped(MemoryStream):
    def __init__(self, source: SteppedSource, content: bytes, start: int, stop: int) -> None:
        super().__init__(source, content, start, stop)
        self._steps = source
        self._closing = threading.Event()

    def readinto(self, buffer: memoryview) -> int:
        self._steps.asked.release()
        while not self._steps.sent.acquire(timeout=0.01):
            if self._closing.is_set():
                return 0
        return super().readinto(buffer)

    def close(self) -> None:
        self._closing.set()
        super().close()


@asynccontextmanager
async def repository_of(
    root: Path, source: MemorySource, clock: MockClock, options: CacheOptions = OPTIONS
) -> AsyncIterator[CachedRepository]:
    """Have a repository behind a cache, for as long as it takes."""
    async with trio.open_nursery() as nursery:
        cache = Cache(root, nursery, options=options)
        yield cache.repository(source, "host", "a")
        clock.rate = 1000  # for what ends after a while
        await cache.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_layer_that_arrives_slowly_is_waited_for(
    tmp_path: Path, nursery: trio.Nursery, mock_clock: MockClock, *, is_trusted: bool
) -> None:
    """Whether it comes in pieces, or in order and is verified first."""
    source = SteppedSource(STEPS, gzip.compress(tar_of({"docs/a": CONTENT}), 0))
    source.is_trusted = is_trusted
    patience = Patience(nursery, WAIT_SECONDS)
    layer = PackedLayer(source.descriptor, "docs", None)
    opened: list[Layer] = []
    async with repository_of(tmp_path, source, mock_clock) as repository:

        async def list_it() -> None:
            opened.append(await patience.shared("list", lambda: repository.open_layer(layer)))

        async with trio.open_nursery() as readers:
            readers.start_soon(list_it)
            await source.wait_asked()
            for _ in range(STEPS):
                mock_clock.jump(STEP_SECONDS)
                assert not opened
                await source.step()
            source.finish()
    assert opened[0].index.locate("docs/a") is not None


async def test_layer_that_arrives_no_more_is_given_up_within_the_deadline(
    tmp_path: Path, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    source = SteppedSource(STEPS, gzip.compress(tar_of({"docs/a": CONTENT}), 0))
    patience = Patience(nursery, WAIT_SECONDS)
    layer = PackedLayer(source.descriptor, "docs", None)
    failures: list[TimedOut] = []
    async with repository_of(tmp_path, source, mock_clock) as repository:

        async def list_it() -> None:
            with pytest.raises(TimedOut) as raised:
                await patience.shared("list", lambda: repository.open_layer(layer))
            failures.append(raised.value)

        async with trio.open_nursery() as readers:
            readers.start_soon(list_it)
            await source.wait_asked()
            for _ in range(STEPS // 2):
                mock_clock.jump(STEP_SECONDS)
                await source.step()
            assert not failures
            stopped_at = trio.current_time()
            while not failures:  # the thread may be at the last piece for some of these
                mock_clock.jump(WAIT_SECONDS / 10)
                await wait_all_tasks_blocked(0.01)
                assert trio.current_time() - stopped_at < LOCAL_WORK_SECONDS + 2 * WAIT_SECONDS
        source.finish()
    assert "nothing more within 30 s" in str(failures[0])


async def test_download_that_waits_for_its_turn_is_waited_for_while_others_come(
    tmp_path: Path, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    source = SteppedSource(STEPS, bytes(30_000))
    layer = PackedLayer(source.add_blob(gzip.compress(tar_of({"docs/a": b"a"}), 0)), "docs", None)
    patience = Patience(nursery, WAIT_SECONDS)
    opened: list[Layer] = []
    options = CacheOptions(downloads=1)
    async with repository_of(tmp_path, source, mock_clock, options) as repository:

        async def list_it() -> None:
            opened.append(await patience.shared("list", lambda: repository.open_layer(layer)))

        async with trio.open_nursery() as readers:
            source.sent.release()  # the first piece opens it
            reader = await repository.open_blob(source.descriptor)
            for _ in range(2):
                await source.wait_asked()
            readers.start_soon(list_it)
            for _ in range(STEPS - 1):
                mock_clock.jump(STEP_SECONDS)
                assert not opened
                await source.step()
            source.finish()
        reader.close()
    assert opened[0].index.locate("docs/a") is not None
