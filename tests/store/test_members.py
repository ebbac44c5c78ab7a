import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import StorageFailure
from orasfs.store.packed.members import MemberReader
from orasfs.tree.layerindex import Extent, Place
from orasfs.tree.layers import TarReader

SLAB = bytes(range(256)) * 40
PLACE = Place(0, None, 0)


class Slab:
    """A layer whose slab is its tar, and all of it there."""

    def __init__(self, fd: int) -> None:
        self.slab_fd = fd
        self.is_verified = True

    def open_blob(self, number: int) -> int | None:
        raise AssertionError(number)

    def files_now(self, _stop: int) -> "Slab":
        return self

    def tar_reader(self) -> TarReader | None:
        return None

    async def obtain(self, _stop: int) -> "Slab":
        raise AssertionError


@pytest.fixture(scope="module")
def slab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slab]:
    path: Path = tmp_path_factory.mktemp("slab") / "slab"
    path.write_bytes(SLAB)
    fd = os.open(path, os.O_RDONLY)
    yield Slab(fd)
    os.close(fd)


@st.composite
def sparse_files(draw: st.DrawFn) -> tuple[list[Extent], int]:
    extents = []
    position = 0
    for _ in range(draw(st.integers(0, 5))):
        position += draw(st.integers(0, 300))
        length = draw(st.integers(1, 500))
        extents.append(Extent(position, draw(st.integers(0, len(SLAB) - 500)), length))
        position += length
    return extents, position + draw(st.integers(0, 300))


def expected(extents: list[Extent], size: int) -> bytes:
    content = bytearray(size)
    for one in extents:
        piece = SLAB[one.tar_offset : one.tar_offset + one.length]
        content[one.file_offset : one.file_offset + one.length] = piece
    return bytes(content)


@given(sparse_files(), st.integers(0, 3000), st.integers(0, 3000))
def test_reads_are_slices_of_the_file(
    slab: Slab, file: tuple[list[Extent], int], offset: int, size: int
) -> None:
    extents, length = file
    wanted = expected(extents, length)[offset : offset + size]

    async def read() -> bytes:
        return await MemberReader(slab, length, PLACE, extents, trio.CapacityLimiter(1)).read(
            offset, size
        )

    reader = MemberReader(slab, length, PLACE, extents, trio.CapacityLimiter(1))
    assert reader.read_now(offset, size) == wanted
    assert trio.run(read) == wanted
    assert (reader.size, reader.is_verified) == (length, True)


async def test_closed_reader_gives_nothing(slab: Slab) -> None:
    reader = MemberReader(slab, 10, PLACE, [Extent(0, 0, 10)], trio.CapacityLimiter(1))
    reader.close()
    reader.close()
    assert reader.read_now(0, 5) is None
    with pytest.raises(ValueError, match="closed"):
        await reader.read(0, 5)


async def test_slab_that_is_too_short_is_a_storage_failure(slab: Slab) -> None:
    reader = MemberReader(slab, 20, PLACE, [Extent(0, len(SLAB) - 5, 20)], trio.CapacityLimiter(1))
    assert reader.read_now(0, 20) is None
    with pytest.raises(StorageFailure, match="ends at byte"):
        await reader.read(0, 20)
