"""Makes the index of a tar layer from its members, in the order in which the tar has them.

Owns what repeated, conflicting and linked members mean: what extracting them in order would
leave behind. A later member replaces an earlier one of its name; a repeated directory keeps its
children; hard links name the earlier member, and survive when that name is replaced. What
extraction would fail at, or would do harm, is recorded as a *problem* and left out: names that
leave the archive, members below a symlink or a file, hard links to nothing. Nothing here ever
follows a symlink.

Memory is bounded by the limits below; a member costs about 75 bytes beside its name: records are
kept in the form of the index, names in `orasfs.tree.nametable`. Pure.

INVARIANT: another thread may look at the nodes while this one adds some (`orasfs.tree.
partialindex`): a node is complete before it is named, and naming is the last step. What is let go
of in the end is replaced, not changed; extents, of which there are few, stay.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from orasfs.errors import ContentRefused
from orasfs.oci.digest import Digest
from orasfs.tree.indexsections import Places, Sections, count_link, describe, kind_of, sort_entries
from orasfs.tree.layerindex import (
    EXTENT,
    RECORD,
    ROOT,
    Extent,
    MemberKind,
    RecordFlag,
)
from orasfs.tree.names import clean_path, show
from orasfs.tree.nametable import NameTable

MAX_MEMBERS = 2_000_000  # a megabyte of gzip can hold as many headers
MAX_TEXT_BYTES = 128 * 1024 * 1024  # of names and symlink targets together
MAX_EXTENTS = 250_000  # of all sparse files of the layer together
MAX_PROBLEMS = 100
MAX_TARGET_BYTES = 4095  # PATH_MAX without the NUL

_MOST_QUICK_BYTES = 255  # of a path that is looked at by its parts only; see `_place_of_leaf`
# As plain numbers, since there are many.
_FILE, _DIRECTORY, _SYMLINK = map(int, (MemberKind.FILE, MemberKind.DIRECTORY, MemberKind.SYMLINK))
_OWN, _SPARSE, _IMPLICIT = map(int, (RecordFlag.OWN, RecordFlag.SPARSE, RecordFlag.IMPLICIT))
_DOT, _WIDTH = ord("."), RECORD.size


class Placed(NamedTuple):
    """Where the bytes of a file are to be put: `length` bytes, as the tar has them.

    Attributes:
        blob: the number of the file among those that are blobs of their own; None for the slab,
            which has its files in the order in which they were added.
        length: in bytes.
    """

    blob: int | None
    length: int


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
        self._places = Places()
        self._problems: list[str] = []
        self._has_orphans = False
        # The directory of the last member, as it was written: most follow their siblings.
        self._recent = (b"", ROOT)
        self._new_directory(_IMPLICIT, 0o755, 0)

    def __repr__(self) -> str:
        return f"<IndexBuilder nodes={len(self.records) // _WIDTH} names={len(self.names)}>"

    @property
    def first_problem(self) -> str | None:
        """What was found wrong first, if anything."""
        return self._problems[0] if self._problems else None

    @property
    def slab_size(self) -> int:
        """How many bytes the slab has, of all files so far."""
        return self._places.slab_size

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
            describe(self.records, ROOT, mode, mtime_ns)
            return
        at = self._parent_and_name(cleaned)
        if at is None:
            return
        node = self.names.find(*at)
        if node is not None and self._kind(node) == _DIRECTORY:
            describe(self.records, node, mode, mtime_ns)
        else:
            self._name(*at, self._new_directory(0, mode, mtime_ns))

    def add_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, extents: Sequence[Extent]
    ) -> Placed | None:
        """Add a file of `size` bytes; `extents` are sorted and do not overlap.

        Returns: where its bytes are to be put, None if it is left out.
        """
        start = extents[0].tar_offset if extents else 0
        if not size or extents == (Extent(0, start, size),):
            return self.add_whole_file(
                path, mode=mode, mtime_ns=mtime_ns, size=size, tar_offset=start
            )
        at = self._place_of_leaf(path)
        if at is None:
            return None
        first, count = len(self.extents) // EXTENT.size, len(extents)
        if first + count > MAX_EXTENTS:
            raise ContentRefused(f"tar: more than {MAX_EXTENTS} segments of sparse files")
        for extent in extents:
            self.extents += EXTENT.pack(extent.file_offset, extent.tar_offset, extent.length)
        length = extents[-1].tar_offset + extents[-1].length - start if extents else 0
        fields = (start, self._places.take_in_slab(length), size, mtime_ns, first, count)
        self._name(*at, self._new(fields, mode, _FILE, _SPARSE))
        return Placed(None, length)

    def add_whole_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, tar_offset: int
    ) -> Placed | None:
        """Add a file whose bytes are all at one place of the tar; returns as `add_file`."""
        at = self._place_of_leaf(path)
        if at is None:
            return None
        blob, place, flags = self._places.take(size)
        tar, count = (tar_offset, 1) if size else (0, 0)
        node = self._new((tar, place, size, mtime_ns, 0, count), mode, _FILE, flags)
        self._name(*at, node)
        return Placed(blob, size)

    def set_blob(self, number: int, digest: Digest) -> None:
        """Say what the digest (sha256) of a file is that is a blob of its own."""
        self._places.set_blob(number, digest)

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
        self._name(*at, self._new(fields, mode, _SYMLINK, 0))

    def add_hard_link(self, path: bytes, target: bytes) -> None:
        """Add a further name of the earlier file (or symlink) at `target`, a path in the tar."""
        try:
            cleaned = clean_path(target)
        except ContentRefused as error:
            self.problem(f"hard link {show(path)}: {error}")
            return
        node = self._lookup(cleaned)
        if node is None or self._kind(node) == _DIRECTORY:
            self.problem(f"hard link {show(path)}: no earlier file {show(target)}")
            return
        at = self._place_of_leaf(path)
        if at is not None:
            count_link(self.records, node, 1)
            self._name(*at, node)

    def finish(self, tar_size: int) -> bytes:
        """Return the index, in the form that `LayerIndex` reads. The builder is used up."""
        return b"".join(self.sections(tar_size))

    def sections(self, tar_size: int) -> Iterator[bytes | bytearray]:
        """Yield the index in parts, so that it need not be in memory twice.

        In the end the builder knows nothing any more, whoever still has it.
        """
        entries = sort_entries(self.names, self.records, has_orphans=self._has_orphans)
        parts = Sections(
            self.records,
            entries,
            self.extents,
            self._places.blobs,
            self.names.heap,
            self._problems,
        )
        yield from parts.in_order(self._places.slab_size, tar_size)
        self.names, self.records = NameTable(), bytearray()

    def _clean(self, path: bytes) -> bytes | None:
        try:
            return clean_path(path)
        except ContentRefused as error:
            self.problem(str(error))
            return None

    def _place_of_leaf(self, path: bytes) -> tuple[int, bytes] | None:
        """Return where a member is that is no directory; None, with a problem, if nowhere."""
        parent, slash, name = path.rpartition(b"/")
        is_plain = (
            name and name[0] != _DOT and b"\0" not in name and len(path) <= _MOST_QUICK_BYTES
        )
        # What cleaning makes of a path that ends so is what it makes of its directory, and that.
        if is_plain and parent == self._recent[0] and (parent or not slash):
            return self._recent[1], name
        cleaned = self._clean(path)
        if cleaned is None:
            return None
        if not cleaned:
            self.problem(f"not a directory: the top of the archive, {show(path)}")
            return None
        at = self._parent_and_name(cleaned)
        if at is not None and is_plain:
            self._recent = (parent, at[0])
        return at

    def _parent_and_name(self, cleaned: bytes) -> tuple[int, bytes] | None:
        """Return where a path is, with its missing parents made; None if it cannot be there."""
        parent_path, _, name = cleaned.rpartition(b"/")
        if parent_path == self._recent[0]:
            return self._recent[1], name
        parent = ROOT
        for part in parent_path.split(b"/") if parent_path else ():
            node = self.names.find(parent, part)
            if node is None:
                node = self._new_directory(_IMPLICIT, 0o755, 0)
                self._name(parent, part, node)
            elif self._kind(node) != _DIRECTORY:
                self.problem(
                    f"no symbolic link allowed on the way to {show(cleaned)}"
                    if self._kind(node) == _SYMLINK
                    else f"not a directory: {show(part)} on the way to {show(cleaned)}"
                )
                return None
            parent = node
        self._recent = (parent_path, parent)
        return parent, name

    def _lookup(self, cleaned: bytes) -> int | None:
        node: int | None = ROOT
        for part in cleaned.split(b"/") if cleaned else ():
            if node is None or self._kind(node) != _DIRECTORY:
                return None
            node = self.names.find(node, part)
        return node

    def _name(self, parent: int, name: bytes, node: int) -> None:
        """Give a node a name, which its record counts already."""
        names = self.names
        if len(names.nodes) >= MAX_MEMBERS and names.find(parent, name) is None:
            raise ContentRefused(f"tar: more than {MAX_MEMBERS} members")
        replaced = names.put(parent, name, node)
        if replaced is None:
            self._check_text()
            return
        count_link(self.records, replaced, -1)
        if self._kind(replaced) == _DIRECTORY:
            self._has_orphans = True
            self._recent = (b"", ROOT)  # it may have been below what is gone

    def _check_text(self) -> None:
        if len(self.names.heap) > MAX_TEXT_BYTES:
            raise ContentRefused(f"tar: more than {MAX_TEXT_BYTES} bytes of names and targets")

    def _kind(self, node: int) -> int:
        return kind_of(self.records, node)

    def _new_directory(self, flags: int, mode: int, mtime_ns: int) -> int:
        fields = (0, 0, 0, mtime_ns, 0, 0)
        return self._new(fields, mode, _DIRECTORY, flags)

    def _new(self, fields: tuple[int, ...], mode: int, kind: int, flags: int) -> int:
        """Make a node that has one name, which is still to be given to it; the root has none."""
        node = len(self.records) // _WIDTH
        if node > 2 * MAX_MEMBERS:
            raise ContentRefused(f"tar: more than {2 * MAX_MEMBERS} members and their repetitions")
        self.records += RECORD.pack(*fields, 1, mode & 0o7777, kind, flags)
        return node
