"""Inode numbers, lookup counts and the table between numbers and nodes; pure.

Knows nothing of what a node is, but that it has a key, and may be a member of a series: of many
nodes that are numbered and can be made anew at any time, as those of a layer. Of a member no
object is kept, only how often the kernel knows it. Its inode number is the series' number and its
own, so that it too is the same in every mount. All other nodes are *rows*; so is a member as long
as its series is not known, and one that was replaced.

INVARIANT: a node is in the table as long as the kernel holds a reference (`lookups`) or a listing
offers it (`pins`), and not longer. The root never leaves.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, cast

from orasfs.vfs.counts import CountMisused, Tally, check_given_back, fewer
from orasfs.vfs.keys import Key, Keyed, Serial, Series
from orasfs.vfs.operations import ROOT_INO, Ino

logger = logging.getLogger(__name__)

# Numbers are positive for programs that think an ino_t is signed. Those of members have bit 62,
# then 30 bits of the series, and 32 of the member.
_ORDINAL_BITS = 32
_ORDINALS = (1 << _ORDINAL_BITS) - 1
_FIRST_SLOT = 1 << 30
_MASK = (1 << 62) - 1


def number_of(key: Key) -> int:
    """Return the inode number that a key wants, 62 bits."""
    return int.from_bytes(key[:8], "little") & _MASK


def slot_of(key: Key) -> int:
    """Return the upper half of the numbers that the members of a series want."""
    return _FIRST_SLOT | int.from_bytes(key[:4], "little") & (_FIRST_SLOT - 1)


NodeT = TypeVar("NodeT", bound=Keyed)


class _Row(Generic[NodeT]):
    """One inode; `block` has the series of which it has the number, or is a member.

    Attributes:
        key: of its node.
        lookups: how often the kernel knows it.
        pins: how often a listing offers it.
    """

    __slots__ = ("_held", "block", "ino", "key", "lookups", "pins")

    def __init__(
        self,
        ino: Ino,
        node: NodeT,
        block: "_Block[NodeT] | None" = None,
        *,
        lookups: int = 0,
        pins: int = 0,
    ) -> None:
        self.ino = ino
        self.lookups = lookups
        self.pins = pins
        self.block = block
        self.become(node)

    @property
    def node(self) -> NodeT:
        """What it is: of what can be made anew at any time only that is kept which makes it."""
        held = self._held
        if not isinstance(held, Serial):
            return held
        # A series makes nodes of the kind that its members are.
        return cast("Series[NodeT]", held.series).node(held.ordinal)

    def become(self, node: NodeT) -> None:
        """Be another node from now on."""
        serial = node.serial
        self.key = node.key
        self._held = node if serial is None or serial.series is None else serial


class _Block(Generic[NodeT]):
    """The inodes of one series: counts, and no objects.

    Attributes:
        key: of the series.
        base: the number of its first member.
        series: what makes the nodes; None as long as all of its members are rows.
        lookups: how often the kernel knows each member that is no row.
        pins: how often a listing offers it.
        rows: how many rows have a number of the series, or are members under another number.
    """

    __slots__ = ("base", "key", "lookups", "pins", "rows", "series")

    def __init__(self, key: Key, base: int) -> None:
        self.key = key
        self.base = base
        self.series: Series[NodeT] | None = None
        self.lookups = Tally()
        self.pins = Tally()
        self.rows = 0

    def __len__(self) -> int:
        """Return how many members are in the table without being rows."""
        return len(self.lookups) + sum(1 for each in self.pins if not self.lookups.of(each))

    @property
    def is_used(self) -> bool:
        """Whether the kernel, a listing or a row still needs it."""
        return bool(len(self.lookups) or len(self.pins) or self.rows)

    def learn(self, series: "Series[NodeT]") -> None:
        """Make nodes from now on: the series is known."""
        if self.series is None:
            self.series = series
            self.lookups = Tally(len(series))

    def node(self, ordinal: int) -> NodeT:
        """Return the node of a member that is in the table and no row.

        Raises:
            KeyError: it is not.
        """
        if self.series is None or not (self.lookups.of(ordinal) or self.pins.of(ordinal)):
            raise KeyError(self.base + ordinal)
        return self.series.node(ordinal)


class InodeTable(Generic[NodeT]):
    """The inodes that the kernel, or a listing, knows."""

    def __init__(
        self,
        root: NodeT,
        *,
        number: Callable[[Key], int] = number_of,
        slot: Callable[[Key], int] = slot_of,
    ) -> None:
        self._number = number
        self._slot = slot
        self._root_key = root.key
        row = _Row(ROOT_INO, root)
        self._by_ino: dict[Ino, _Row[NodeT]] = {ROOT_INO: row}
        self._by_key: dict[Key, _Row[NodeT]] = {root.key: row}
        self._blocks: dict[int, _Block[NodeT]] = {}
        self._slots: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._by_ino) + sum(len(block) for block in self._blocks.values())

    def __repr__(self) -> str:
        return f"<InodeTable of {len(self)}>"

    def __iter__(self) -> Iterator[tuple[Ino, NodeT]]:
        """Yield all but the members of series; see `members`."""
        return iter([(row.ino, row.node) for row in self._by_ino.values()])

    def members(self) -> Iterator[tuple["Series[NodeT]", Sequence[Ino]]]:
        """Yield the series with those members that the kernel knows; for what is rarely done."""
        for block in list(self._blocks.values()):
            if block.series is not None:
                yield block.series, [Ino(block.base + ordinal) for ordinal in block.lookups]

    def node(self, ino: Ino) -> NodeT:
        """Return the node of an inode.

        Raises:
            KeyError: the kernel used an inode it had given back.
        """
        row = self._by_ino.get(ino)
        return self._block_of(ino).node(ino & _ORDINALS) if row is None else row.node

    def present(self, ino: Ino, node: NodeT) -> NodeT:
        """Return the node of an inode that was given to `node`: it, or the one before it."""
        row = self._by_ino.get(ino)
        return node if row is None else row.node

    def take(self, node: NodeT) -> Ino:
        """Count a lookup of the node, which enters the table if its key is not there."""
        member = self._member(node)
        if member is None:
            row = self._row(node)
            row.lookups += 1
            return row.ino
        block, ordinal = member
        block.lookups.take(ordinal)
        return Ino(block.base + ordinal)

    def pin(self, node: NodeT) -> Ino:
        """Keep the node in the table until `unpin`, because a listing offers it."""
        member = self._member(node)
        if member is None:
            row = self._row(node)
            row.pins += 1
            return row.ino
        block, ordinal = member
        block.pins.take(ordinal)
        return Ino(block.base + ordinal)

    def unpin(self, ino: Ino) -> None:
        """Take back one `pin`."""
        row = self._by_ino.get(ino)
        if row is not None:
            before, row.pins = row.pins, fewer(row.pins, 1)
            self._drop_if_unused(row)
            check_given_back(before, 1)
            return
        block = self._block_of(ino)
        block.pins.give_back(ino & _ORDINALS, 1)
        self._drop_block_if_unused(block)

    def count_lookup(self, ino: Ino) -> None:
        """Count a lookup of an inode that is in the table."""
        row = self._by_ino.get(ino)
        if row is not None:
            row.lookups += 1
        else:
            self._block_of(ino).lookups.take(ino & _ORDINALS)

    def base(self, series: "Series[NodeT]") -> int | None:
        """Return the number of the first member of a series, to list it without its nodes.

        None if some members are rows, so that a node has to be asked which inode it is. Who takes
        the number calls `count_members` before anything waits.
        """
        block = self._block(series.key)
        block.learn(series)
        return None if block.rows else block.base

    def count_members(self, series: "Series[NodeT]", ordinals: Sequence[int]) -> None:
        """Count a lookup of each of these members."""
        block = self._block(series.key)
        for ordinal in ordinals:
            block.lookups.take(ordinal)
        self._drop_block_if_unused(block)

    def lookups(self, ino: Ino) -> int:
        """Return how many references the kernel holds, 0 for an unknown inode."""
        row = self._by_ino.get(ino)
        if row is not None:
            return row.lookups
        block = self._blocks.get(ino >> _ORDINAL_BITS)
        return 0 if block is None else block.lookups.of(ino & _ORDINALS)

    def forget(self, ino: Ino, lookups: int) -> None:
        """Give back references. Never raises: what is wrong is logged, and counts as all."""
        try:
            row = self._by_ino.get(ino)
            if row is None:
                self._forget_member(ino, lookups)
            else:
                self._forget_row(row, lookups)
        except KeyError:
            logger.error("forget of an unknown inode ino=%d lookups=%d", ino, lookups)  # noqa: TRY400 - the trace says nothing more
        except CountMisused as error:
            # The kernel counts the root by itself and may give back what no lookup has taken.
            if ino != ROOT_INO:
                logger.error("forget: %s ino=%d lookups=%d", error, ino, lookups)  # noqa: TRY400 - the same

    def replace(self, ino: Ino, node: NodeT) -> None:
        """Let an inode that is in the table be another node from now on.

        A node that has an inode already keeps that one too, for who looks it up.
        """
        row = self._by_ino.get(ino) or self._leave(ino, node)
        if self._by_key.get(row.key) is row:
            del self._by_key[row.key]
        row.become(node)
        self._by_key.setdefault(node.key, row)

    def _member(self, node: NodeT) -> tuple[_Block[NodeT], int] | None:
        """Return where a node is counted that is no row."""
        serial = node.serial
        if serial is None:
            return None
        block = self._block(serial.key)
        if serial.series is not None:
            # A series makes nodes of the kind that its members are.
            block.learn(cast("Series[NodeT]", serial.series))
        if block.series is None:
            return None
        ino = Ino(block.base + serial.ordinal)
        if block.rows and (ino in self._by_ino or node.key in self._by_key):
            return None
        return block, serial.ordinal

    def _block_of(self, ino: Ino) -> _Block[NodeT]:
        block = self._blocks.get(ino >> _ORDINAL_BITS)
        if block is None:
            raise KeyError(ino)
        return block

    def _block(self, key: Key) -> _Block[NodeT]:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slot(key)
            while slot in self._blocks:
                slot = _FIRST_SLOT | (slot + 1) & (_FIRST_SLOT - 1)
            self._slots[key] = slot
            self._blocks[slot] = _Block(key, slot << _ORDINAL_BITS)
        return self._blocks[slot]

    def _row(self, node: NodeT) -> _Row[NodeT]:
        row = self._by_key.get(node.key)
        if row is None:
            serial = node.serial
            block, ino = None, ROOT_INO
            if serial is not None:
                block = self._block(serial.key)
                ino = Ino(block.base + serial.ordinal)
            if ino in self._by_ino:  # the root always is
                ino = self._free_number(node.key)
            row = self._add(_Row(ino, node, block))
            self._by_key[node.key] = row
        return row

    def _add(self, row: _Row[NodeT]) -> _Row[NodeT]:
        self._by_ino[row.ino] = row
        if row.block is not None:
            row.block.rows += 1
        return row

    def _leave(self, ino: Ino, node: NodeT) -> _Row[NodeT]:
        """Make a row of a member of a series, which is to be `node`."""
        block, ordinal = self._block_of(ino), ino & _ORDINALS
        lookups, pins = block.lookups.clear(ordinal), block.pins.clear(ordinal)
        if not lookups and not pins:
            raise KeyError(ino)
        return self._add(_Row(ino, node, block, lookups=lookups, pins=pins))

    def _free_number(self, key: Key) -> Ino:
        number = self._number(key)
        while number <= ROOT_INO or Ino(number) in self._by_ino:
            number = (number + 1) & _MASK
        return Ino(number)

    def _forget_row(self, row: _Row[NodeT], lookups: int) -> None:
        before, row.lookups = row.lookups, fewer(row.lookups, lookups)
        self._drop_if_unused(row)
        check_given_back(before, lookups)

    def _forget_member(self, ino: Ino, lookups: int) -> None:
        block, ordinal = self._block_of(ino), ino & _ORDINALS
        if not block.lookups.of(ordinal) and not block.pins.of(ordinal):
            raise KeyError(ino)
        try:
            block.lookups.give_back(ordinal, lookups)
        finally:
            self._drop_block_if_unused(block)

    def _drop_if_unused(self, row: _Row[NodeT]) -> None:
        if not row.lookups and not row.pins and row.ino != ROOT_INO:
            del self._by_ino[row.ino]
            if self._by_key.get(row.key) is row:
                del self._by_key[row.key]
            if row.block is not None:
                row.block.rows -= 1
                self._drop_block_if_unused(row.block)

    def _drop_block_if_unused(self, block: _Block[NodeT]) -> None:
        if not block.is_used:
            del self._blocks[block.base >> _ORDINAL_BITS], self._slots[block.key]
