"""What is made ahead: the same, in its order, by a thread that ends with it."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from orasfs.store.packed.ahead import made_ahead


def _items(count: int, made: list[int] | None = None) -> Iterator[tuple[int, int]]:
    """Make pairs of a number and the thread that made it."""
    for number in range(count):
        if made is not None:
            made.append(number)
        yield number, threading.get_ident()


def _threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith("decompressing")}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_all_comes_in_order_from_one_other_thread(count: int) -> None:
    found = list(made_ahead(_items(count)))
    assert [number for number, _ in found] == list(range(count))
    assert threading.get_ident() not in {thread for _, thread in found}
    assert len({thread for _, thread in found}) == min(count, 1)
    assert not _threads()


def test_no_more_is_made_than_two_ahead() -> None:
    made: list[int] = []
    with closing(made_ahead(_items(100, made))) as items:
        for number, _ in items:
            assert len(made) <= number + 3
    assert len(made) == 100


def test_failure_comes_behind_what_was_made_before_it() -> None:
    def failing() -> Iterator[int]:
        yield from (1, 2, 3)
        raise ValueError("damaged")

    found: list[int] = []
    with pytest.raises(ValueError, match="damaged"), closing(made_ahead(failing())) as items:
        found.extend(items)
    assert found == [1, 2, 3]
    assert not _threads()


def test_thread_ends_when_the_rest_is_not_wanted() -> None:
    made: list[int] = []
    with closing(made_ahead(_items(100, made))) as items:
        next(items)
        assert _threads()
    assert not _threads()
    assert len(made) <= 4
