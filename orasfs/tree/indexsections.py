"""The parts of an index while it is made: changes of its records, its names sorted, its order.

Owns how `orasfs.tree.indexbuilder` and `orasfs.tree.plainindex` write the form that
`orasfs.tree.layerindex` describes. Knows nothing of what members mean. Pure.
"""

import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orasfs.tree.layerindex import (
    BLOB_BYTES,
    ENTRY,
    EXTENT,
    HEADER,
    LENGTH,
    MAGIC,
    RECORD,
    ROOT,
    VERSION,
    MemberKind,
)
from orasfs.tree.nametable import NameTable

_ENTRY_OF, _RANGE, _LINKS = map(struct.Struct, ("<Q", "<II", "<I"))  # of a record
_RANGE_AT, _LINKS_AT, _KIND_AT = 32, 40, 46
_DIRECTORY = int(MemberKind.DIRECTORY)  # as a plain number, since there are many


@dataclass(frozen=True, slots=True)
class Sections:
    """The parts of an index, each in its binary form but for the problems."""

    records: bytes | bytearray
    entries: bytes | bytearray
    extents: bytes | bytearray
    blobs: bytes | bytearray
    heap: bytes | bytearray
    problems: Sequence[str] = ()

    def in_order(self, slab_size: int, tar_size: int) -> Iterator[bytes | bytearray]:
        """Yield the header, which closes with its CRC, and what follows it."""
        problems = b"".join(map(_with_length, self.problems))
        counts = (
            len(self.records) // RECORD.size,
            len(self.entries) // ENTRY.size,
            len(self.extents) // EXTENT.size,
            len(self.blobs) // BLOB_BYTES,
            len(self.heap),
            len(problems),
        )
        head = HEADER.pack(MAGIC, VERSION, RECORD.size, *counts, slab_size, tar_size, 0)
        head = head[: -LENGTH.size]
        yield head + LENGTH.pack(zlib.crc32(head))
        yield from (self.records, self.entries, self.extents, self.blobs, self.heap, problems)


def kind_of(records: bytearray, node: int) -> int:
    """Return the kind of a node (of `MemberKind`)."""
    return records[node * RECORD.size + _KIND_AT]


def count_link(records: bytearray, node: int, step: int) -> None:
    """Say that a node has that many names more."""
    at = node * RECORD.size + _LINKS_AT
    _LINKS.pack_into(records, at, _LINKS.unpack_from(records, at)[0] + step)


def describe(records: bytearray, directory: int, mode: int, mtime_ns: int) -> None:
    """Say what the mode and the time of a directory are, which is a member then."""
    at = directory * RECORD.size
    tar, place, size, _, first, count, links, _, kind, _ = RECORD.unpack_from(records, at)
    changed = (mtime_ns, first, count, links, mode & 0o7777, kind, 0)
    RECORD.pack_into(records, at, tar, place, size, *changed)


def sort_entries(names: NameTable, records: bytearray, *, has_orphans: bool) -> bytearray:
    """Return the entries, the names of each directory sorted, and tell directories their range.

    Names below a directory that was replaced (there are some if `has_orphans`) are not reached
    from the root, and so left out; links are counted anew then.
    """
    count = len(records) // RECORD.size
    grouped = names.grouped(count)
    entries = bytearray()
    directories = array("I", [ROOT])
    links = array("I", bytes(4 * count)) if has_orphans else array("I")
    for directory in directories:  # those that are found are put behind
        first = len(entries) // ENTRY.size
        for number in grouped.of(directory):
            node = names.nodes[number]
            at = node * RECORD.size
            if has_orphans:
                links[node] += 1
            if records[at + _KIND_AT] == _DIRECTORY:
                _ENTRY_OF.pack_into(records, at, len(entries) // ENTRY.size)
                directories.append(node)
            entries += ENTRY.pack(names.starts[number], node, names.lengths[number])
        length = len(entries) // ENTRY.size - first
        _RANGE.pack_into(records, directory * RECORD.size + _RANGE_AT, first, length)
    for node, link_count in enumerate(links):
        _LINKS.pack_into(records, node * RECORD.size + _LINKS_AT, max(link_count, node == ROOT))
    return entries


def _with_length(problem: str) -> bytes:
    text = problem.encode("utf-8", "replace")
    return LENGTH.pack(len(text)) + text
