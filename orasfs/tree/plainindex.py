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
from orasfs.tree.indexbuilder import MAX_EXTENTS, MAX_TARGET_BYTES, Placed
from orasfs.tree.indexsections import Places, Sections
from orasfs.tree.layerindex import (
    ENTRY,
    EXTENT,
    RECORD,
    ROOT,
    Extent,
    MemberKind,
    RecordFlag,
)
from orasfs.tree.names import clean_path, is_clean

_MOST_MEMBERS = 400_000
# As plain numbers, since there are many.
_DIRECTORY, _FILE, _SYMLINK = (
    int(MemberKind.DIRECTORY),
    int(MemberKind.FILE),
    int(MemberKind.SYMLINK),
)
_SPARSE, _OWN = int(RecordFlag.SPARSE), int(RecordFlag.OWN)
_IMPLIED = (0, 0o755, int(RecordFlag.IMPLICIT))  # a directory that no member is
_pack = RECORD.pack


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
        self._records: list[bytes] = [b""]  # of directories not before the end
        self._texts: list[bytes] = []
        self._text_size = 0
        self._nodes: list[int] = []  # by number of a name
        self._starts: list[int] = []  # likewise, in the heap
        # Of directories: the numbers of names; time, mode and flags; and the paths of those that
        # had a member.
        self._children: dict[int, dict[bytes, int]] = {ROOT: {}}
        self._directories: dict[int, tuple[int, int, int]] = {ROOT: _IMPLIED}
        self._paths: dict[bytes, dict[bytes, int]] = {b"": self._children[ROOT]}
        self._extents: list[bytes] = []
        self._places = Places()

    def __repr__(self) -> str:
        return f"<PlainIndex nodes={len(self._records)}>"

    def skip(self, path: bytes) -> None:
        """See `IndexBuilder.skip`."""
        _cleaned(path)

    def add_directory(self, path: bytes, *, mode: int, mtime_ns: int) -> None:
        """See `IndexBuilder.add_directory`."""
        said = (mtime_ns, mode & 0o7777, 0)
        cleaned = _cleaned(path)
        if not cleaned:
            self._directories[ROOT] = said
            return
        siblings, name = self._place_of(cleaned)
        if name not in siblings:
            self._new_directory(siblings, name, said)
            return
        node = self._nodes[siblings[name]]
        if node not in self._directories:
            raise NotPlain
        self._directories[node] = said

    def add_whole_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, tar_offset: int
    ) -> Placed:
        """See `IndexBuilder.add_whole_file`."""
        siblings, name = self._place_of(path)
        blob, place, flags = self._places.take(size)
        count, tar = (1, tar_offset) if size else (0, 0)
        self._put(siblings, name, len(self._records))
        self._records.append(
            _pack(tar, place, size, mtime_ns, 0, count, 1, mode & 0o7777, _FILE, flags)
        )
        return Placed(blob, size)

    def add_file(
        self, path: bytes, *, mode: int, mtime_ns: int, size: int, extents: Sequence[Extent]
    ) -> None:
        """Add a file whose bytes are not all at one place; see `IndexBuilder.add_file`."""
        first = len(self._extents)
        if first + len(extents) > MAX_EXTENTS:
            raise NotPlain
        siblings, name = self._place_of(path)
        tar = extents[0].tar_offset if extents else 0
        length = extents[-1].tar_offset + extents[-1].length - tar if extents else 0
        place = self._places.take_in_slab(length)
        for extent in extents:
            self._extents.append(EXTENT.pack(extent.file_offset, extent.tar_offset, extent.length))
        self._put(siblings, name, len(self._records))
        fields = (tar, place, size, mtime_ns, first, len(extents))
        self._records.append(_pack(*fields, 1, mode & 0o7777, _FILE, _SPARSE))

    def set_blob(self, number: int, digest: Digest) -> None:
        """See `IndexBuilder.set_blob`."""
        self._places.set_blob(number, digest)

    def add_symlink(self, path: bytes, *, mode: int, mtime_ns: int, target: bytes) -> None:
        """See `IndexBuilder.add_symlink`."""
        if not target or len(target) > MAX_TARGET_BYTES or b"\0" in target:
            raise NotPlain
        siblings, name = self._place_of(path)
        place = self._text_size
        self._texts.append(target)
        self._text_size += len(target)
        self._put(siblings, name, len(self._records))
        fields = (0, place, len(target), mtime_ns, 0, 0)
        self._records.append(_pack(*fields, 1, mode & 0o7777, _SYMLINK, 0))

    def add_hard_link(self, path: bytes, target: bytes) -> None:
        """See `IndexBuilder.add_hard_link`."""
        node = self._find(_cleaned(target))
        if node is None or node in self._directories:
            raise NotPlain
        self._put(*self._place_of(path), node)
        *fields, links, mode, kind, flags = RECORD.unpack(self._records[node])
        self._records[node] = _pack(*fields, links + 1, mode, kind, flags)

    def finish(self, tar_size: int) -> bytes:
        """See `IndexBuilder.finish`."""
        entries = self._sort()
        parts = Sections(
            records=b"".join(self._records),
            entries=entries,
            extents=b"".join(self._extents),
            blobs=self._places.blobs,
            heap=b"".join(self._texts),
        )
        return b"".join(parts.in_order(self._places.slab_size, tar_size))

    def _place_of(self, path: bytes) -> tuple[dict[bytes, int], bytes]:
        """Return the names of the directory that a path is in, and its own name."""
        cleaned = path if is_clean(path) else _cleaned(path)
        parent, _, name = cleaned.rpartition(b"/")
        siblings = self._paths.get(parent)
        if siblings is None:
            siblings = self._paths[parent] = self._make_directories(parent)
        if not name or len(self._records) > _MOST_MEMBERS:
            raise NotPlain
        return siblings, name

    def _make_directories(self, path: bytes) -> dict[bytes, int]:
        siblings = self._children[ROOT]
        for part in path.split(b"/"):
            number = siblings.get(part)
            if number is None:
                siblings = self._new_directory(siblings, part, _IMPLIED)
                continue
            node = self._nodes[number]
            if node not in self._directories:
                raise NotPlain
            siblings = self._children[node]
        return siblings

    def _new_directory(
        self, siblings: dict[bytes, int], name: bytes, said: tuple[int, int, int]
    ) -> dict[bytes, int]:
        node = len(self._records)
        if node > _MOST_MEMBERS:
            raise NotPlain
        self._records.append(b"")
        self._directories[node] = said
        self._put(siblings, name, node)
        children: dict[bytes, int] = {}
        self._children[node] = children
        return children

    def _put(self, siblings: dict[bytes, int], name: bytes, node: int) -> None:
        number = len(self._nodes)
        if siblings.setdefault(name, number) != number:
            raise NotPlain
        self._nodes.append(node)
        self._starts.append(self._text_size)
        self._texts.append(name)
        self._text_size += len(name)

    def _find(self, cleaned: bytes) -> int | None:
        node = ROOT
        for part in cleaned.split(b"/"):
            number = self._children.get(node, {}).get(part)
            if number is None:
                return None
            node = self._nodes[number]
        return node

    def _sort(self) -> bytes:
        """Return the entries, as `IndexBuilder` has them, and make the directories' records."""
        nodes, starts, records = self._nodes, self._starts, self._records
        made: list[bytes] = []
        pack = ENTRY.pack
        own = {ROOT: 0}  # by directory, in the order in which they are found
        queue = [ROOT]
        for directory in queue:
            names = self._children[directory]
            mtime_ns, mode, flags = self._directories[directory]
            fields = (own[directory], 0, 0, mtime_ns, len(made), len(names))
            records[directory] = _pack(*fields, 1, mode, _DIRECTORY, flags)
            for name in sorted(names):
                number = names[name]
                node = nodes[number]
                if node in self._directories:
                    own[node] = len(made)
                    queue.append(node)
                made.append(pack(starts[number], node, len(name)))
        return b"".join(made)


def _cleaned(path: bytes) -> bytes:
    try:
        return clean_path(path)
    except ContentRefused as error:
        raise NotPlain from error
