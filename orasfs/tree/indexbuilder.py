"""Makes the index of a tar layer from its members, in the order in which the tar has them.

Owns what repeated, conflicting and linked members mean: what extracting them in order would
leave behind. A later member replaces an earlier one of its name; a repeated directory keeps its
children; hard links name the earlier member, and survive when that name is replaced. What
extraction would fail at, or would do harm, is recorded as a *problem* and left out: names that
leave the archive, members below a symlink or a file, hard links to nothing. Nothing here ever
follows a symlink. Owns, too, which files go to the slab and which are blobs of their own.

Memory is bounded by the limits below; a member costs about 75 bytes beside its name: records are
kept in the form of the index, names in `orasfs.tree.nametable`. Pure.

INVARIANT: another thread may look at the nodes while this one adds some (`orasfs.tree.
partialindex`): a node is complete before it is named, and naming is the last step. What is let go
of in the end is replaced, not changed; extents, of which there are few, stay.
"""

import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orasfs.errors import ContentRefused
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
    Extent,
    MemberKind,
    Place,
    RecordFlag,
)
from orasfs.tree.names import clean_path, show
from orasfs.tree.nametable import NameTable

MAX_MEMBERS = 2_000_000  # a megabyte of gzip can hold as many headers
MAX_TEXT_BYTES = 128 * 1024 * 1024  # of names and symlink targets together
MAX_EXTENTS = 250_000  # of all sparse files of the layer together
MAX_PROBLEMS = 100
MAX_TARGET_BYTES = 4095  # PATH_MAX without the NUL

_ENTRY_OF, _RANGE, _LINKS = map(struct.Struct, ("<Q", "<II", "<I"))  # of a record
_RANGE_AT, _LINKS_AT, _KIND_AT = 32, 40, 46


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the bytes of a file are to be put: `length` bytes, as the tar has them."""

    ordinal: int
    place: Place
    length: int


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


class IndexBuilder:
    """Takes members, gives an index. Paths are as in the tar: bytes, not yet cleaned.

    All methods raise ContentRefused when a limit of this module is passed.

    Attributes:
        names: the names so far.
        records: the nodes so far, in the form of the index.
        extents: those of sparse files, likewise.
    """

    def __init__(self) -> None:
        self.names = NameTable()
        self.records = bytearray()
        self.extents = bytearray()
        self._blobs = bytearray()
        self._slab_size = 0
        self._problems: list[str] = []
        self._has_orphans = False
        self._recent = (b"", ROOT)  # the directory of the last member: most follow their siblings
        self._new_directory(RecordFlag.IMPLICIT, 0o755, 0)

    def __repr__(self) -> str:
        return f"<IndexBuilder nodes={self._count} names={len(self.names)}>"

    @property
    def first_problem(self) -> str | None:
        """What was found wrong first, if anything."""
        return self._problems[0] if self._problems else None

    @property
    def slab_size(self) -> int:
        """How many bytes the slab has, of all files so far."""
        return self._slab_size

    def problem(self, text: str) -> None:
        """Record what is wrong with a member that was left out; the first hundred are kept."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(text)

    def skip(self, path: bytes) -> None:
        """Judge the name of a member that is not shown whatever its name (a device)."""
        self._clean(path)

    def add_directory(self, path: bytes, *, mode: int, mtime_ns: int) -> None:
        """Add a directory, or say of one that exists what its mode and time are."""
        cleaned = self._clean(path)
        if cleaned is None:
            return
        if not cleaned:
            self._set_directory(ROOT, mode, mtime_ns)
            return
        at = self._parent_and_name(cleaned)
        if at is None:
            return
        node = self.names.find(*at)
        if node is not None and self._kind(node) == MemberKind.DIRECTORY:
            self._set_directory(node, mode, mtime_ns)
        else:
            self._name(*at, self._new_directory(0, mode, mtime_ns))

    def add_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, extents: Sequence[Extent]
    ) -> Placed | None:
        """Add a file of `size` bytes; `extents` are sorted and do not overlap.

        Returns: where its bytes are to be put, None if it is left out.
        """
        at = self._place_of_leaf(path)
        if at is None:
            return None
        tar = extents[0].tar_offset if extents else 0
        length = extents[-1].tar_offset + extents[-1].length - tar if extents else 0
        flags, first = 0, 0
        is_whole = len(extents) == 1 and extents[0].file_offset == 0 and length == size
        if size and not is_whole:
            flags, first = RecordFlag.SPARSE, len(self.extents) // EXTENT.size
            if first + len(extents) > MAX_EXTENTS:
                raise ContentRefused(f"tar: more than {MAX_EXTENTS} segments of sparse files")
            for extent in extents:
                self.extents += EXTENT.pack(extent.file_offset, extent.tar_offset, extent.length)
        if is_whole and size >= OWN_BLOB_BYTES:
            flags = RecordFlag.OWN
            place = Place(tar, len(self._blobs) // BLOB_BYTES, 0)
            self._blobs += bytes(BLOB_BYTES)
        else:
            place = Place(tar, None, self._slab_size)
            self._slab_size += length
        put = place.offset if place.blob is None else place.blob
        node = self._new(
            (tar, put, size, mtime_ns, first, len(extents)), mode, MemberKind.FILE, flags
        )
        self._name(*at, node)
        return Placed(node, place, length)

    def add_whole_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, tar_offset: int
    ) -> int | None:
        """Add a file whose bytes are all at one place of the tar.

        Returns: its number, if it is a blob of its own.
        """
        extents = (Extent(0, tar_offset, size),) if size else ()
        placed = self.add_file(path, mode=mode, mtime_ns=mtime_ns, size=size, extents=extents)
        return None if placed is None else placed.place.blob

    def set_blob(self, number: int, digest: Digest) -> None:
        """Say what the digest (sha256) of a file is that is a blob of its own."""
        start = number * BLOB_BYTES
        self._blobs[start : start + BLOB_BYTES] = bytes.fromhex(digest.hex)

    def add_symlink(self, path: bytes, *, mode: int, mtime_ns: int, target: bytes) -> None:
        """Add a symlink; where it leads is not judged here (orasfs.tree.packed does)."""
        at = self._place_of_leaf(path)
        if at is None:
            return
        if not target or len(target) > MAX_TARGET_BYTES or b"\0" in target:
            self.problem(f"symlink {show(path)}: no valid target {show(target)}")
            return
        place = self.names.add_text(target)
        self._check_text()
        fields = (0, place, len(target), mtime_ns, 0, 0)
        self._name(*at, self._new(fields, mode, MemberKind.SYMLINK, 0))

    def add_hard_link(self, path: bytes, target: bytes) -> None:
        """Add a further name of the earlier file (or symlink) at `target`, a path in the tar."""
        try:
            cleaned = clean_path(target)
        except ContentRefused as error:
            self.problem(f"hard link {show(path)}: {error}")
            return
        node = self._lookup(cleaned)
        if node is None or self._kind(node) == MemberKind.DIRECTORY:
            self.problem(f"hard link {show(path)}: no earlier file {show(target)}")
            return
        at = self._place_of_leaf(path)
        if at is not None:
            self._name(*at, node)

    def finish(self, tar_size: int) -> bytes:
        """Return the index, in the form that `LayerIndex` reads. The builder is used up."""
        return b"".join(self.sections(tar_size))

    def sections(self, tar_size: int) -> Iterator[bytes | bytearray]:
        """Yield the index in parts, so that it need not be in memory twice.

        In the end the builder knows nothing any more, whoever still has it.
        """
        entries = _sort(self.names, self.records, has_orphans=self._has_orphans)
        parts = Sections(
            self.records, entries, self.extents, self._blobs, self.names.heap, self._problems
        )
        yield from parts.in_order(self._slab_size, tar_size)
        self.names, self.records = NameTable(), bytearray()

    def _clean(self, path: bytes) -> bytes | None:
        try:
            return clean_path(path)
        except ContentRefused as error:
            self.problem(str(error))
            return None

    def _place_of_leaf(self, path: bytes) -> tuple[int, bytes] | None:
        """Return where a member is that is no directory; None, with a problem, if nowhere."""
        cleaned = self._clean(path)
        if cleaned is None:
            return None
        if not cleaned:
            self.problem(f"not a directory: the top of the archive, {show(path)}")
            return None
        return self._parent_and_name(cleaned)

    def _parent_and_name(self, cleaned: bytes) -> tuple[int, bytes] | None:
        """Return where a path is, with its missing parents made; None if it cannot be there."""
        parent_path, _, name = cleaned.rpartition(b"/")
        if parent_path == self._recent[0]:
            return self._recent[1], name
        parent = ROOT
        for part in parent_path.split(b"/") if parent_path else ():
            node = self.names.find(parent, part)
            if node is None:
                node = self._new_directory(RecordFlag.IMPLICIT, 0o755, 0)
                self._name(parent, part, node)
            elif self._kind(node) != MemberKind.DIRECTORY:
                self.problem(
                    f"no symbolic link allowed on the way to {show(cleaned)}"
                    if self._kind(node) == MemberKind.SYMLINK
                    else f"not a directory: {show(part)} on the way to {show(cleaned)}"
                )
                return None
            parent = node
        self._recent = (parent_path, parent)
        return parent, name

    def _lookup(self, cleaned: bytes) -> int | None:
        node: int | None = ROOT
        for part in cleaned.split(b"/") if cleaned else ():
            if node is None or self._kind(node) != MemberKind.DIRECTORY:
                return None
            node = self.names.find(node, part)
        return node

    def _name(self, parent: int, name: bytes, node: int) -> None:
        if len(self.names) >= MAX_MEMBERS and self.names.find(parent, name) is None:
            raise ContentRefused(f"tar: more than {MAX_MEMBERS} members")
        self._count_link(node, 1)
        replaced = self.names.put(parent, name, node)
        if replaced is None:
            self._check_text()
            return
        self._count_link(replaced, -1)
        if self._kind(replaced) == MemberKind.DIRECTORY:
            self._has_orphans = True
            self._recent = (b"", ROOT)  # it may have been below what is gone

    def _check_text(self) -> None:
        if len(self.names.heap) > MAX_TEXT_BYTES:
            raise ContentRefused(f"tar: more than {MAX_TEXT_BYTES} bytes of names and targets")

    @property
    def _count(self) -> int:
        return len(self.records) // RECORD.size

    def _fields(self, node: int) -> tuple[int, ...]:
        return RECORD.unpack_from(self.records, node * RECORD.size)

    def _kind(self, node: int) -> int:
        return self.records[node * RECORD.size + _KIND_AT]

    def _count_link(self, node: int, step: int) -> None:
        at = node * RECORD.size + _LINKS_AT
        _LINKS.pack_into(self.records, at, _LINKS.unpack_from(self.records, at)[0] + step)

    def _set_directory(self, node: int, mode: int, mtime_ns: int) -> None:
        tar, place, size, _, first, count, links, _, kind, _ = self._fields(node)
        changed = (mtime_ns, first, count, links, mode & 0o7777, kind, 0)
        RECORD.pack_into(self.records, node * RECORD.size, tar, place, size, *changed)

    def _new_directory(self, flags: int, mode: int, mtime_ns: int) -> int:
        fields = (0, 0, 0, mtime_ns, 0, 0)
        return self._new(fields, mode, MemberKind.DIRECTORY, flags)

    def _new(self, fields: tuple[int, ...], mode: int, kind: int, flags: int) -> int:
        node = self._count
        if node > 2 * MAX_MEMBERS:
            raise ContentRefused(f"tar: more than {2 * MAX_MEMBERS} members and their repetitions")
        links = int(node == ROOT)
        self.records += RECORD.pack(*fields, links, mode & 0o7777, kind, flags)
        return node


def _sort(names: NameTable, records: bytearray, *, has_orphans: bool) -> bytearray:
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
            if records[at + _KIND_AT] == MemberKind.DIRECTORY:
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
