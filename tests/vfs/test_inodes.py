import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orasfs.vfs.inodes import ROOT_KEY, Count, CountMisused, InodeTable, Key, derive, number_of
from orasfs.vfs.operations import ROOT_INO, Ino

ExpectLog = Callable[[int, str], None]


@dataclass(frozen=True)
class Thing:
    key: Key


ROOT = Thing(ROOT_KEY)


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


def test_a_count_raises_when_too_much_is_given_back() -> None:
    count = Count()
    count.take()
    with pytest.raises(CountMisused):
        count.give_back(2)
    assert not count


def test_forget_never_raises_but_logs(expect_log: ExpectLog) -> None:
    expect_log(logging.ERROR, "4 references too many")
    expect_log(logging.ERROR, "unknown inode")
    table = InodeTable(ROOT)
    ino = table.take(thing("a"))
    table.forget(ino, 5)
    table.forget(ino, 1)
    assert len(table) == 1


class Counting(RuleBasedStateMachine):
    """Random lookups, pins and forgets against plain dictionaries, with numbers that collide."""

    def __init__(self) -> None:
        super().__init__()
        self.table = InodeTable(ROOT, number=lambda key: key[0] % 4)
        self.lookups: dict[Key, int] = {}
        self.pins: dict[Key, int] = {}
        self.inos: dict[Key, Ino] = {}

    things = st.sampled_from([thing(name) for name in "abcdefgh"])

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

    @invariant()
    def the_table_holds_what_is_referred_to(self) -> None:
        alive = self.alive()
        assert len(self.table) == 1 + len(alive)
        assert len({self.inos[key] for key in alive}) == len(alive)
        for key in alive:
            assert self.table.node(self.inos[key]).key == key
            assert self.table.lookups(self.inos[key]) == self.lookups.get(key, 0)


TestCounting = Counting.TestCase
