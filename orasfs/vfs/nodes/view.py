"""Directories inside an artifact, and what the entries of a view become.

Owns the step from what `orasfs.tree.merge` locates to nodes. Everything here is below a digest
and never changes, but for the attributes of a packed directory whose layer is not known yet.
"""

import logging
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import trio

from orasfs.errors import InvalidContent, OrasfsError
from orasfs.tree import merge
from orasfs.tree.ancestry import Ancestry
from orasfs.tree.layerindex import LayerIndex, Member, MemberKind
from orasfs.tree.node import Broken, Child, Directory, PackedLayer, RawFile
from orasfs.vfs import xattrs
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.keys import Key, Serial, derive
from orasfs.vfs.nodes.base import (
    Answer,
    Found,
    IteratorListing,
    Listed,
    Missing,
    Node,
    Spot,
    Stat,
)
from orasfs.vfs.nodes.files import (
    SYMLINK_MODE,
    BlobNode,
    BrokenNode,
    MemberFileNode,
    SymlinkNode,
    layer_xattrs,
)
from orasfs.vfs.nodes.serial import SerialNode
from orasfs.vfs.operations import FOREVER_SECONDS, Ino, MemberRow

logger = logging.getLogger(__name__)

STRIDE = 8  # members from one file to the next one, between which there are only directories
EAGER_WAIT_SECONDS = 10.0  # what a stat of a packed directory waits for its layer

MakeArtifact = Callable[[Key, Artifact], Node]


@dataclass(frozen=True, slots=True)
class Inside:
    """What the nodes inside one artifact's directory share.

    Attributes:
        artifact: the artifact.
        key: from which the keys inside are derived; names path and digest.
        make_artifact: makes the directory of a child of an index.
        top: the artifact's directory.
    """

    artifact: Artifact
    key: Key
    make_artifact: MakeArtifact = field(repr=False)
    top: Node

    def serial(self, layer: PackedLayer, ordinal: int) -> Serial:
        """Return the number of a member of a layer; its series too, if all of that is known."""
        key = derive(self.key, "member", str(layer.descriptor.digest), layer.root)
        opened = self.artifact.repository.layer_now(layer)
        series = LayerSeries(key, self, layer, opened.index) if opened else None
        return Serial(key, ordinal, series)


class LayerSeries:
    """All that is in one layer of an artifact, as nodes that are made when they are wanted.

    Args:
        key: what tells it from all others in the mount.
        inside: the artifact.
        layer: of which the members are.
        index: of the layer; stays good when the layer is put away.
    """

    __slots__ = ("_ancestry", "_given", "_inside", "_last", "index", "key", "layer")

    def __init__(self, key: Key, inside: Inside, layer: PackedLayer, index: LayerIndex) -> None:
        self.key = key
        self.index = index
        self.layer = layer
        self._inside = inside
        self._ancestry: Ancestry | None = None
        self._given = bytearray()
        self._last = -STRIDE

    def __repr__(self) -> str:
        return f"<LayerSeries {self._inside.artifact} {self.layer.root!r}>"

    def __len__(self) -> int:
        """Return how many members there are, named or not."""
        return len(self.index)

    @property
    def top(self) -> Node:
        """The artifact's directory."""
        return self._inside.top

    def node(self, ordinal: int) -> Node:
        """Make the node of a member; a directory must be one that only this layer has."""
        member = self.index.member(ordinal)
        serial = Serial(self.key, ordinal, self)
        if member.kind != MemberKind.DIRECTORY:
            return member_node(self._inside.artifact, self.layer, member, serial)
        branch = merge.LayerBranch(self.layer, ordinal)
        directory = merge.only_branch(branch, self.index)
        return ViewNode(key_of(serial), self._inside, directory, serial)

    def give(self, ordinal: int) -> bool:
        """Note that the bytes of a member are given to the kernel; False if they were before."""
        if not self._given:
            self._given = bytearray(len(self))
        if self._given[ordinal]:
            return False
        self._given[ordinal] = True
        return True

    def follower(self, ordinal: int) -> int | None:
        """Note that a file is opened; return the next one if files are opened in the tar's order.

        `cp -r` does so: it copies the files of a directory by their inode numbers, as `tar` and
        `find` do those of large ones.
        """
        last, self._last = self._last, ordinal
        if not last < ordinal <= last + STRIDE:
            return None
        following = range(ordinal + 1, min(ordinal + 1 + STRIDE, len(self)))
        return next((n for n in following if self.index.kind_of(n) is MemberKind.FILE), None)

    def spot(self, ordinal: int) -> Spot:
        """Return where a member is; of several hard links, one of them."""
        if self._ancestry is None:
            self._ancestry = Ancestry(self.index)
        return Spot(self.top, self._ancestry.path(ordinal))


@dataclass(frozen=True, slots=True)
class LayerDirectory:
    """Implements `Members` by the directory `ordinal` of a layer."""

    series: LayerSeries
    ordinal: int

    def rows(self, base: int, start: int) -> Iterator[MemberRow]:
        """Yield what is in it; attributes are those that the nodes would have."""
        index_rows = self.series.index.rows(self.ordinal, start)
        for name, ordinal, kind, mode, size, mtime_ns, links in index_rows:
            ino = Ino(base + ordinal)
            if kind == MemberKind.FILE:
                yield name, ino, stat.S_IFREG | mode, size, mtime_ns, links
            elif kind == MemberKind.DIRECTORY:
                yield name, ino, stat.S_IFDIR | mode, 0, mtime_ns, 1
            else:
                yield name, ino, SYMLINK_MODE, size, mtime_ns, links


def key_of(serial: Serial) -> Key:
    """Return the key of a member; by number, not by name: hard links are one inode."""
    return derive(serial.key, str(serial.ordinal))


def member_node(artifact: Artifact, layer: PackedLayer, member: Member, serial: Serial) -> Node:
    """Return the node of a file or a symlink in a layer."""
    kind = SymlinkNode if member.kind == MemberKind.SYMLINK else MemberFileNode
    return kind(key_of(serial), artifact, layer, member, serial)


class ViewNode(SerialNode):
    """A directory of a view, or inside packed layers, or both."""

    __slots__ = ("_directory", "_inside", "_series")

    def __init__(
        self,
        key: Key,
        inside: Inside,
        directory: merge.MergedDirectory,
        serial: Serial | None = None,
    ) -> None:
        super().__init__(key, inside.artifact.errors, serial)
        self._inside = inside
        self._directory = directory
        series = serial.series if serial else None
        self._series = series if isinstance(series, LayerSeries) else None

    @property
    def has_layers(self) -> bool:
        """Whether what is in it is in packed layers, as far as the manifest tells."""
        return bool(merge.required_layers(self._directory))

    @property
    def attr_seconds(self) -> float:
        """For ever once the layers that make the directory are known."""
        return FOREVER_SECONDS if self._indexes_now() is not None else 0.0

    @property
    def keeps_names(self) -> bool:
        """Below a digest, what is known of it stays."""
        return self.attr_seconds == FOREVER_SECONDS

    def stat(self) -> Stat:
        """Return what the topmost layer says, or its head, or the manifest if none is known."""
        directory, artifact = self._directory, self._inside.artifact
        if self._series is not None:  # what is known of it is known already
            return Stat(stat.S_IFDIR | directory.mode, 0, directory.mtime_ns)
        indexes = artifact.known_indexes(merge.required_layers(directory))
        top = artifact.peeked.get(directory.pending[0]) if directory.pending else None
        if top is not None and directory.pending[0] not in indexes:
            return Stat(stat.S_IFDIR | top.mode, 0, top.mtime_ns)
        mode, mtime_ns = merge.attributes(directory, indexes)
        return Stat(stat.S_IFDIR | mode, 0, mtime_ns)

    def lookup_now(self, name: str) -> Answer | None:
        """Find a name if all layers that may have it are known, and what it needs for its stat."""
        indexes: merge.Indexes | None = {}
        if not self._is_static_leaf(name):
            indexes = self._indexes_now()
        if indexes is None:
            return None
        answer = self._answer(name, merge.find(self._directory, name, indexes))
        is_open = isinstance(answer, Found) and answer.node.attr_seconds == 0
        return None if is_open else answer

    async def lookup(self, name: str) -> Answer:
        """Find a name, fetching the layers that may have it.

        Raises:
            InvalidContent: the name is broken, or a layer is.
        """
        if self._is_static_leaf(name):
            return self._answer(name, merge.find(self._directory, name, {}))
        located, is_final = await self._inside.artifact.locate(self._directory, name)
        if isinstance(located, merge.MergedDirectory):
            await self._know_attributes(located)
        answer = self._answer(name, located, is_final=is_final)
        if is_final:
            return answer
        # A later member may take the place of this one, and nothing is verified yet.
        return Found(answer.node, 0.0) if isinstance(answer, Found) else Missing(0.0)

    def members_now(self) -> LayerDirectory | None:
        """Return the directory of the layer, if all that is listed is in it."""
        indexes = self._indexes_now()
        branch = None if indexes is None else merge.sole_branch(self._directory, indexes)
        if branch is None:
            return None
        series = self._series or self._inside.serial(branch.layer, branch.ordinal).series
        return LayerDirectory(series, branch.ordinal) if isinstance(series, LayerSeries) else None

    def listing_now(self) -> IteratorListing | None:
        """List the directory if all its layers are known."""
        indexes = self._indexes_now()
        return None if indexes is None else IteratorListing(self._entries(indexes))

    async def listing(self) -> IteratorListing:
        """List the directory, fetching its layers.

        Raises:
            InvalidContent: a layer is damaged or refused.
        """
        layers = merge.required_layers(self._directory)
        return IteratorListing(self._entries(await self._inside.artifact.indexes(layers)))

    def getxattr_now(self, name: str) -> bytes:
        """Return what the descriptor of the packed directory says, if this is the top of one."""
        artifact = self._inside.artifact
        static = self._directory.static
        if static is not None and static.layer is not None:
            return xattrs.encode(name, layer_xattrs(artifact, static.layer))
        return xattrs.encode(name, xattrs.of_place(artifact.reference))

    def _answer(
        self, name: str, located: merge.Located | None, *, is_final: bool = True
    ) -> Answer:
        if located is None:
            return Missing()
        if isinstance(located, Broken):
            raise InvalidContent(f"{name}: {located.reason}")
        return Found(self._placed(name, located, is_final=is_final))

    def _entries(self, indexes: merge.Indexes) -> Iterator[Listed]:
        for name, located in merge.entries(self._directory, indexes):
            node = self._placed(name, located)
            # Zero timeouts make the first use a lookup, which fails or fetches.
            seconds = FOREVER_SECONDS if node.attr_seconds else 0.0
            yield Listed(name, Found(node, seconds))

    def _placed(self, name: str, located: merge.Located, *, is_final: bool = True) -> Node:
        node = self._node(name, located, is_final=is_final)
        if node.serial is not None and node.serial.series is not None:
            return node  # which would make the series look for where this directory is
        return node.placed(self._below(name))

    def _node(self, name: str, located: merge.Located, *, is_final: bool = True) -> Node:
        inside = self._inside
        artifact = inside.artifact
        match located:
            case RawFile():
                return BlobNode(derive(self.key, name), artifact, located)
            case Broken():
                return BrokenNode(derive(self.key, name), artifact.errors, located.reason)
            case Child():
                related = artifact.related(located.descriptor)
                return inside.make_artifact(derive(self.key, name), related)
            case merge.MergedDirectory():
                branch = merge.branch_of_one(located)
                if branch is None:
                    return ViewNode(derive(self.key, name), inside, located)
                serial = self._serial_of(branch.layer, branch.ordinal, is_final=is_final)
                return ViewNode(key_of(serial), inside, located, serial)
            case merge.MemberOf():
                serial = self._serial_of(located.layer, located.member.ordinal, is_final=is_final)
                return member_node(artifact, located.layer, located.member, serial)

    def _serial_of(self, layer: PackedLayer, ordinal: int, *, is_final: bool) -> Serial:
        if self._series is not None and self._series.layer is layer:
            return Serial(self._series.key, ordinal, self._series)
        serial = self._inside.serial(layer, ordinal)
        return serial if is_final else replace(serial, series=None)

    def _indexes_now(self) -> merge.Indexes | None:
        """Return the indexes of all layers that make the directory, if they are at hand."""
        if self._series is not None:
            return {self._series.layer: self._series.index}
        layers = merge.required_layers(self._directory)
        return self._inside.artifact.indexes_now(layers)

    def _below(self, name: str) -> Spot | None:
        return self.spot.below(name) if self.spot is not None else None

    def _is_static_leaf(self, name: str) -> bool:
        """Tell whether the manifest alone decides what has this name."""
        static = self._directory.static
        node = static.entries.get(name) if static else None
        return node is not None and not isinstance(node, Directory)

    async def _know_attributes(self, directory: merge.MergedDirectory) -> None:
        """Get to know mode and time of a directory at which layers begin.

        Small layers are fetched for it, and the head of a large one. A failure is remembered, and
        is the answer only to who looks inside.
        """
        artifact = self._inside.artifact
        limit = artifact.mount.options.eager_layer_bytes
        is_small = all(layer.descriptor.size <= limit for layer in directory.pending)
        wait_seconds = min(EAGER_WAIT_SECONDS, artifact.mount.options.wait_seconds / 2)
        try:
            with trio.move_on_after(wait_seconds):
                if is_small or artifact.indexes_now(directory.pending) is not None:
                    await artifact.indexes(directory.pending)
                else:
                    await artifact.peek(directory.pending[0])
        except OrasfsError as error:
            logger.debug("no attributes from a layer: %s error=%s", artifact.reference, error)
            artifact.errors.record("lookup", error)
