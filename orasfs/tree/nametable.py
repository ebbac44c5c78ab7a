"""The names of a tar while its index is made: (directory, name) -> node, in little memory.

Owns a hash table in arrays: a dictionary would take several times as much. A name costs 14 bytes,
its own length, and 8 to 16 for its slot. Knows nothing of what nodes are. Pure.

INVARIANT: another thread may call `find` while one thread puts names: a name's fields are there
before its slot is, slots are changed one by one, and a larger table takes the place of a smaller
one when it is complete. All under the interpreter's lock, one operation at a time.
"""

import heapq
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate

_FIRST_SLOTS = 1024
_RUN_NAMES = 256 * 1024  # of one directory that are sorted at once: what is sorted is objects
_SPREAD = 0x9E3779B97F4A7C15  # keeps apart the same name in many directories


class NameTable:
    """Names by directory.

    Attributes:
        heap: the names one after the other, and other texts.
        nodes: by number of a name, the node it names.
        starts: likewise, where it is in the heap.
        lengths: likewise, how long it is.
    """

    def __init__(self) -> None:
        self.heap = bytearray()
        self.nodes = array("I")
        self.starts = array("I")
        self.lengths = array("H")
        self._parents = array("I")
        self._slots = _empty(_FIRST_SLOTS)  # numbers of names plus one

    def __repr__(self) -> str:
        return f"<NameTable {len(self)} names>"

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.nodes)

    def add_text(self, text: bytes) -> int:
        """Keep a text in the heap; return where it begins."""
        start = len(self.heap)
        self.heap += text
        return start

    def find(self, parent: int, name: bytes) -> int | None:
        """Return the node of a name in the directory `parent`, None if there is none."""
        number = self._find(self._slots, parent, name)[1]
        return None if number is None else self.nodes[number]

    def put(self, parent: int, name: bytes, node: int) -> int | None:
        """Let a name be that of `node`; return the node that it named before, if any."""
        slots = self._slots
        mask = len(slots) - 1
        slot = (hash(name) + parent * _SPREAD) & mask
        if slots[slot]:  # most are free
            slot, found = self._find(slots, parent, name)
            if found is not None:
                replaced = self.nodes[found]
                self.nodes[found] = node
                return replaced
        number = len(self.nodes)
        self.starts.append(len(self.heap))
        self.heap += name
        self.lengths.append(len(name))
        self._parents.append(parent)
        self.nodes.append(node)
        slots[slot] = number + 1
        if 2 * number > mask:
            self._grow()
        return None

    def grouped(self, nodes: int) -> "Grouped":
        """Return the names by directory, of which there are fewer than `nodes`."""
        return Grouped(self, self._parents, nodes)

    def name(self, number: int) -> bytes:
        """Return the name of a number."""
        start = self.starts[number]
        return bytes(self.heap[start : start + self.lengths[number]])

    def _find(self, slots: "array[int]", parent: int, name: bytes) -> tuple[int, int | None]:
        """Return the slot of a name, and its number; if it is not there, the slot to take."""
        mask = len(slots) - 1
        slot = _start(parent, name) & mask
        length = len(name)
        while taken := slots[slot]:
            number = taken - 1
            if self._parents[number] == parent and self.lengths[number] == length:
                start = self.starts[number]
                if self.heap[start : start + length] == name:
                    return slot, number
            slot = (slot + 1) & mask
        return slot, None

    def _grow(self) -> None:
        slots = _empty(2 * len(self._slots))
        mask = len(slots) - 1
        for number, parent in enumerate(self._parents):
            slot = _start(parent, self.name(number)) & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = number + 1
        self._slots = slots


class Grouped:
    """The numbers of names, grouped by directory."""

    def __init__(self, names: NameTable, parents: "array[int]", nodes: int) -> None:
        counts = array("I", bytes(4 * (nodes + 1)))
        for parent in parents:
            counts[parent + 1] += 1
        self._names = names
        self._starts = array("I", accumulate(counts))
        places = self._starts[:]
        self._numbers = array("I", bytes(4 * len(parents)))
        for number, parent in enumerate(parents):
            self._numbers[places[parent]] = number
            places[parent] += 1

    def of(self, directory: int) -> Iterable[int]:
        """Return the numbers of a directory's names, in byte order of these."""
        numbers = self._numbers[self._starts[directory] : self._starts[directory + 1]]
        if len(numbers) <= _RUN_NAMES:
            return sorted(numbers, key=self._names.name)
        return self._merged(numbers)

    def _merged(self, numbers: "array[int]") -> Iterator[int]:
        runs = [
            array("I", sorted(numbers[start : start + _RUN_NAMES], key=self._names.name))
            for start in range(0, len(numbers), _RUN_NAMES)
        ]
        return heapq.merge(*runs, key=self._names.name)


def _empty(slots: int) -> "array[int]":
    return array("I", bytes(4 * slots))


def _start(parent: int, name: bytes) -> int:
    return hash(name) + parent * _SPREAD
