"""One stream into a partial file, without a loop around it."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.fetching.pace import Pace
from orasfs.store.fetching.walker import Walker
from orasfs.store.files.chunkfile import ChunkFile
from orasfs.store.files.chunks import CHUNK_BYTES
from tests.fakes.source import MemorySource, MemoryStream

CONTENT = os.urandom(8 * CHUNK_BYTES + 5)
SIZE = len(CONTENT)
DESCRIPTOR = Descriptor("x/y", Digest.of(CONTENT), SIZE)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[ChunkFile]:
    file = ContentStore(tmp_path).open_chunks(DESCRIPTOR)
    yield file
    file.close(keep=False)


class Told(MemorySource):
    """Calls `tell` with each piece it has given, before the reader gets it."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self.add_blob(CONTENT)
        self.tell = tell

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> MemoryStream:
        super().open_stream(descriptor, start, stop)
        source = self

        class Stream(MemoryStream):
            def readinto(self, buffer: memoryview) -> int:
                count = super().readinto(buffer)
                source.tell(self.offset)
                return count

        return Stream(self, CONTENT, start, SIZE if stop is None else stop)


def walker_of(
    source: MemorySource, file: ChunkFile, start: int, stop: int, limit: int, *, idle: float = 0.01
) -> Walker:
    return Walker(
        source, DESCRIPTOR, file, start, stop, limit,
        is_open=True, idle_seconds=idle, on_news=lambda: None, pace=Pace(4),
    )  # fmt: skip


def test_what_has_come_when_it_is_told_to_end_is_kept(file: ChunkFile) -> None:
    source = Told(lambda _: walker.end())
    walker = walker_of(source, file, 0, SIZE, SIZE)
    walker.walk()
    assert walker.position == file.chunks.received == source.bytes_sent == source.chunk_bytes


def test_it_goes_as_far_as_it_may_and_then_ends(file: ChunkFile) -> None:
    source = Told(lambda _: None)
    walker = walker_of(source, file, CHUNK_BYTES, SIZE, 3 * CHUNK_BYTES)
    walker.walk()
    assert walker.position == 3 * CHUNK_BYTES
    assert source.bytes_sent == 2 * CHUNK_BYTES
    assert not walker.join(3 * CHUNK_BYTES, SIZE, near=SIZE), "it is over"


def test_it_goes_on_when_it_may_go_further(file: ChunkFile) -> None:
    source = Told(lambda _: None)
    walker = walker_of(source, file, 0, SIZE, CHUNK_BYTES, idle=20)
    thread = threading.Thread(target=walker.walk)
    thread.start()
    assert walker.join(2 * CHUNK_BYTES, SIZE, near=SIZE)
    thread.join(10)
    assert file.chunks.is_complete
    assert len(source.streams) == 1


def test_only_what_is_not_claimed_can_be_taken_from_it(file: ChunkFile) -> None:
    taken: list[bool] = []

    def take(offset: int) -> None:
        if offset == CHUNK_BYTES:
            taken.append(walker.curtail(0))
            taken.append(walker.curtail(4 * CHUNK_BYTES))

    source = Told(take)
    source.chunk_bytes = CHUNK_BYTES
    walker = walker_of(source, file, 0, SIZE, SIZE)
    walker.walk()
    assert taken == [False, True]
    assert file.chunks.end() == walker.position == 4 * CHUNK_BYTES


def test_it_is_joined_only_on_its_way_and_near(file: ChunkFile) -> None:
    walker = walker_of(Told(lambda _: None), file, CHUNK_BYTES, 6 * CHUNK_BYTES, 2 * CHUNK_BYTES)
    assert not walker.join(0, SIZE, near=SIZE), "behind it"
    assert not walker.join(6 * CHUNK_BYTES, SIZE, near=SIZE), "behind its end"
    assert not walker.join(4 * CHUNK_BYTES, SIZE, near=CHUNK_BYTES), "too far"
    assert walker.join(CHUNK_BYTES + 5, 3 * CHUNK_BYTES)
    walker.end()
    assert not walker.join(CHUNK_BYTES + 5, 3 * CHUNK_BYTES)
    walker.walk()
    assert file.chunks.received == 0
