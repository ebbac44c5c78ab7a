import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.vfs.counts import CountMisused, Tally, check_given_back, fewer


@pytest.mark.parametrize("times", [-1, 3])
def test_what_cannot_be_given_back_is_told(times: int) -> None:
    check_given_back(2, 2)
    with pytest.raises(CountMisused):
        check_given_back(2, times)


def test_too_much_given_back_leaves_none() -> None:
    assert [fewer(2, times) for times in (0, 1, 2, 3)] == [2, 1, 0, 0]


@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 600))))
def test_a_tally_counts_each_thing_however_often(
    size: int, changes: list[tuple[int, int]]
) -> None:
    tally = Tally(size)
    expected: dict[int, int] = {}
    for number, times in changes:
        have = expected.get(number, 0)
        if times <= have:
            tally.give_back(number, times)
            expected[number] = have - times
        else:
            for _ in range(times - have):
                tally.take(number)
            expected[number] = times
        assert {each: tally.of(each) for each in tally} == {k: v for k, v in expected.items() if v}
        assert len(tally) == len(list(tally))


def test_a_tally_raises_when_too_much_is_given_back_and_counts_none_then() -> None:
    tally = Tally(1)
    for number in (0, 1):
        tally.take(number)
        with pytest.raises(CountMisused):
            tally.give_back(number, 2)
        assert not tally.of(number)
    assert not len(tally)


def test_clearing_tells_how_many_there_were() -> None:
    tally = Tally(1)
    tally.take(0)
    tally.take(0)
    assert tally.clear(0) == 2
    assert tally.clear(0) == 0
