"""Makes the index of a layer whose members are all known, and of which none is out of the way.

Owns a short way to what `orasfs.tree.indexbuilder` makes: the same methods give the same bytes, in
a quarter of the time. It is for a table of contents, which is there as a whole, and for members
whose meaning does not depend on others: whatever would replace, contradict or harm something is
`NotPlain`, and the whole is to be given to the builder, which knows what that means. Takes more
memory than the builder, and so no more than `_MOST_MEMBERS`. Pure.

INVARIANT: an index that is made here is the one that the builder would have made.
"""

from collections.abc import Sequence

from orasfs.errors import ContentRefused
from orasfs.oci.digest import Digest
from orasfs.tree.indexbuilder import MAX_EXTENTS, MAX_TARGET_BYTES, Sections
from orasfs.tree.layerindex import (
    BLOB_BYTES,
    ENTRY,
    EXTENT,
    OWN_BLOB_BYTES,
    RECORD,
    ROOT,
    Extent,
    MemberKind,
    RecordFlag,
)
from orasfs.tree.names import clean_path

_MOST_MEMBERS = 400_000
# As plain numbers, since there are many.
_DIRECTORY, _FILE, _SYMLINK = (
    int(MemberKind.DIRECTORY),
    int(MemberKind.FILE),
    int(MemberKind.SYMLINK),
)
_SPARSE, _OWN, _IMPLICIT = int(RecordFlag.SPARSE), int(RecordFlag.OWN), int(RecordFlag.IMPLICIT)


class NotPlain(Exception):
    """A member is to be judged by what else there is: `IndexBuilder` does that."""


class PlainIndex:
    """Takes members as `IndexBuilder` does, each name once.

    All methods raise NotPlain.

    Attributes:
        first_problem: there is none, since a member that has one is not plain.
    """

    first_problem = None

    def __init__(self) -> None:
        # As `RECORD` has them. Of a directory the first fields are not known before the end.
        self._rows: list[tuple[int, ...]] = [(0, 0, 0, 0, 0, 0, 1, 0o755, _DIRECTORY, _IMPLICIT)]
        self._texts: list[bytes] = []
        self._text_size = 0
        self._nodes: list[int] = []  # by number of a name
        self._starts: list[int] = []  # likewise, in the heap
        self._children: dict[int, dict[bytes, int]] = {
            ROOT: {}
        }  # of directories; numbers of names
        self._directories = {b"": ROOT}  # that had a member: their paths
        self._extents: list[bytes] = []
        self._blobs = bytearray()
        self._slab_size = 0

    def __repr__(self) -> str:
        return f"<PlainIndex nodes={len(self._rows)}>"

    def skip(self, path: bytes) -> None:
        """See `IndexBuilder.skip`."""
        _clean(path)

    def add_directory(self, path: bytes, *, mode: int, mtime_ns: int) -> None:
        """See `IndexBuilder.add_directory`."""
        row = (0, 0, 0, mtime_ns, 0, 0, 1, mode & 0o7777, _DIRECTORY, 0)
        cleaned = _clean(path)
        if not cleaned:
            self._rows[ROOT] = row
            return
        siblings, name = self._place_of(cleaned)
        if name not in siblings:
            self._new_directory(siblings, name, row)
            return
        node = self._nodes[siblings[name]]
        if node not in self._children:
            raise NotPlain
        self._rows[node] = row

    def add_whole_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, tar_offset: int
    ) -> int | None:
        """See `IndexBuilder.add_whole_file`."""
        number, flags, place = None, 0, self._slab_size
        if size >= OWN_BLOB_BYTES:
            number = place = len(self._blobs) // BLOB_BYTES
            flags = _OWN
            self._blobs += bytes(BLOB_BYTES)
        else:
            self._slab_size += size
        count, tar = (1, tar_offset) if size else (0, 0)
        self._add_leaf(
            path, (tar, place, size, mtime_ns, 0, count, 1, mode & 0o7777, _FILE, flags)
        )
        return number

    def add_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, extents: Sequence[Extent]
    ) -> None:
        """Add a file whose bytes are not all at one place; see `IndexBuilder.add_file`."""
        first = len(self._extents)
        if first + len(extents) > MAX_EXTENTS:
            raise NotPlain
        tar = extents[0].tar_offset if extents else 0
        place = self._slab_size
        if extents:
            self._slab_size += extents[-1].tar_offset + extents[-1].length - tar
        for extent in extents:
            fields = extent.file_offset, extent.tar_offset, extent.length
            self._extents.append(EXTENT.pack(*fields))
        count = len(extents)
        self._add_leaf(
            path,
            (tar, place, size, mtime_ns, first, count, 1, mode & 0o7777, _FILE, _SPARSE),
        )

    def set_blob(self, number: int, digest: Digest) -> None:
        """See `IndexBuilder.set_blob`."""
        start = number * BLOB_BYTES
        self._blobs[start : start + BLOB_BYTES] = bytes.fromhex(digest.hex)

    def add_symlink(self, path: bytes, *, mode: int, mtime_ns: int, target: bytes) -> None:
        """See `IndexBuilder.add_symlink`."""
        if not target or len(target) > MAX_TARGET_BYTES or b"\0" in target:
            raise NotPlain
        cleaned = _clean(path)
        self._place_of(cleaned)  # names of missing directories come before the target
        place = self._add_text(target)
        length = len(target)
        self._add_leaf(path, (0, place, length, mtime_ns, 0, 0, 1, mode & 0o7777, _SYMLINK, 0))

    def add_hard_link(self, path: bytes, target: bytes) -> None:
        """See `IndexBuilder.add_hard_link`."""
        node = self._find(_clean(target))
        if node is None or node in self._children:
            raise NotPlain
        siblings, name = self._place_of(_clean(path))
        self._put(siblings, name, node)
        row = self._rows[node]
        self._rows[node] = (*row[:6], row[6] + 1, *row[7:])

    def finish(self, tar_size: int) -> bytes:
        """See `IndexBuilder.finish`."""
        entries = self._sort()
        parts = Sections(
            records=b"".join(RECORD.pack(*row) for row in self._rows),
            entries=entries,
            extents=b"".join(self._extents),
            blobs=self._blobs,
            heap=b"".join(self._texts),
        )
        return b"".join(parts.in_order(self._slab_size, tar_size))

    def _add_leaf(self, path: bytes, row: tuple[int, ...]) -> None:
        siblings, name = self._place_of(_clean(path))
        self._put(siblings, name, len(self._rows))
        self._rows.append(row)

    def _place_of(self, cleaned: bytes) -> tuple[dict[bytes, int], bytes]:
        """Return the names of the directory that a path is in, and its own name."""
        parent, _, name = cleaned.rpartition(b"/")
        node = self._directories.get(parent)
        if node is None:
            node = self._directories[parent] = self._make_directories(parent)
        if not name or len(self._rows) > _MOST_MEMBERS:
            raise NotPlain
        return self._children[node], name

    def _make_directories(self, path: bytes) -> int:
        node = ROOT
        for part in path.split(b"/"):
            siblings = self._children.get(node)
            if siblings is None or len(self._rows) > _MOST_MEMBERS:
                raise NotPlain
            number = siblings.get(part)
            if number is None:
                row = (0, 0, 0, 0, 0, 0, 1, 0o755, _DIRECTORY, _IMPLICIT)
                node = self._new_directory(siblings, part, row)
            else:
                node = self._nodes[number]
        if node not in self._children:
            raise NotPlain
        return node

    def _new_directory(self, siblings: dict[bytes, int], name: bytes, row: tuple[int, ...]) -> int:
        node = len(self._rows)
        self._rows.append(row)
        self._children[node] = {}
        self._put(siblings, name, node)
        return node

    def _put(self, siblings: dict[bytes, int], name: bytes, node: int) -> None:
        number = len(self._nodes)
        if siblings.setdefault(name, number) != number:
            raise NotPlain
        self._nodes.append(node)
        self._starts.append(self._add_text(name))

    def _add_text(self, text: bytes) -> int:
        start = self._text_size
        self._texts.append(text)
        self._text_size = start + len(text)
        return start

    def _find(self, cleaned: bytes) -> int | None:
        node = ROOT
        for part in cleaned.split(b"/"):
            number = self._children.get(node, {}).get(part)
            if number is None:
                return None
            node = self._nodes[number]
        return node

    def _sort(self) -> bytes:
        """Return the entries, as `IndexBuilder` has them, and tell directories their range."""
        nodes, starts, children, rows = self._nodes, self._starts, self._children, self._rows
        made: list[bytes] = []
        pack = ENTRY.pack
        directories = [ROOT]
        for directory in directories:  # those that are found are put behind
            names = children[directory]
            tar, _, _, mtime_ns, *_, mode, kind, flags = rows[directory]
            rows[directory] = (tar, 0, 0, mtime_ns, len(made), len(names), 1, mode, kind, flags)
            for name in sorted(names):
                number = names[name]
                node = nodes[number]
                if node in children:
                    rows[node] = (len(made), *rows[node][1:])
                    directories.append(node)
                made.append(pack(starts[number], node, len(name)))
        return b"".join(made)


def _clean(path: bytes) -> bytes:
    try:
        return clean_path(path)
    except ContentRefused as error:
        raise NotPlain from error
