"""Where the members of a layer are: their paths, which an index does not have. Pure.

An index leads from directories to members. Who needs the way back reads all entries once.
"""

from array import array

from orasfs.tree.layerindex import ROOT, LayerIndex, MemberKind

_NOWHERE = (1 << 32) - 1


class Ancestry:
    """Knows the path of each member, 8 bytes a member.

    Args:
        index: of the layer; making this takes about a microsecond an entry.

    Raises (on construction):
        InvalidContent: the index is damaged.
    """

    __slots__ = ("_entries", "_index", "_parents")

    def __init__(self, index: LayerIndex) -> None:
        self._index = index
        self._entries = array("I", [_NOWHERE]) * len(index)
        self._parents = array("I", bytes(4)) * len(index)
        stack = [ROOT]
        while stack:
            directory = stack.pop()
            for entry in index.children(directory):
                ordinal = index.resolve(entry)
                if self._entries[ordinal] == _NOWHERE or entry < self._entries[ordinal]:
                    self._entries[ordinal], self._parents[ordinal] = entry, directory
                if index.kind_of(ordinal) == MemberKind.DIRECTORY:
                    stack.append(ordinal)

    def path(self, ordinal: int) -> tuple[str, ...]:
        """Return the names from the root to a member; of several hard links, to one of them.

        Empty for the root, and for a member that has no name any more.
        """
        names: list[str] = []
        while ordinal != ROOT and self._entries[ordinal] != _NOWHERE:
            names.append(self._index.name_of(self._entries[ordinal]))
            ordinal = self._parents[ordinal]
        return tuple(reversed(names))
