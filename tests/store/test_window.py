"""How far ahead is fetched for which kind of reader."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orasfs.store.fetching.window import MAX_AHEAD_BYTES, MIB, Cursor, Want
from orasfs.store.files.chunks import CHUNK_BYTES

GIB = 1024 * MIB


def read(cursor: Cursor, start: int, size: int) -> Want:
    cursor.note(start, start + size)
    return cursor.need(start, start + size)


def test_a_look_at_the_head_costs_one_mebibyte() -> None:
    assert read(Cursor(GIB), 0, 16384) == Want(0, MIB, is_open=False)


def test_a_first_read_in_large_blocks_asks_for_all_and_takes_a_little() -> None:
    want = read(Cursor(GIB), 0, 256 * 1024)
    assert want.is_open
    assert want.ahead <= 2 * MIB


def test_a_read_somewhere_costs_a_chunk() -> None:
    cursor = Cursor(GIB)
    for start in (500 * MIB + 5, 100 * MIB, GIB - 4096):
        want = read(cursor, start, 4096)
        assert want.ahead - start <= CHUNK_BYTES
        assert not want.is_open
        assert cursor.prefetch() is None


def test_reading_on_fetches_further_and_further_ahead_and_not_beyond_a_limit() -> None:
    cursor = Cursor(GIB)
    start = 200 * MIB
    aheads = []
    while start < 400 * MIB:
        aheads.append(read(cursor, start, 128 * 1024).ahead - start)
        start += 128 * 1024
    assert all(after >= before - CHUNK_BYTES for before, after in pairwise(aheads))
    assert MAX_AHEAD_BYTES <= aheads[-1] <= MAX_AHEAD_BYTES + MIB
    assert cursor.need(start, start).is_open


def test_a_reader_that_jumps_begins_anew() -> None:
    cursor = Cursor(GIB)
    for start in range(0, 100 * MIB, MIB):
        read(cursor, start, MIB)
    assert not read(cursor, 800 * MIB, 4096).is_open


def test_prefetching_is_arranged_half_a_window_at_a_time() -> None:
    cursor = Cursor(GIB)
    arranged = 0
    for start in range(0, 256 * MIB, 128 * 1024):
        cursor.note(start, start + 128 * 1024)
        want = cursor.prefetch()
        if want is not None:
            cursor.arrange(want)
            arranged += 1
    assert 8 <= arranged <= 24


def test_several_places_are_read_on_from_in_turn() -> None:
    cursor = Cursor(GIB)
    places = [0, 300 * MIB, 700 * MIB, 900 * MIB]
    wants: list[Want] = []
    for start in range(0, 16 * MIB, 128 * 1024):
        wants = [read(cursor, place + start, 128 * 1024) for place in places]
    assert all(want.is_open for want in wants)
    windows = [want.ahead - want.start for want in wants]
    assert all(window >= 8 * MIB for window in windows)
    assert sum(windows) <= MAX_AHEAD_BYTES + 4 * MIB, "what may be for nothing stays bounded"


def test_looks_elsewhere_do_not_end_reading_in_order() -> None:
    cursor = Cursor(GIB)
    places = iter(range(100 * MIB, 1000 * MIB, 9 * MIB))
    for start in range(0, 20 * MIB, 256 * 1024):
        read(cursor, start, 256 * 1024)
        read(cursor, next(places), 4096)
    last = read(cursor, 20 * MIB, 256 * 1024)
    assert last.is_open
    assert last.ahead - last.start >= 16 * MIB


def test_a_place_that_was_left_is_forgotten() -> None:
    cursor = Cursor(GIB)
    for start in range(0, 20 * MIB, MIB):
        read(cursor, start, MIB)
        want = cursor.prefetch()
        if want is not None:
            cursor.arrange(want)
    assert [want.start for want in cursor.standing()] == [20 * MIB]
    for start in range(500 * MIB, 570 * MIB, MIB):
        read(cursor, start, MIB)
    assert cursor.standing() == []
    last = read(cursor, 570 * MIB, MIB)
    assert last.ahead - last.start >= MAX_AHEAD_BYTES, "alone again"


def test_what_stands_is_what_was_arranged_and_not_read() -> None:
    cursor = Cursor(GIB)
    assert cursor.standing() == []
    cursor.note(0, MIB)
    want = cursor.prefetch()
    assert want is not None
    cursor.arrange(want)
    assert cursor.standing() == [Want(MIB, want.ahead, want.is_open)]
    cursor.note(MIB, want.ahead)
    assert cursor.standing() == []


@given(st.lists(st.tuples(st.integers(0, GIB - 1), st.integers(1, MIB)), max_size=50))
def test_what_is_wanted_covers_the_read_and_is_bounded(reads: list[tuple[int, int]]) -> None:
    cursor = Cursor(GIB)
    for start, length in reads:
        stop = min(GIB, start + length)
        cursor.note(start, stop)
        want = cursor.need(start, stop)
        assert want.start == start
        assert stop <= want.ahead <= min(GIB, stop + MAX_AHEAD_BYTES + CHUNK_BYTES)
