"""The index of a tar layer: which members it has, and where their bytes are.

Owns the index's binary form, which is read in place from a buffer (a mapped file), so that opening
the index of a large layer costs no memory. Pure: knows no disk and no network. Indexes are made by
`orasfs.tree.indexbuilder`.

A layer's members are numbered (*ordinals*) so that the children of a directory are a contiguous
range sorted by name; ordinal 0 is the tar's root. File bytes live in the layer's *slab*, the
uncompressed tar; an *extent* says which part of the slab is which part of the file, and what no
extent covers reads as zeros.

The form, little-endian: a header (`HEADER`, closed by its CRC-32), fixed-size records (`RECORD`)
in breadth-first order, extents of sparse files (`EXTENT`), a heap of symlink targets and names,
and problems (each a 32-bit length and UTF-8). INVARIANT: the children of a directory come behind
it, so that a walk ends even over a damaged index. The header tells a truncated file and another
version; records are checked where they are used, not when the index is opened.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NoReturn

from orasfs.errors import InvalidContent

ROOT = 0

MAGIC = b"ORASFSLI"
VERSION = 1
HEADER = struct.Struct("<8sIIQQQQQI")  # … records, extents, heap, problems (bytes), slab size, CRC
RECORD = struct.Struct("<QQQqIIHHBBxx")
EXTENT = struct.Struct("<QQQ")
LENGTH = struct.Struct("<I")

LINK = 4  # a record that only names another: a further name of a hard-linked member


class MemberKind(IntEnum):
    """What a member is; devices, sockets and pipes are left out of an index."""

    DIRECTORY = 1
    FILE = 2
    SYMLINK = 3


class RecordFlag(IntFlag):
    """What else a record says."""

    IMPLICIT = 1  # a directory that only its members' paths name
    SPARSE = 2  # `place` counts extents; without it, it is the slab offset of all bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes at `slab_offset` in the slab are those at `file_offset` in the file."""

    file_offset: int
    slab_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a layer.

    Attributes:
        ordinal: its number. Hard links to one file have one ordinal: that of the name which the
            index has first.
        name: the last component; bytes that are no UTF-8 as surrogate escapes.
        mode: the permission bits, 0o0000 to 0o7777.
        mtime_ns: nanoseconds since the epoch, from the tar.
        size: of a file in bytes, of a symlink the length of its target in bytes, else 0.
        target: of a symlink, else "".
        link_count: how many names a file has in this layer; for directories 1.
    """

    ordinal: int
    name: str
    kind: MemberKind
    mode: int
    mtime_ns: int
    size: int
    target: str
    link_count: int


class LayerIndex:
    """The members of one layer, read from `buffer`.

    Methods that take a number raise IndexError if there is no such number, and InvalidContent if
    the record is damaged.

    Raises (on construction):
        InvalidContent: the buffer is no index, or a damaged one, or of another version.
    """

    __slots__ = ("_buffer", "_count", "_extents", "_heap", "_problems", "_sections", "_slab_size")

    def __init__(self, buffer: bytes | memoryview) -> None:
        view = memoryview(buffer)
        if len(view) < HEADER.size:
            raise InvalidContent("layer index: truncated header")
        magic, version, record_size, count, extents, heap, problems, slab_size, crc = (
            HEADER.unpack_from(view)
        )
        if (magic, version, record_size) != (MAGIC, VERSION, RECORD.size):
            raise InvalidContent("layer index: not an index of this version")
        if zlib.crc32(view[: HEADER.size - LENGTH.size]) != crc:
            raise InvalidContent("layer index: damaged header")
        heap_start = HEADER.size + count * RECORD.size + extents * EXTENT.size
        if count < 1 or heap_start + heap + problems != len(view):
            raise InvalidContent("layer index: truncated, or longer than its header says")
        self._buffer = view
        self._count: int = count
        self._extents: int = extents
        self._heap = view[heap_start : heap_start + heap]
        self._problems = view[heap_start + heap :]
        self._sections = HEADER.size + count * RECORD.size
        self._slab_size: int = slab_size
        if self._record(ROOT)[8] != MemberKind.DIRECTORY:
            raise InvalidContent("layer index: its root is no directory")

    def __repr__(self) -> str:
        return f"LayerIndex(ordinals={self._count}, slab_size={self._slab_size})"

    def __len__(self) -> int:
        """Return the number of ordinals."""
        return self._count

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

    @property
    def slab_size(self) -> int:
        """The size of the uncompressed tar in bytes."""
        return self._slab_size

    def member(self, ordinal: int) -> Member:
        """Return the member of that number; a hard link's first name."""
        name_at, place, size, mtime_ns, links, _, mode, name_length, kind, _ = self._record(
            ordinal
        )
        if kind == LINK:
            return self.member(self.resolve(ordinal))
        target = ""
        if kind == MemberKind.SYMLINK:
            target = self._text(place, size).decode("utf-8", "surrogateescape")
        elif kind == MemberKind.DIRECTORY:
            size = 0
        return Member(
            ordinal,
            self._text(name_at, name_length).decode("utf-8", "surrogateescape"),
            _KINDS[kind] if kind in _KINDS else self._damaged(ordinal),
            mode & 0o7777,
            mtime_ns,
            size,
            target,
            links,
        )

    def kind_of(self, entry: int) -> MemberKind:
        """Return the kind of the member that an entry stands for."""
        kind = self._record(entry)[8]
        if kind == LINK:
            kind = self._record(self.resolve(entry))[8]
        return _KINDS[kind] if kind in _KINDS else self._damaged(entry)

    def is_implicit(self, ordinal: int) -> bool:
        """Tell whether no member of the tar says anything of this directory itself."""
        return bool(self._record(ordinal)[9] & RecordFlag.IMPLICIT)

    def children(self, ordinal: int) -> range:
        """Return the entries of a directory, by name in byte order; empty for other kinds.

        An entry number is what `name_of` and `resolve` take: for all but hard links it is the
        member's own ordinal.
        """
        _, first, count, _, _, _, _, _, kind, _ = self._record(ordinal)
        if kind != MemberKind.DIRECTORY or not count:
            return range(0)
        if not ordinal < first or first + count > self._count:
            self._damaged(ordinal)
        return range(first, first + count)

    def name_of(self, entry: int) -> str:
        """Return the name of an entry."""
        return self._name(entry).decode("utf-8", "surrogateescape")

    def resolve(self, entry: int) -> int:
        """Return the ordinal of the member an entry stands for (another one for a hard link)."""
        record = self._record(entry)
        if record[8] != LINK:
            return entry
        ordinal = record[1]
        # The first name comes first: no chain, no cycle.
        if ordinal >= entry or self._record(ordinal)[8] == LINK:
            self._damaged(entry)
        return ordinal

    def find(self, directory: int, name: str) -> int | None:
        """Return the ordinal of the member of that name in a directory, hard links resolved."""
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
        """Return where a file's bytes are in the slab, in file order, without overlaps."""
        _, place, size, _, _, count, _, _, kind, flags = self._record(self.resolve(ordinal))
        if kind != MemberKind.FILE or not size:
            return ()
        if not flags & RecordFlag.SPARSE:
            found: tuple[Extent, ...] = (Extent(0, place, size),)
        else:
            if place + count > self._extents:
                self._damaged(ordinal)
            start = self._sections + place * EXTENT.size
            table = self._buffer[start : start + count * EXTENT.size]
            found = tuple(Extent(*fields) for fields in EXTENT.iter_unpack(table))
        end = 0
        for extent in found:
            if extent.file_offset < end or extent.slab_offset + extent.length > self._slab_size:
                self._damaged(ordinal)
            end = extent.file_offset + extent.length
        if end > size:
            self._damaged(ordinal)
        return found

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
        record = self._record(entry)
        return self._text(record[0], record[7])

    def _text(self, start: int, length: int) -> bytes:
        if start + length > len(self._heap):
            raise InvalidContent("layer index: a record points behind the heap")
        return bytes(self._heap[start : start + length])

    def _record(self, number: int) -> tuple[int, ...]:
        if not 0 <= number < self._count:
            raise IndexError(f"layer index: no ordinal {number} among {self._count}")
        return RECORD.unpack_from(self._buffer, HEADER.size + number * RECORD.size)

    def _damaged(self, number: int) -> NoReturn:
        raise InvalidContent(f"layer index: record {number} is damaged")


_KINDS = {int(kind): kind for kind in MemberKind}
