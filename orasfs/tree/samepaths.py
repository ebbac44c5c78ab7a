"""Which files two layers have at the same paths, and of the same size. Pure."""

from array import array
from collections.abc import Iterator

from orasfs.tree.layerindex import ROOT, LayerIndex, MemberKind, Row

_DIRECTORY, _FILE = int(MemberKind.DIRECTORY), int(MemberKind.FILE)


def same_paths(ours: LayerIndex, theirs: LayerIndex) -> "array[int]":
    """Return for each ordinal of ours that of the file at its path in theirs; 0 for none.

    Files that are empty are left out, and those of theirs of which parts are holes.

    Raises:
        InvalidContent: an index is damaged.
    """
    found = array("I", bytes(array("I").itemsize * len(ours)))
    pending = [(ROOT, ROOT)]
    while pending:
        directories = pending.pop()
        for one, other in _same_names(ours.rows(directories[0]), theirs.rows(directories[1])):
            _, ordinal, kind, _, size, *_ = one
            if kind != other[2]:
                continue
            if kind == _DIRECTORY:
                pending.append((ordinal, other[1]))
            elif kind == _FILE and 0 < size == other[4] and _is_whole(theirs, other[1], size):
                found[ordinal] = other[1]
    return found


def _same_names(ours: Iterator[Row], theirs: Iterator[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield the rows that have the same name; both come in order of names."""
    other = next(theirs, None)
    for one in ours:
        while other is not None and other[0] < one[0]:
            other = next(theirs, None)
        if other is None:
            return
        if other[0] == one[0]:
            yield one, other


def _is_whole(index: LayerIndex, ordinal: int, size: int) -> bool:
    extents = index.extents(ordinal)
    return len(extents) == 1 and extents[0].length == size
