"""The parts of an index while it is made: changes of its records, its names sorted, its order.

Owns which files go to the slab and which are blobs of their own, and how
`orasfs.tree.indexbuilder` and `orasfs.tree.plainindex` write the form that
`orasfs.tree.layerindex` describes. Knows nothing of what members mean. Pure.
"""

import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orasfs.oci.digest import Digest
from orasfs.tree.layerindex import (
    BLOB_BYTES,
    ENTRY,
    EXTENT,
    HEADER,
    LENGTH,
    MAGIC,
    OWN_BLOB_BYTES,
    RECORD,
    ROOT,
    VERSION,
    MemberKind,
    RecordFlag,
)
from orasfs.tree.nametable import NameTable

_ENTRY_OF, _RANGE, _LINKS = map(struct.Struct, ("<Q", "<II", "<I"))  # of a record
_RANGE_AT, _LINKS_AT, _KIND_AT = 32, 40, 46
# As plain numbers, since there are many.
_DIRECTORY, _OWN = int(MemberKind.DIRECTORY), int(RecordFlag.OWN)


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


class Places:
    """Where files will be on disk: in the slab, one behind the other, or in blobs of their own.

    Attributes:
        blobs: the digests of files that are blobs of their own, one behind the other.
        slab_size: bytes of all that is in the slab.
    """

    __slots__ = ("blobs", "slab_size")

    def __init__(self) -> None:
        self.blobs = bytearray()
        self.slab_size = 0

    def take(self, size: int) -> tuple[int | None, int, int]:
        """Return a whole file's number among the blobs, if it is one, its place, and flags."""
        if size >= OWN_BLOB_BYTES:
            number = len(self.blobs) // BLOB_BYTES
            self.blobs += bytes(BLOB_BYTES)
            return number, number, _OWN
        return None, self.take_in_slab(size), 0

    def take_in_slab(self, length: int) -> int:
        """Return where the next `length` bytes are in the slab."""
        place = self.slab_size
        self.slab_size += length
        return place

    def set_blob(self, number: int, digest: Digest) -> None:
        """Say what the digest (sha256) of a file is that is a blob of its own."""
        start = number * BLOB_BYTES
        self.blobs[start : start + BLOB_BYTES] = bytes.fromhex(digest.hex)


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
