"""Inode numbers, lookup counts and the table between numbers and nodes; pure.

Knows nothing of what a node is, but that it has a key.

INVARIANT: a node is in the table as long as the kernel holds a reference (`lookups`) or a listing
offers it (`pins`), and not longer. The root never leaves.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, NewType, Protocol, TypeVar

from orasfs.vfs.operations import ROOT_INO, Ino

logger = logging.getLogger(__name__)

Key = NewType("Key", bytes)
ROOT_KEY = Key(bytes(16))
_MASK = (1 << 63) - 1  # a positive ino_t for programs that think it is signed


def derive(parent: Key, *parts: str) -> Key:
    """Return the key of what `parts` name below `parent`: 128 bits, the same in every mount."""
    # The separator cannot be in a name, so that ("a", "b") and ("a/b",) differ from each other.
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return Key(hashlib.blake2b(text, key=parent, digest_size=16).digest())


def number_of(key: Key) -> int:
    """Return the inode number that a key wants, 63 bits."""
    return int.from_bytes(key[:8], "little") & _MASK


class CountMisused(Exception):
    """More was given back than was taken: a bug in the transport or in the table."""


class Count:
    """A number of references that cannot go below zero."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0

    def __bool__(self) -> bool:
        return self._value > 0

    def __int__(self) -> int:
        return self._value

    def take(self) -> None:
        """Count one more."""
        self._value += 1

    def give_back(self, number: int) -> None:
        """Count `number` fewer.

        Raises:
            CountMisused: there are not so many; the count is zero then.
        """
        if not 0 <= number <= self._value:
            missing, self._value = number - self._value, 0
            raise CountMisused(f"{missing} references too many given back")
        self._value -= number


class Keyed(Protocol):
    """Anything that has a key."""

    @property
    def key(self) -> Key:
        """What tells it from all others in the mount."""
        ...


NodeT = TypeVar("NodeT", bound=Keyed)


@dataclass(slots=True)
class _Row(Generic[NodeT]):
    """One inode."""

    ino: Ino
    node: NodeT
    lookups: Count
    pins: Count


class InodeTable(Generic[NodeT]):
    """The inodes that the kernel, or a listing, knows."""

    def __init__(self, root: NodeT, *, number: Callable[[Key], int] = number_of) -> None:
        self._number = number
        self._root_key = root.key
        row = _Row(ROOT_INO, root, Count(), Count())
        self._by_ino: dict[Ino, _Row[NodeT]] = {ROOT_INO: row}
        self._by_key: dict[Key, _Row[NodeT]] = {root.key: row}

    def __len__(self) -> int:
        return len(self._by_ino)

    def __repr__(self) -> str:
        return f"<InodeTable of {len(self)}>"

    def __iter__(self) -> Iterator[tuple[Ino, NodeT]]:
        return iter([(row.ino, row.node) for row in self._by_ino.values()])

    def node(self, ino: Ino) -> NodeT:
        """Return the node of an inode.

        Raises:
            KeyError: the kernel used an inode it had given back.
        """
        return self._by_ino[ino].node

    def take(self, node: NodeT) -> Ino:
        """Count a lookup of the node, which enters the table if its key is not there."""
        row = self._row(node)
        row.lookups.take()
        return row.ino

    def pin(self, node: NodeT) -> Ino:
        """Keep the node in the table until `unpin`, because a listing offers it."""
        row = self._row(node)
        row.pins.take()
        return row.ino

    def unpin(self, ino: Ino) -> None:
        """Take back one `pin`."""
        row = self._by_ino[ino]
        row.pins.give_back(1)
        self._drop_if_unused(row)

    def count_lookup(self, ino: Ino) -> None:
        """Count a lookup of an inode that is in the table."""
        self._by_ino[ino].lookups.take()

    def lookups(self, ino: Ino) -> int:
        """Return how many references the kernel holds, 0 for an unknown inode."""
        row = self._by_ino.get(ino)
        return int(row.lookups) if row else 0

    def forget(self, ino: Ino, lookups: int) -> None:
        """Give back references. Never raises: what is wrong is logged, and counts as all."""
        row = self._by_ino.get(ino)
        if row is None:
            logger.error("forget of an unknown inode ino=%d lookups=%d", ino, lookups)
            return
        try:
            row.lookups.give_back(lookups)
        except CountMisused as error:
            # The kernel counts the root by itself and may give back what no lookup has taken.
            if ino != ROOT_INO:
                logger.error("forget: %s ino=%d lookups=%d", error, ino, lookups)  # noqa: TRY400 - the trace says nothing more
        self._drop_if_unused(row)

    def replace(self, ino: Ino, node: NodeT) -> None:
        """Let an inode that is in the table be another node from now on.

        A node that has an inode already keeps that one too, for who looks it up.
        """
        row = self._by_ino[ino]
        if self._by_key.get(row.node.key) is row:
            del self._by_key[row.node.key]
        row.node = node
        self._by_key.setdefault(node.key, row)

    def _row(self, node: NodeT) -> _Row[NodeT]:
        row = self._by_key.get(node.key)
        if row is None:
            row = _Row(self._free_number(node.key), node, Count(), Count())
            self._by_ino[row.ino] = row
            self._by_key[node.key] = row
        return row

    def _free_number(self, key: Key) -> Ino:
        number = self._number(key)
        while number <= ROOT_INO or Ino(number) in self._by_ino:
            number = (number + 1) & _MASK
        return Ino(number)

    def _drop_if_unused(self, row: _Row[NodeT]) -> None:
        if not row.lookups and not row.pins and row.ino != ROOT_INO:
            del self._by_ino[row.ino]
            if self._by_key.get(row.node.key) is row:
                del self._by_key[row.node.key]
