"""Looks names up in a view's directories together with the layers that appear in them. Pure.

A `MergedDirectory` says what is at one place: what the manifest put there (`static`), directories
inside layers (`branches`), and layers whose inside begins here (`pending`: their index may not be
known yet). The functions here take the indexes that `required_layers` asks for, and give back what
has a name, or all names.

What comes first wins, and directories merge: `static` entries, then pending layers, then branches,
in their order, the topmost layer first. In layers with whiteouts (image-spec v1.1 layer.md) a file
`.wh.NAME` deletes NAME of the layers below, `.wh..wh..opq` everything below; both apply to lower
layers only, and are never shown. What eStargz adds to the top of such a layer is not shown either.

The index of a layer may be one of which only a part is known (`orasfs.tree.partialindex`): `find`
and `attributes` then raise `NotKnownYet` where the rest could change the answer.

INVARIANT: `find` and `entries` agree: a property test holds them together.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from orasfs.tree.layerindex import ROOT, Member, MemberKind
from orasfs.tree.layers import LayerMembers
from orasfs.tree.node import Broken, Child, Directory, Node, PackedLayer, RawFile

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
ESTARGZ_EXTRAS = frozenset(
    {"stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"},
)

Indexes = Mapping[PackedLayer, LayerMembers]


@dataclass(frozen=True, slots=True)
class LayerBranch:
    """The directory `ordinal` inside a layer."""

    layer: PackedLayer
    ordinal: int


@dataclass(frozen=True, slots=True)
class MemberOf:
    """A file or a symlink inside a layer."""

    layer: PackedLayer
    member: Member


@dataclass(frozen=True, slots=True)
class MergedDirectory:
    """A directory that a manifest and layers make together.

    Attributes:
        static: what the manifest itself puts here, if anything.
        branches: directories in layers that were entered further up, the topmost first.
        pending: layers whose inside begins here; they go before `branches`.
        mode: permission bits, as far as known when the directory was found; see `attributes`.
        mtime_ns: nanoseconds since the epoch, likewise.
    """

    static: Directory | None
    branches: tuple[LayerBranch, ...]
    pending: tuple[PackedLayer, ...]
    mode: int
    mtime_ns: int


Located = RawFile | Child | Broken | MemberOf | MergedDirectory


def enter(directory: Directory) -> MergedDirectory:
    """Return the root of a view."""
    return MergedDirectory(directory, (), directory.packed, directory.mode, directory.mtime_ns)


def required_layers(directory: MergedDirectory) -> tuple[PackedLayer, ...]:
    """Return the layers, each once, whose indexes `find` and `entries` need."""
    return tuple(
        dict.fromkeys((*directory.pending, *(branch.layer for branch in directory.branches)))
    )


def branch_of_one(directory: MergedDirectory) -> LayerBranch | None:
    """Return the branch of a directory that is one layer's alone, None for others."""
    if directory.static is not None or directory.pending or len(directory.branches) != 1:
        return None
    return directory.branches[0]


def sole_branch(directory: MergedDirectory, indexes: Indexes) -> LayerBranch | None:
    """Return the directory of a layer whose entries are all that `entries` yields, if one is."""
    branches = tuple(_branches(directory, indexes))
    if len(branches) != 1 or (directory.static is not None and directory.static.entries):
        return None
    branch = branches[0]
    if not branch.layer.has_whiteouts:
        return branch
    if branch.ordinal == ROOT:
        return None
    index = indexes[branch.layer]
    names = index.children(branch.ordinal)
    first = bisect_left(names, WHITEOUT, key=index.name_of)
    is_hiding = first < len(names) and index.name_of(names[first]).startswith(WHITEOUT)
    return None if is_hiding else branch


def only_branch(branch: LayerBranch, index: LayerMembers) -> MergedDirectory:
    """Return the directory that only one layer has, as `find` would."""
    mode, mtime_ns = _NO_DIRECTORY.mode, _NO_DIRECTORY.mtime_ns
    if not index.is_implicit(branch.ordinal):
        member = index.member(branch.ordinal)
        mode, mtime_ns = member.mode, member.mtime_ns
    return MergedDirectory(None, (branch,), (), mode, mtime_ns)


def attributes(directory: MergedDirectory, indexes: Indexes) -> tuple[int, int]:
    """Return mode (permission bits) and mtime in nanoseconds, as far as `indexes` tell them.

    The topmost layer that has the directory as a member of its own decides; where none has, what
    the manifest says. Layers missing in `indexes` are passed over.
    """
    known = replace(
        directory,
        pending=tuple(layer for layer in directory.pending if layer in indexes),
        branches=tuple(branch for branch in directory.branches if branch.layer in indexes),
    )
    for branch in _branches(known, indexes):
        index = indexes[branch.layer]
        if not index.is_implicit(branch.ordinal):
            member = index.member(branch.ordinal)
            return member.mode, member.mtime_ns
    return directory.mode, directory.mtime_ns


def find(directory: MergedDirectory, name: str, indexes: Indexes) -> Located | None:
    """Return what has `name`, None if nothing has.

    Needs the index of every layer in `required_layers`, but for a name of the manifest's own that
    is no directory.

    Raises:
        KeyError: one of them is missing, which is the caller's mistake.
    """
    slot = _Slot((directory.static or _NO_DIRECTORY).entries.get(name))
    if slot.is_closed():
        return slot.located(indexes)
    for branch in _branches(directory, indexes):
        index = indexes[branch.layer]
        if not _is_hidden(branch, name):
            ordinal = index.find(branch.ordinal, name)
            if ordinal is not None:
                slot.add(branch.layer, index, ordinal)
        if slot.is_closed() or _deletes(index, branch, name):
            break
    return slot.located(indexes)


def entries(directory: MergedDirectory, indexes: Indexes) -> Iterator[tuple[str, Located]]:
    """Yield all names and what has them, in byte order of the names.

    Needs the index of every layer in `required_layers`.
    """
    static = directory.static or _NO_DIRECTORY
    branches = tuple(_branches(directory, indexes))
    if not static.entries and len(branches) == 1:
        yield from _entries_of_one(branches[0], indexes)
        return
    slots = {name: _Slot(node) for name, node in static.entries.items()}
    for branch in branches:
        deleted = _add_branch(slots, branch, indexes[branch.layer])
        if OPAQUE in deleted:
            break
        for name in deleted:
            slots.setdefault(name.removeprefix(WHITEOUT), _Slot()).close()
    for name in sorted(slots, key=lambda text: text.encode("utf-8", "surrogateescape")):
        located = slots[name].located(indexes)
        if located is not None:
            yield name, located


def _entries_of_one(branch: LayerBranch, indexes: Indexes) -> Iterator[tuple[str, Located]]:
    """Yield the entries of a directory that is in one layer only: most are, and some are large."""
    layer, index = branch.layer, indexes[branch.layer]
    for entry in index.children(branch.ordinal):
        name = index.name_of(entry)
        if layer.has_whiteouts and _is_hidden(branch, name):
            continue
        member = index.member(index.resolve(entry))
        if member.kind != MemberKind.DIRECTORY:
            yield name, MemberOf(layer, member)
            continue
        slot = _Slot()
        slot.add(layer, index, member.ordinal)
        located = slot.located(indexes)
        if located is not None:
            yield name, located


def _add_branch(slots: dict[str, "_Slot"], branch: LayerBranch, index: LayerMembers) -> list[str]:
    """Add what a layer has to the slots; return the names of its whiteouts."""
    deleted: list[str] = []
    for entry in index.children(branch.ordinal):
        name = index.name_of(entry)
        if _is_hidden(branch, name):
            if name.startswith(WHITEOUT):
                deleted.append(name)
            continue
        slot = slots.get(name)
        if slot is None:
            slot = slots[name] = _Slot()
        if not slot.is_closed():
            slot.add(branch.layer, index, index.resolve(entry))
    return deleted


class _Slot:
    """What a name has gathered so far, from the top down: one thing, or directories."""

    __slots__ = ("_branches", "_closed", "_found", "_static")

    def __init__(self, node: Node | None = None) -> None:
        self._branches: list[LayerBranch] = []
        self._static: Directory | None = None
        self._found: RawFile | Child | Broken | MemberOf | None = None
        if isinstance(node, Directory):
            self._static = node
        else:
            self._found = node
        self._closed = self._found is not None

    def is_closed(self) -> bool:
        """Tell whether nothing further down shows."""
        return self._closed

    def close(self) -> None:
        """Hide what is further down."""
        self._closed = True

    def add(self, layer: PackedLayer, index: LayerMembers, ordinal: int) -> None:
        """Add what a layer has; anything but a directory closes, shown or not."""
        if index.kind_of(ordinal) == MemberKind.DIRECTORY:
            self._branches.append(LayerBranch(layer, ordinal))
            return
        self._closed = True
        if self._static is None and not self._branches:
            self._found = MemberOf(layer, index.member(ordinal))

    def located(self, indexes: Indexes) -> Located | None:
        """Return the outcome, None if the name is not there."""
        static = self._static
        if static is None:
            if not self._branches:
                return self._found
            static = _NO_DIRECTORY
        merged = MergedDirectory(
            self._static, tuple(self._branches), static.packed, static.mode, static.mtime_ns
        )
        mode, mtime_ns = attributes(merged, indexes)
        return replace(merged, mode=mode, mtime_ns=mtime_ns)


_NO_DIRECTORY = Directory()


def _branches(directory: MergedDirectory, indexes: Indexes) -> Iterator[LayerBranch]:
    """Yield all branches, those of pending layers first."""
    for layer in directory.pending:
        index = indexes[layer]
        ordinal = index.locate(layer.root)
        if ordinal is not None and index.kind_of(ordinal) == MemberKind.DIRECTORY:
            yield LayerBranch(layer, ordinal)
    yield from directory.branches


def _is_hidden(branch: LayerBranch, name: str) -> bool:
    """Tell whether `name` in this layer is there for the format's sake only."""
    if not branch.layer.has_whiteouts:
        return False
    return name.startswith(WHITEOUT) or (branch.ordinal == ROOT and name in ESTARGZ_EXTRAS)


def _deletes(index: LayerMembers, branch: LayerBranch, name: str) -> bool:
    """Tell whether this layer deletes `name` of the layers below it."""
    if not branch.layer.has_whiteouts:
        return False
    return (
        index.find(branch.ordinal, WHITEOUT + name) is not None
        or index.find(branch.ordinal, OPAQUE) is not None
    )
