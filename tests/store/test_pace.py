"""When several streams at once are tried, and when that is given up."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from orasfs.store.fetching.contention import stalled_seconds
from orasfs.store.fetching.pace import FAR_SECONDS, FAST_BYTES_PER_SECOND, Epochs, Pace

MIB = 1024 * 1024


def far(latency: float = 0.1, stalled: Callable[[], float] = float) -> Pace:
    pace = Pace(4, stalled)
    pace.answered(3 * latency, is_part=False)  # with the handshakes
    pace.answered(latency, is_part=True)
    return pace


def tried(alone: float, together: float) -> Pace:
    pace = far()
    pace.judge(alone, 0)
    assert pace.streams == 4
    pace.judge(alone, 1)  # while the new ones get up to speed
    assert pace.streams == 4
    pace.judge(together, 2)
    return pace


def test_nothing_is_tried_before_there_was_an_answer() -> None:
    pace = Pace(4)
    pace.judge(1e6, 0)
    assert pace.streams == 1


def test_nothing_is_tried_nearby() -> None:
    pace = far(FAR_SECONDS / 2)
    pace.judge(1e6, 0)
    assert pace.streams == 1


def test_nothing_is_tried_while_the_processors_are_fought_for() -> None:
    pace = far()
    pace.judge(1e6, 0, is_busy=True)
    assert pace.streams == 1
    pace.judge(1e6, 1)
    assert pace.streams == 4


def test_nothing_is_tried_where_one_stream_is_fast() -> None:
    pace = far()
    pace.judge(FAST_BYTES_PER_SECOND, 0)
    assert pace.streams == 1


def test_several_that_bring_more_stay() -> None:
    pace = tried(10e6, 35e6)
    assert pace.streams == 4
    pace.judge(9e6, 3)
    assert pace.streams == 4, "a moment in which others have the link is no reason to end them"


def test_several_that_bring_no_more_are_given_up_for_a_minute() -> None:
    pace = tried(3e6, 3.1e6)
    assert pace.streams == 1
    pace.judge(3e6, 30)
    assert pace.streams == 1
    pace.judge(3e6, 63)
    assert pace.streams == 4


def test_a_source_that_ignores_ranges_is_never_asked_by_several() -> None:
    pace = tried(10e6, 35e6)
    pace.refuse()
    assert pace.streams == 1
    pace.judge(1e6, 1000)
    assert pace.streams == 1


def test_a_source_of_which_that_is_not_known_is_asked_by_two_first() -> None:
    pace = Pace(4)
    pace.answered(0.1, is_part=False)
    pace.judge(1e6, 0)
    assert pace.streams == 1, "one answer may have been held up"
    pace.answered(0.1, is_part=False)
    pace.judge(1e6, 1)
    assert pace.streams == 2
    pace.answered(0.1, is_part=True)
    assert pace.streams == 4


def test_an_answer_that_was_held_up_does_not_make_a_long_way() -> None:
    pace = Pace(4)
    pace.answered(0.05, is_part=False)
    pace.answered(0.06, is_part=False)
    pace.judge(50e6, 0)
    assert pace.streams == 2
    pace.answered(0.002, is_part=True)
    assert pace.streams == 1


def test_a_part_takes_several_round_trips_to_come() -> None:
    pace = tried(10e6, 40e6)
    assert pace.part_bytes == pytest.approx(8e6)
    assert 4 * pace.part_bytes <= 64 * MIB, "all are in a reader's window"
    assert tried(100e3, 400e3).part_bytes == 2 * MIB
    assert tried(150e6, 190e6).part_bytes == 8 * MIB


class Clocked:
    def __init__(self, stalled: Callable[[], float] = float) -> None:
        self.pace = far(stalled=stalled)
        self.received = 0
        self.epochs = Epochs(self.pace, lambda: self.received)


def test_a_reader_that_waits_shows_how_fast_the_way_is() -> None:
    clocked = Clocked()
    now = 5.0
    while not clocked.epochs.waited(now, now + 0.09):
        now += 0.1
        clocked.received += 1_000_000
        assert now < 7
    assert clocked.pace.streams == 4
    assert now - 5 == pytest.approx(clocked.pace.epoch_seconds, abs=0.1)


def test_a_machine_that_is_busy_shows_nothing() -> None:
    clocked = Clocked(map(float, count()).__next__)
    now = 5.0
    while not clocked.epochs.waited(now, now + 0.09):
        now += 0.1
        clocked.received += 1_000_000
    assert clocked.pace.streams == 1


def test_the_kernel_tells_how_busy_it_is(tmp_path: Path) -> None:
    told = tmp_path / "cpu"
    assert stalled_seconds(told) == 0, "not every kernel does"
    told.write_text(
        "some avg10=1.53 avg60=1.10 avg300=0.30 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    assert stalled_seconds(told) == 2.5
    told.write_text("what?\n")
    assert stalled_seconds(told) == 0


def test_a_reader_that_is_slow_itself_shows_nothing() -> None:
    clocked = Clocked()
    now = 5.0
    while now < 60:
        assert not clocked.epochs.waited(now, now + 0.01)
        now += 0.1
        clocked.received += 1_000_000
    assert clocked.pace.streams == 1


def test_a_pause_between_two_waits_counts_for_nothing() -> None:
    clocked = Clocked()
    assert not clocked.epochs.waited(5, 5.3)
    clocked.received += 5_000_000
    assert not clocked.epochs.waited(100, 100.3), "begun anew"
    clocked.received += 30_000_000
    assert clocked.epochs.waited(100.3, 100.6)
    assert clocked.pace.part_bytes == 8 * MIB
