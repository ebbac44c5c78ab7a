"""The chunk map, against a plain set of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from orasfs.store.files.chunks import CHUNK_BYTES, ChunkMap, ceiling, floor

SIZE = 5 * CHUNK_BYTES + 1000


def filled(*spans: tuple[int, int]) -> ChunkMap:
    chunks = ChunkMap(SIZE)
    for start, stop in spans:
        chunks.fill(start, stop)
    return chunks


def test_an_empty_blob_is_complete() -> None:
    assert ChunkMap(0).is_complete
    assert ChunkMap(0).gap(0, 0) is None


def test_gap_is_where_filling_must_go_on() -> None:
    chunks = filled((0, 100), (2 * CHUNK_BYTES, 3 * CHUNK_BYTES))
    assert chunks.gap(0, 100) is None
    assert chunks.gap(0, 101) == 100
    assert chunks.gap(5000, 5001) == 100, "before what is wanted, in the same chunk"
    assert chunks.gap(2 * CHUNK_BYTES, 3 * CHUNK_BYTES) is None
    assert chunks.gap(2 * CHUNK_BYTES, SIZE) == 3 * CHUNK_BYTES
    assert chunks.gap(CHUNK_BYTES, CHUNK_BYTES) is None


def test_hole_ends_where_bytes_begin() -> None:
    chunks = filled((0, 100), (2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1))
    assert chunks.hole_end(100) == 2 * CHUNK_BYTES
    assert chunks.hole_end(2 * CHUNK_BYTES + 1) == SIZE


def test_what_is_there_is_not_filled_again() -> None:
    chunks = filled((0, 100), (CHUNK_BYTES, CHUNK_BYTES + 5))
    assert list(chunks.holes(0, SIZE)) == [(100, CHUNK_BYTES), (CHUNK_BYTES + 5, SIZE)]
    assert list(chunks.holes(500, CHUNK_BYTES)) == [], "the bytes before it are not there"
    chunks.fill(0, 50)
    assert chunks.level(0) == 100


def test_map_that_cannot_be_right_is_refused() -> None:
    chunks = filled((0, SIZE))
    assert not chunks.load(b"\xff" * 4 * len(chunks))
    assert chunks.received == 0
    assert not chunks.load(b"")
    assert not chunks.load(bytes(4 * len(chunks) + 4))


@given(st.integers(0, SIZE))
def test_floor_and_ceiling_are_chunk_limits(offset: int) -> None:
    assert floor(offset) <= offset <= ceiling(offset, SIZE)
    assert ceiling(offset, SIZE) - floor(offset) <= CHUNK_BYTES
    assert floor(offset) % CHUNK_BYTES == 0


near_limits = st.integers(0, 6).flatmap(
    lambda chunk: st.integers(-3, 3).map(lambda by: max(0, min(SIZE, chunk * CHUNK_BYTES + by)))
)
offsets = near_limits | st.integers(0, SIZE)


@given(st.lists(st.tuples(offsets, offsets), max_size=12), st.tuples(offsets, offsets))
def test_map_agrees_with_a_set_of_spans(
    orders: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    """Fill as a walker does: from a gap to some end before the hole's; then compare."""
    chunks = ChunkMap(SIZE)
    there = bytearray(SIZE)
    for start, stop in orders:
        gap = chunks.gap(start, stop)
        if start >= stop:
            assert gap is None
            continue
        assert (gap is None) == all(there[start:stop])
        if gap is None:
            continue
        assert not there[gap]
        end = min(max(stop, gap), chunks.hole_end(gap))
        assert not any(there[gap:end])
        chunks.fill(gap, end)
        there[gap:end] = b"\1" * (end - gap)
    assert chunks.received == sum(there)
    assert chunks.is_complete == all(there)
    assert chunks.end() == bytes(there).rfind(1) + 1
    start, stop = min(asked), max(asked)
    assert chunks.has(start, stop) == all(there[start:stop])
    copy = ChunkMap(SIZE)
    assert copy.load(chunks.packed())
    assert copy.packed() == chunks.packed()
    for begin, end in copy.holes(start, stop):
        assert not any(there[begin:end])
        copy.fill(begin, end)
    assert copy.received >= chunks.received
