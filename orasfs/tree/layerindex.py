"""The index of a tar layer: which members it has, and where their bytes are.

Owns the index's binary form, which is read in place from a buffer (a mapped file), so that opening
the index of a large layer costs no memory. Pure: knows no disk and no network. Indexes are made by
`orasfs.tree.indexbuilder`; of a layer that is still being read, `orasfs.tree.partialindex` says as
much as is known.

A layer's members are numbered as the tar has them (*ordinals*), so that a member's number is known
when it passes, is the same whenever the layer is read again, and is one for all hard links to it;
ordinal 0 is the tar's root. The names of a directory are a contiguous range of *entries*, sorted;
each entry names an ordinal. An *extent* says which bytes of the uncompressed tar are which part of
a file, and what no extent covers reads as zeros. A *place* says where the layer's files on disk
have them: in the slab, which holds the small files one after the other, or in a blob of their own.

The form, little-endian: a header (`HEADER`, closed by its CRC-32), records (`RECORD`) by ordinal,
entries (`ENTRY`), extents of sparse files (`EXTENT`), sha256 digests of members that are blobs of
their own (32 bytes each), a heap of names and symlink targets, and problems (each a 32-bit length
and UTF-8). Of a directory, `tar` is the entry that names it, 0 of the root. INVARIANT: the entries
of a directory come behind its own, and nothing else names it, so that a walk ends even over a
damaged index. The header tells a truncated file and another version; records are checked where
they are used, not when the index is opened.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NoReturn

from orasfs.errors import InvalidContent
from orasfs.oci.digest import Digest

ROOT = 0

MAGIC = b"ORASFSLI"
VERSION = 2
# … record size; records, entries, extents, blobs; heap and problems in bytes; sizes of slab and
# tar; CRC
HEADER = struct.Struct("<8sIIQQQQQQQQI")
# tar, place, size, mtime; first, count; links; mode, kind, flags
RECORD = struct.Struct("<QQQqIIIHBB")
ENTRY = struct.Struct("<IIHxx")  # name's place in the heap, ordinal, name's length
EXTENT = struct.Struct("<QQQ")
LENGTH = struct.Struct("<I")
BLOB_BYTES = 32  # of a sha256 digest

OWN_BLOB_BYTES = 1024 * 1024  # from which size on a file that is not sparse is a blob of its own


class MemberKind(IntEnum):
    """What a member is; devices, sockets and pipes are left out of an index."""

    DIRECTORY = 1
    FILE = 2
    SYMLINK = 3


class RecordFlag(IntFlag):
    """What else a record says."""

    IMPLICIT = 1  # a directory that only its members' paths name
    SPARSE = 2  # `first` and `count` are its extents; without it, all bytes are one
    OWN = 4  # a blob of its own: `place` is its number; without it, an offset in the slab


# As plain numbers: each operation on a flag makes another object, and there are many.
_IMPLICIT, _SPARSE, _OWN = int(RecordFlag.IMPLICIT), int(RecordFlag.SPARSE), int(RecordFlag.OWN)


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes at `tar_offset` of the tar are those at `file_offset` in the file."""

    file_offset: int
    tar_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's bytes are on disk.

    Attributes:
        tar_offset: where they begin in the uncompressed tar.
        blob: the number of the file among those that are blobs of their own, None in the slab.
        offset: where they begin there.
    """

    tar_offset: int
    blob: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a layer.

    Attributes:
        ordinal: its number; hard links to one file have one ordinal.
        mode: the permission bits, 0o0000 to 0o7777.
        mtime_ns: nanoseconds since the epoch, from the tar.
        size: of a file in bytes, of a symlink the length of its target in bytes, else 0.
        target: of a symlink, else "".
        link_count: how many names a file has in this layer; for directories 1.
    """

    ordinal: int
    kind: MemberKind
    mode: int
    mtime_ns: int
    size: int
    target: str
    link_count: int


# Name, ordinal, kind (of `MemberKind`), permission bits, size, time and links of a member.
Row = tuple[bytes, int, int, int, int, int, int]


class LayerIndex:
    """The members of one layer, read from `buffer`.

    Methods that take a number raise IndexError if there is no such number, and InvalidContent if
    the record is damaged.

    Raises (on construction):
        InvalidContent: the buffer is no index, or a damaged one, or of another version.
    """

    __slots__ = (
        *("_blobs", "_buffer", "_counts", "_entries", "_extents", "_heap", "_problems"),
        *("slab_size", "tar_size"),
    )

    def __init__(self, buffer: bytes | memoryview) -> None:
        view = memoryview(buffer)
        if len(view) < HEADER.size:
            raise InvalidContent("layer index: truncated header")
        magic, version, record_size, *counts, slab_size, tar_size, crc = HEADER.unpack_from(view)
        if (magic, version, record_size) != (MAGIC, VERSION, RECORD.size):
            raise InvalidContent("layer index: not an index of this version")
        if zlib.crc32(view[: HEADER.size - LENGTH.size]) != crc:
            raise InvalidContent("layer index: damaged header")
        widths = (RECORD.size, ENTRY.size, EXTENT.size, BLOB_BYTES, 1, 1)
        starts = [HEADER.size]
        for count, width in zip(counts, widths, strict=True):
            starts.append(starts[-1] + count * width)
        if counts[0] < 1 or starts[-1] != len(view):
            raise InvalidContent("layer index: truncated, or longer than its header says")
        self._buffer = view
        self._counts: tuple[int, ...] = tuple(counts[:4])
        self._entries, self._extents, self._blobs = starts[1:4]
        self._heap = view[starts[4] : starts[5]]
        self._problems = view[starts[5] :]
        self.slab_size: int = slab_size
        self.tar_size: int = tar_size
        if self._record(ROOT)[8] != MemberKind.DIRECTORY:
            raise InvalidContent("layer index: its root is no directory")

    def __repr__(self) -> str:
        return f"LayerIndex(ordinals={self._counts[0]}, tar_size={self.tar_size})"

    def __len__(self) -> int:
        """Return the number of ordinals."""
        return self._counts[0]

    @property
    def buffer(self) -> memoryview:
        """The index in its binary form."""
        return self._buffer

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be extracted, or would do harm, in the order met (at most 100)."""
        found: list[str] = []
        start = 0
        while start < len(self._problems):
            text = start + LENGTH.size
            stop = text
            if text <= len(self._problems):
                stop += LENGTH.unpack_from(self._problems, start)[0]
            if stop > len(self._problems):
                raise InvalidContent("layer index: damaged problems")
            found.append(bytes(self._problems[text:stop]).decode("utf-8", "replace"))
            start = stop
        return tuple(found)

    def member(self, ordinal: int) -> Member:
        """Return the member of that number."""
        record = self._record(ordinal)
        is_symlink = record[8] == MemberKind.SYMLINK
        target = self._text(record[1], record[2]) if is_symlink else b""
        if record[8] not in _KINDS:
            self._damaged(ordinal)
        return member_of(ordinal, record, target)

    def size_of(self, ordinal: int) -> int:
        """Return the size of a member, as `Member` has it."""
        return self._record(ordinal)[2]

    def kind_of(self, ordinal: int) -> MemberKind:
        """Return the kind of a member."""
        kind = self._record(ordinal)[8]
        return _KINDS[kind] if kind in _KINDS else self._damaged(ordinal)

    def is_implicit(self, ordinal: int) -> bool:
        """Tell whether no member of the tar says anything of this directory itself."""
        return bool(self._record(ordinal)[9] & _IMPLICIT)

    def children(self, ordinal: int) -> range:
        """Return the entries of a directory, by name in byte order; empty for other kinds.

        An entry number is what `name_of` and `resolve` take.
        """
        own, _, _, _, first, count, _, _, kind, _ = self._record(ordinal)
        if kind != MemberKind.DIRECTORY or not count:
            return range(0)
        if first + count > self._counts[1] or (ordinal != ROOT and first <= own):
            self._damaged(ordinal)
        return range(first, first + count)

    def rows(self, directory: int, start: int = 0) -> Iterator[Row]:
        """Yield what is in a directory from the `start`-th entry on, for long listings.

        The same as `children`, `name_of`, `resolve` and `member` tell, in a quarter of the time.
        """
        entries = self.children(directory)[max(start, 0) :]
        table = self._buffer[self._entries + entries.start * ENTRY.size :]
        heap, records, count = self._heap, self._buffer[HEADER.size :], self._counts[0]
        unpack, width = RECORD.unpack_from, RECORD.size
        rows = ENTRY.iter_unpack(table[: len(entries) * ENTRY.size])
        for entry, (at, ordinal, length) in zip(entries, rows, strict=True):
            if ordinal >= count or at + length > len(heap):
                self._damaged(ordinal)
            own, _, size, mtime_ns, _, _, links, mode, kind, _ = unpack(records, ordinal * width)
            if kind == MemberKind.DIRECTORY and (own != entry or ordinal == ROOT):
                self._damaged(ordinal)
            if kind not in _KINDS:
                self._damaged(ordinal)
            yield (
                bytes(heap[at : at + length]),
                ordinal,
                kind,
                mode & 0o7777,
                size,
                mtime_ns,
                links,
            )

    def name_of(self, entry: int) -> str:
        """Return the name of an entry."""
        return self._name(entry).decode("utf-8", "surrogateescape")

    def resolve(self, entry: int) -> int:
        """Return the ordinal of the member that an entry names."""
        ordinal: int = self._entry(entry)[1]
        if ordinal >= self._counts[0]:
            self._damaged(ordinal)
        record = self._record(ordinal)
        # A directory has one name only: no cycle.
        if record[8] == MemberKind.DIRECTORY and (record[0] != entry or ordinal == ROOT):
            self._damaged(ordinal)
        return ordinal

    def find(self, directory: int, name: str) -> int | None:
        """Return the ordinal of the member of that name in a directory."""
        try:
            wanted = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return None
        entry = self._find(directory, wanted)
        return None if entry is None else self.resolve(entry)

    def locate(self, path: str) -> int | None:
        """Return the ordinal at a slash-separated path from the root ("" is the root)."""
        ordinal: int | None = ROOT
        for name in path.split("/") if path else ():
            if ordinal is None:
                return None
            ordinal = self.find(ordinal, name)
        return ordinal

    def extents(self, ordinal: int) -> tuple[Extent, ...]:
        """Return where a file's bytes are in the tar, in file order, without overlaps."""
        record = self._record(ordinal)
        tar, _, size, _, first, count, _, _, _, flags = record
        if flags & _SPARSE and first + count > self._counts[2]:
            self._damaged(ordinal)
        found = extents_of(record, self._buffer[self._extents :])
        end, stored = 0, tar
        for extent in found:
            if extent.file_offset < end or extent.tar_offset < stored:
                self._damaged(ordinal)
            end = extent.file_offset + extent.length
            stored = extent.tar_offset + extent.length
        if end > size or stored > self.tar_size:
            self._damaged(ordinal)
        return found

    def place(self, ordinal: int) -> Place:
        """Return where the bytes that a file's extents name are on disk."""
        place = place_of(self._record(ordinal))
        if place.blob is not None and place.blob >= self._counts[3]:
            self._damaged(ordinal)
        return place

    def blob(self, number: int) -> Digest:
        """Return the digest of a member that is a blob of its own."""
        if not 0 <= number < self._counts[3]:
            raise IndexError(f"layer index: no blob {number} among {self._counts[3]}")
        start = self._blobs + number * BLOB_BYTES
        return Digest("sha256", bytes(self._buffer[start : start + BLOB_BYTES]).hex())

    @property
    def blobs(self) -> int:
        """How many members are blobs of their own."""
        return self._counts[3]

    def _find(self, directory: int, wanted: bytes) -> int | None:
        entries = self.children(directory)
        low, high = entries.start, entries.stop
        while low < high:
            middle = (low + high) // 2
            if self._name(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < entries.stop and self._name(low) == wanted else None

    def _name(self, entry: int) -> bytes:
        start, _, length = self._entry(entry)
        return self._text(start, length)

    def _text(self, start: int, length: int) -> bytes:
        if start + length > len(self._heap):
            raise InvalidContent("layer index: a record points behind the heap")
        return bytes(self._heap[start : start + length])

    def _entry(self, number: int) -> tuple[int, int, int]:
        if not 0 <= number < self._counts[1]:
            raise IndexError(f"layer index: no entry {number} among {self._counts[1]}")
        return ENTRY.unpack_from(self._buffer, self._entries + number * ENTRY.size)

    def _record(self, number: int) -> tuple[int, ...]:
        if not 0 <= number < self._counts[0]:
            raise IndexError(f"layer index: no ordinal {number} among {self._counts[0]}")
        return RECORD.unpack_from(self._buffer, HEADER.size + number * RECORD.size)

    def _damaged(self, number: int) -> NoReturn:
        raise InvalidContent(f"layer index: record {number} is damaged")


def member_of(ordinal: int, record: tuple[int, ...], target: bytes) -> Member:
    """Return what a record says; its kind must be a `MemberKind`."""
    _, _, size, mtime_ns, _, _, links, mode, kind, _ = record
    text = target.decode("utf-8", "surrogateescape")
    return Member(ordinal, _KINDS[kind], mode & 0o7777, mtime_ns, size, text, links)


def extents_of(record: tuple[int, ...], table: bytearray | memoryview) -> tuple[Extent, ...]:
    """Return the extents of a record; `table` has those of all sparse files."""
    tar, _, size, _, first, count, _, _, kind, flags = record
    if kind != MemberKind.FILE or not size:
        return ()
    if not flags & _SPARSE:
        return (Extent(0, tar, size),)
    part = table[first * EXTENT.size : (first + count) * EXTENT.size]
    return tuple(Extent(*fields) for fields in EXTENT.iter_unpack(part))


def place_of(record: tuple[int, ...]) -> Place:
    """Return the place of a record of a file."""
    tar, place, _, _, _, _, _, _, _, flags = record
    return Place(tar, place, 0) if flags & _OWN else Place(tar, None, place)


_KINDS = {int(kind): kind for kind in MemberKind}
