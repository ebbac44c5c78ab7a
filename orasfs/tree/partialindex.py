"""What is known of a layer's members while its tar passes.

Owns which answers may be given before the end: those that the rest of the tar cannot turn into a
danger. A name that has passed is found; one that has not may still come, and a listing needs the
end. A symlink that may lead out of its packed directory is judged by the whole layer, and so is
not known before. A layer in which a harmful member was met is refused at once. Pure.

What the rest of the tar can change: a later member of the same name takes its place, and a
directory's own member tells its mode after its content. So answers of this index are not for ever.

INVARIANT: reads only; another thread may be adding members (`orasfs.tree.indexbuilder`), or have
made the index and let go of them: then the end is near, and all is to wait for it.
"""

from typing import NoReturn

from orasfs.errors import ContentRefused
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import (
    RECORD,
    ROOT,
    Extent,
    Member,
    MemberKind,
    Place,
    RecordFlag,
    extents_of,
    member_of,
    place_of,
)
from orasfs.tree.node import PackedLayer


class NotKnownYet(Exception):
    """The answer depends on what has not passed yet of `layer`; for whoever may wait for it."""

    def __init__(self, layer: PackedLayer) -> None:
        super().__init__(f"not known yet of {layer.descriptor.digest}")
        self.layer = layer


class PartialIndex:
    """The members of a layer so far; implements `orasfs.tree.layers.LayerMembers`.

    Args:
        builder: what has passed.
        layer: as what the layer is shown.
    """

    def __init__(self, builder: IndexBuilder, layer: PackedLayer) -> None:
        self._builder = builder
        self._layer = layer

    def __repr__(self) -> str:
        return f"<PartialIndex {self._builder!r}>"

    def find(self, directory: int, name: str) -> int:
        """Return the ordinal of a name that has passed.

        Raises:
            NotKnownYet: it has not, or may not be shown before the end.
            ContentRefused: the layer will not be shown at all.
        """
        problem = self._builder.first_problem
        if problem is not None and not self._layer.has_whiteouts:
            raise ContentRefused(f"layer {self._layer.root!r}: {problem}")
        try:
            wanted = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            self._wait()
        ordinal = self._builder.names.find(directory, wanted)
        if ordinal is None or not self._may_be_shown(ordinal):
            self._wait()
        return ordinal

    def locate(self, path: str) -> int:
        """Return the ordinal at a path that has passed; raises as `find`."""
        ordinal = ROOT
        for name in path.split("/") if path else ():
            ordinal = self.find(ordinal, name)
        return ordinal

    def kind_of(self, ordinal: int) -> MemberKind:
        """Return the kind of a member."""
        return MemberKind(self._record(ordinal)[8])

    def member(self, ordinal: int) -> Member:
        """Return the member of that number; its links are those so far."""
        record = self._record(ordinal)
        return member_of(ordinal, record, self._target(record))

    def is_implicit(self, ordinal: int) -> bool:
        """Tell whether nothing is known of a directory but its members, so far."""
        return bool(self._record(ordinal)[9] & RecordFlag.IMPLICIT)

    def children(self, _ordinal: int) -> range:
        """Raise `NotKnownYet`: more names may come."""
        self._wait()

    def name_of(self, _entry: int) -> str:
        """Raise `NotKnownYet`: there are no entries yet."""
        self._wait()

    def resolve(self, _entry: int) -> int:
        """Raise `NotKnownYet`: there are no entries yet."""
        self._wait()

    def extents(self, ordinal: int) -> tuple[Extent, ...]:
        """Return where a file's bytes are in the tar; see `LayerIndex.extents`."""
        return extents_of(self._record(ordinal), self._builder.extents)

    def place(self, ordinal: int) -> Place:
        """Return where a file's bytes are on disk; see `LayerIndex.place`."""
        return place_of(self._record(ordinal))

    def _may_be_shown(self, ordinal: int) -> bool:
        """Tell whether nothing that may follow can make this member a harmful one."""
        record = self._record(ordinal)
        if record[8] != MemberKind.SYMLINK or self._layer.has_whiteouts:
            return True
        target = self._target(record)
        return not target.startswith(b"/") and b".." not in target.split(b"/")

    def _target(self, record: tuple[int, ...]) -> bytes:
        if record[8] != MemberKind.SYMLINK:
            return b""
        target = bytes(self._builder.names.heap[record[1] : record[1] + record[2]])
        if not target:
            self._wait()  # the index is complete, and the builder has let go of it
        return target

    def _record(self, ordinal: int) -> tuple[int, ...]:
        records = self._builder.records
        if (ordinal + 1) * RECORD.size > len(records):
            self._wait()  # known from an earlier pass, or see above
        return RECORD.unpack_from(records, ordinal * RECORD.size)

    def _wait(self) -> NoReturn:
        raise NotKnownYet(self._layer)
