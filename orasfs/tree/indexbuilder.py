"""Makes the index of a tar layer from its members, in the order in which the tar has them.

Owns what repeated, conflicting and linked members mean: what extracting them in order would
leave behind. A later member replaces an earlier one of its name; a repeated directory keeps its
children; hard links name the earlier member, and survive when that name is replaced. What
extraction would fail at, or would do harm, is recorded as a *problem* and left out: names that
leave the archive, members below a symlink or a file, hard links to nothing. Nothing here ever
follows a symlink.

Memory is bounded by the limits below; a member costs about 180 bytes beside its name. Pure.
"""

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence

from orasfs.errors import ContentRefused
from orasfs.tree.layerindex import (
    EXTENT,
    HEADER,
    LENGTH,
    LINK,
    MAGIC,
    RECORD,
    ROOT,
    VERSION,
    Extent,
    MemberKind,
    RecordFlag,
)
from orasfs.tree.names import clean_path, show

MAX_MEMBERS = 2_000_000  # a megabyte of gzip can hold as many headers
MAX_TEXT_BYTES = 128 * 1024 * 1024  # of names and symlink targets together
MAX_EXTENTS = 250_000  # of all sparse files of the layer together
MAX_PROBLEMS = 100
MAX_TARGET_BYTES = 4095  # PATH_MAX without the NUL

_ID_BYTES = 4  # a key is its parent's number, big-endian, and a name: keys sort as listings do


class IndexBuilder:
    """Takes members, gives an index. Paths are as in the tar: bytes, not yet cleaned.

    All methods raise ContentRefused when a limit of this module is passed.
    """

    def __init__(self) -> None:
        self._nodes: dict[bytes, int] = {}
        self._kinds = array("B")
        self._flags = array("B")
        self._modes = array("H")
        self._mtimes = array("q")
        self._sizes = array("Q")
        self._places = array("Q")
        self._extent_counts = array("I")
        self._extents = bytearray()
        self._targets = bytearray()
        self._name_bytes = 0
        self._problems: list[str] = []
        self._recent = (b"", ROOT)  # the directory of the last member: most follow their siblings
        self._new_directory(RecordFlag.IMPLICIT, 0o755, 0)

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
        key = self._key(cleaned)
        if key is None:
            return
        node = self._nodes.get(key)
        if node is not None and self._kinds[node] == MemberKind.DIRECTORY:
            self._set_directory(node, mode, mtime_ns)
        else:
            self._name(key, self._new_directory(0, mode, mtime_ns))

    def add_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, extents: Sequence[Extent]
    ) -> None:
        """Add a file of `size` bytes; `extents` are sorted and do not overlap."""
        key = self._key_of_leaf(path)
        if key is None:
            return
        if not extents or (
            len(extents) == 1 and extents[0].file_offset == 0 and extents[0].length == size
        ):
            place = extents[0].slab_offset if extents else len(self._extents) // EXTENT.size
            flags = 0 if extents else RecordFlag.SPARSE
        else:
            place, flags = len(self._extents) // EXTENT.size, RecordFlag.SPARSE
            if place + len(extents) > MAX_EXTENTS:
                raise ContentRefused(f"tar: more than {MAX_EXTENTS} segments of sparse files")
            for extent in extents:
                self._extents += EXTENT.pack(extent.file_offset, extent.slab_offset, extent.length)
        node = self._new(MemberKind.FILE, flags, mode, mtime_ns, size, place, len(extents))
        self._name(key, node)

    def add_symlink(self, path: bytes, *, mode: int, mtime_ns: int, target: bytes) -> None:
        """Add a symlink; where it leads is not judged here (orasfs.tree.packed does)."""
        key = self._key_of_leaf(path)
        if key is None:
            return
        if not target or len(target) > MAX_TARGET_BYTES or b"\0" in target:
            self.problem(f"symlink {show(path)}: no valid target {show(target)}")
            return
        place = len(self._targets)
        self._targets += target
        self._check_text()
        self._name(key, self._new(MemberKind.SYMLINK, 0, mode, mtime_ns, len(target), place, 0))

    def add_hard_link(self, path: bytes, target: bytes) -> None:
        """Add a further name of the earlier file (or symlink) at `target`, a path in the tar."""
        try:
            cleaned = clean_path(target)
        except ContentRefused as error:
            self.problem(f"hard link {show(path)}: {error}")
            return
        node = self._lookup(cleaned)
        if node is None or self._kinds[node] == MemberKind.DIRECTORY:
            self.problem(f"hard link {show(path)}: no earlier file {show(target)}")
            return
        key = self._key_of_leaf(path)
        if key is not None:
            self._name(key, node)

    def finish(self, slab_size: int) -> bytes:
        """Return the index, in the form that `LayerIndex` reads. The builder is used up."""
        keys = sorted(self._nodes)
        order, key_numbers, ranges = self._breadth_first(keys)
        links = array("I", bytes(4 * len(self._kinds)))
        for node in order:
            links[node] += 1
        first_entries: dict[int, int] = {}
        records = bytearray()
        heap = self._targets
        for entry, node in enumerate(order):
            name = keys[key_numbers[entry]][_ID_BYTES:] if entry else b""
            kind, place, size = self._kinds[node], self._places[node], self._sizes[node]
            if kind == MemberKind.DIRECTORY:
                place, size = ranges.get(entry, (0, 0))
            elif links[node] > 1 and first_entries.setdefault(node, entry) != entry:
                kind, place = LINK, first_entries[node]
            records += RECORD.pack(
                *(len(heap), place, size, self._mtimes[node], links[node]),
                *(self._extent_counts[node], self._modes[node], len(name)),
                *(kind, self._flags[node]),
            )
            heap += name
        problems = b"".join(map(_with_length, self._problems))
        extents = len(self._extents) // EXTENT.size
        sizes = (len(order), extents, len(heap), len(problems), slab_size)
        head = HEADER.pack(MAGIC, VERSION, RECORD.size, *sizes, 0)[: -LENGTH.size]
        crc = LENGTH.pack(zlib.crc32(head))
        return b"".join((head, crc, records, self._extents, heap, problems))

    def _breadth_first(
        self, keys: list[bytes]
    ) -> "tuple[array[int], array[int], dict[int, tuple[int, int]]]":
        """Number the entries that can be reached from the root.

        Returns: by entry its node and the number of its key, and by directory its first entry and
        their count. Nodes below a directory that was replaced are not reached, and so left out.
        """
        order, key_numbers = array("I", [ROOT]), array("I", [0])
        ranges: dict[int, tuple[int, int]] = {}
        entry = 0
        while entry < len(order):
            node = order[entry]
            if self._kinds[node] == MemberKind.DIRECTORY:
                low = bisect_left(keys, node.to_bytes(_ID_BYTES, "big"))
                high = bisect_left(keys, (node + 1).to_bytes(_ID_BYTES, "big"), low)
                if low < high:
                    ranges[entry] = (len(order), high - low)
                    key_numbers.extend(range(low, high))
                    order.extend(self._nodes[key] for key in keys[low:high])
            entry += 1
        return order, key_numbers, ranges

    def _clean(self, path: bytes) -> bytes | None:
        try:
            return clean_path(path)
        except ContentRefused as error:
            self.problem(str(error))
            return None

    def _key_of_leaf(self, path: bytes) -> bytes | None:
        """Return the key of a member that is no directory; None, with a problem, if none."""
        cleaned = self._clean(path)
        if cleaned is None:
            return None
        if not cleaned:
            self.problem(f"not a directory: the top of the archive, {show(path)}")
            return None
        return self._key(cleaned)

    def _key(self, cleaned: bytes) -> bytes | None:
        """Return the key of a path, with its missing parents made; None if it cannot be there."""
        parent_path, _, name = cleaned.rpartition(b"/")
        if parent_path == self._recent[0]:
            return self._recent[1].to_bytes(_ID_BYTES, "big") + name
        parent = ROOT
        for part in parent_path.split(b"/") if parent_path else ():
            key = parent.to_bytes(_ID_BYTES, "big") + part
            node = self._nodes.get(key)
            if node is None:
                node = self._new_directory(RecordFlag.IMPLICIT, 0o755, 0)
                self._name(key, node)
            elif self._kinds[node] != MemberKind.DIRECTORY:
                self.problem(
                    f"no symbolic link allowed on the way to {show(cleaned)}"
                    if self._kinds[node] == MemberKind.SYMLINK
                    else f"not a directory: {show(part)} on the way to {show(cleaned)}"
                )
                return None
            parent = node
        self._recent = (parent_path, parent)
        return parent.to_bytes(_ID_BYTES, "big") + name

    def _lookup(self, cleaned: bytes) -> int | None:
        node: int | None = ROOT
        for part in cleaned.split(b"/") if cleaned else ():
            if node is None or self._kinds[node] != MemberKind.DIRECTORY:
                return None
            node = self._nodes.get(node.to_bytes(_ID_BYTES, "big") + part)
        return node

    def _name(self, key: bytes, node: int) -> None:
        replaced = self._nodes.get(key)
        if replaced is None:
            self._name_bytes += len(key) - _ID_BYTES
            self._check_text()
            if len(self._nodes) >= MAX_MEMBERS:
                raise ContentRefused(f"tar: more than {MAX_MEMBERS} members")
        elif self._kinds[replaced] == MemberKind.DIRECTORY:
            self._recent = (b"", ROOT)  # it may have been below what is gone
        self._nodes[key] = node

    def _check_text(self) -> None:
        if self._name_bytes + len(self._targets) > MAX_TEXT_BYTES:
            raise ContentRefused(f"tar: more than {MAX_TEXT_BYTES} bytes of names and targets")

    def _set_directory(self, node: int, mode: int, mtime_ns: int) -> None:
        self._flags[node] = 0
        self._modes[node] = mode & 0o7777
        self._mtimes[node] = mtime_ns

    def _new_directory(self, flags: int, mode: int, mtime_ns: int) -> int:
        return self._new(MemberKind.DIRECTORY, flags, mode, mtime_ns, 0, 0, 0)

    def _new(
        self, kind: int, flags: int, mode: int, mtime_ns: int, size: int, place: int, extents: int
    ) -> int:
        if len(self._kinds) > 2 * MAX_MEMBERS:
            raise ContentRefused(f"tar: more than {2 * MAX_MEMBERS} members and their repetitions")
        self._kinds.append(kind)
        self._flags.append(flags)
        self._modes.append(mode & 0o7777)
        self._mtimes.append(mtime_ns)
        self._sizes.append(size)
        self._places.append(place)
        self._extent_counts.append(extents)
        return len(self._kinds) - 1


def _with_length(problem: str) -> bytes:
    text = problem.encode("utf-8", "replace")
    return LENGTH.pack(len(text)) + text
