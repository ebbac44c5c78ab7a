import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orasfs.vfs.inodes import InodeTable, number_of, slot_of
from orasfs.vfs.keys import ROOT_KEY, Key, Serial, derive
from orasfs.vfs.operations import ROOT_INO, Ino

ExpectLog = Callable[[int, str], None]


@dataclass(frozen=True)
class Thing:
    key: Key
    serial: Serial | None = None


class Many:
    """A series of things."""

    def __init__(self, name: str, size: int = 4) -> None:
        self.key = derive(ROOT_KEY, name)
        self.size = size

    def __len__(self) -> int:
        return self.size

    def node(self, ordinal: int) -> Thing:
        return Thing(derive(self.key, str(ordinal)), Serial(self.key, ordinal, self))

    def unknown(self, ordinal: int) -> Thing:
        """Return the same as long as the series is not known."""
        return Thing(derive(self.key, str(ordinal)), Serial(self.key, ordinal))


ROOT = Thing(ROOT_KEY)
FEW, MANY = Many("few", 1), Many("many")


def thing(name: str) -> Thing:
    return Thing(derive(ROOT_KEY, name))


def test_the_root_is_inode_one_and_never_leaves() -> None:
    table = InodeTable(ROOT)
    assert table.take(ROOT) == ROOT_INO
    table.forget(ROOT_INO, 1)
    assert table.node(ROOT_INO) is ROOT


def test_one_key_is_one_inode_in_every_table() -> None:
    first, second = InodeTable(ROOT), InodeTable(ROOT)
    second.take(thing("b"))
    assert first.take(thing("a")) == second.take(thing("a")) == number_of(thing("a").key)


def test_a_collision_takes_the_next_number() -> None:
    table = InodeTable(ROOT, number=lambda _: 1)
    assert [table.take(thing(name)) for name in "abca"] == [2, 3, 4, 2]


def test_numbers_are_positive_for_programs_that_think_they_are_signed() -> None:
    assert all(0 <= number_of(derive(ROOT_KEY, str(n))) < 1 << 63 for n in range(1000))


def test_keys_tell_nested_names_from_names_with_slashes() -> None:
    nested = derive(derive(ROOT_KEY, "a"), "b")
    assert len({nested, derive(ROOT_KEY, "a", "b"), derive(ROOT_KEY, "a/b")}) == 3


def test_a_forgotten_inode_leaves_the_table() -> None:
    table = InodeTable(ROOT)
    ino = table.take(thing("a"))
    table.count_lookup(ino)
    table.forget(ino, 1)
    assert table.node(ino) == thing("a")
    table.forget(ino, 1)
    with pytest.raises(KeyError):
        table.node(ino)


def test_a_pinned_inode_stays_until_it_is_unpinned() -> None:
    table = InodeTable(ROOT)
    ino = table.pin(thing("a"))
    table.count_lookup(ino)
    table.forget(ino, 1)
    assert table.node(ino) == thing("a")
    table.unpin(ino)
    assert len(table) == 1


def test_forget_never_raises_but_logs(expect_log: ExpectLog) -> None:
    expect_log(logging.ERROR, "4 references too many")
    expect_log(logging.ERROR, "unknown inode")
    table = InodeTable(ROOT)
    ino = table.take(thing("a"))
    table.forget(ino, 5)
    table.forget(ino, 1)
    assert len(table) == 1


def test_a_member_of_a_series_is_no_row_and_is_made_anew_from_its_number() -> None:
    table, many = InodeTable(ROOT), Many("many")
    ino = table.take(many.node(2))
    assert ino == (slot_of(many.key) << 32) + 2
    assert [each for each, _ in table] == [ROOT_INO]
    assert [(series, list(inos)) for series, inos in table.members()] == [(many, [ino])]
    assert table.node(ino) == many.node(2)
    assert table.present(ino, many.node(2)) == many.node(2)
    table.forget(ino, 1)
    with pytest.raises(KeyError):
        table.node(ino)
    assert not list(table.members())


def test_numbers_of_members_are_positive_and_no_others() -> None:
    table = InodeTable(ROOT, slot=lambda _: (1 << 31) - 1)
    inos = [table.take(Many(name).node(3)) for name in "abc"]
    assert len(set(inos)) == 3
    assert all(1 << 62 <= ino < 1 << 63 for ino in inos)
    assert number_of(Key(b"\xff" * 16)) < 1 << 62


def test_a_member_keeps_its_number_when_its_series_gets_known() -> None:
    table, many = InodeTable(ROOT), Many("many")
    before = table.take(many.unknown(1))
    assert [each for each, _ in table] == [ROOT_INO, before]
    assert table.take(many.node(1)) == before
    table.forget(before, 2)
    assert len(table) == 1
    assert table.take(many.node(1)) == before
    assert table.take(many.unknown(1)) == before
    assert [each for each, _ in table] == [ROOT_INO]


def test_a_member_that_is_replaced_is_a_row_with_its_number_and_counts() -> None:
    table, many = InodeTable(ROOT), Many("many")
    ino = table.take(many.node(1))
    table.count_lookup(ino)
    table.pin(many.node(1))
    table.replace(ino, thing("other"))
    assert table.node(ino) == thing("other")
    assert table.present(ino, many.node(1)) == thing("other")
    assert table.lookups(ino) == 2
    assert table.take(thing("other")) == ino
    again = table.take(many.node(1))
    assert again not in {ino, ROOT_INO}
    assert table.node(again) == many.node(1)
    assert table.base(many) is None
    table.unpin(ino)
    table.forget(ino, 3)
    assert table.take(many.node(1)) == again
    table.forget(again, 2)
    assert len(table) == 1
    assert table.take(many.node(1)) == ino


def test_an_unknown_member_cannot_be_replaced() -> None:
    table, many = InodeTable(ROOT), Many("many")
    ino = table.take(many.node(1))
    with pytest.raises(KeyError):
        table.replace(Ino(ino + 1), thing("other"))


def test_members_are_counted_as_they_are_listed() -> None:
    table, many = InodeTable(ROOT), Many("many")
    base = table.base(many)
    table.count_members(many, [])
    assert not list(table.members())
    assert base is not None
    table.base(many)
    table.count_members(many, [0, 3])
    assert table.take(many.node(3)) == base + 3
    assert [table.lookups(Ino(base + n)) for n in range(4)] == [1, 0, 0, 2]


def test_forget_of_members_never_raises_but_logs(expect_log: ExpectLog) -> None:
    expect_log(logging.ERROR, "1 references too many")
    expect_log(logging.ERROR, "unknown inode")
    table, many = InodeTable(ROOT), Many("many")
    ino = table.take(many.node(0))
    table.take(many.node(1))
    table.forget(ino, 2)
    table.forget(ino, 1)
    assert len(table) == 2


class Counting(RuleBasedStateMachine):
    """Random lookups, pins and forgets against plain dictionaries, with numbers that collide."""

    def __init__(self) -> None:
        super().__init__()
        self.table = InodeTable(ROOT, number=lambda key: key[0] % 4, slot=lambda _: 1 << 30)
        self.lookups: dict[Key, int] = {}
        self.pins: dict[Key, int] = {}
        self.inos: dict[Key, Ino] = {}

    things = st.sampled_from(
        [thing(name) for name in "abcdefgh"]
        + [FEW.node(0), FEW.unknown(0)]
        + [MANY.node(0), MANY.node(1), MANY.node(2), MANY.node(3)]
        + [MANY.unknown(0), MANY.unknown(1)]
    )

    def note(self, node: Thing, ino: Ino) -> None:
        if node.key in self.alive():
            assert self.inos[node.key] == ino
        self.inos[node.key] = ino

    def alive(self) -> set[Key]:
        return {key for key, number in (self.lookups | self.pins).items() if number} | {
            key for key, number in self.lookups.items() if number
        }

    @rule(node=things)
    def look_up(self, node: Thing) -> None:
        self.note(node, self.table.take(node))
        self.lookups[node.key] = self.lookups.get(node.key, 0) + 1

    @rule(node=things)
    def pin(self, node: Thing) -> None:
        self.note(node, self.table.pin(node))
        self.pins[node.key] = self.pins.get(node.key, 0) + 1

    @rule(node=things)
    def unpin(self, node: Thing) -> None:
        if self.pins.get(node.key):
            self.table.unpin(self.inos[node.key])
            self.pins[node.key] -= 1

    @rule(node=things, number=st.integers(1, 3))
    def forget(self, node: Thing, number: int) -> None:
        if self.lookups.get(node.key, 0) >= number:
            self.table.forget(self.inos[node.key], number)
            self.lookups[node.key] -= number

    @rule(ordinals=st.lists(st.integers(0, 3)))
    def list_members(self, ordinals: list[int]) -> None:
        base = self.table.base(MANY)
        if base is None:
            return
        self.table.count_members(MANY, ordinals)
        for ordinal in ordinals:
            node = MANY.node(ordinal)
            self.note(node, Ino(base + ordinal))
            self.lookups[node.key] = self.lookups.get(node.key, 0) + 1

    @invariant()
    def the_table_holds_what_is_referred_to(self) -> None:
        alive = self.alive()
        assert len(self.table) == 1 + len(alive)
        assert len({self.inos[key] for key in alive}) == len(alive)
        for key in alive:
            assert self.table.node(self.inos[key]).key == key
            assert self.table.lookups(self.inos[key]) == self.lookups.get(key, 0)


TestCounting = Counting.TestCase
