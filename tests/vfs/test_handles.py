import pytest

from orasfs.vfs.handles import HandleTable, Snapshot


def test_handle_numbers_are_not_used_again() -> None:
    table: HandleTable[str] = HandleTable()
    first = table.add("a")
    assert table.remove(first) == "a"
    assert table.add("b") != first
    with pytest.raises(KeyError):
        table.get(first)
    assert len(table) == 1


def test_a_reader_continues_behind_the_id_it_has() -> None:
    snapshot: Snapshot[str] = Snapshot()
    snapshot.grow(["a", "b", "c"])
    assert snapshot.batch(0, 2) == [(1, "a"), (2, "b")]
    snapshot.grow(["d"])
    assert snapshot.batch(2, 9) == [(3, "c"), (4, "d")]


def test_a_snapshot_lacks_entries_until_it_is_complete() -> None:
    snapshot: Snapshot[str] = Snapshot()
    assert snapshot.lacks(0)
    snapshot.grow(["a"])
    assert not snapshot.lacks(0)
    assert snapshot.lacks(1)
    snapshot.grow([])
    assert not snapshot.lacks(1)
    assert snapshot.batch(1, 5) == []
