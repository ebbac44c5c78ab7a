"""Directories inside an artifact, and what the entries of a view become.

Owns the step from what `orasfs.tree.merge` locates to nodes. Everything here is below a digest
and never changes, but for the attributes of a packed directory whose layer is not known yet.
"""

import logging
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trio

from orasfs.errors import InvalidContent, OrasfsError
from orasfs.tree import merge
from orasfs.tree.layerindex import MemberKind
from orasfs.tree.node import Broken, Child, Directory, RawFile
from orasfs.vfs import xattrs
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.inodes import Key, derive
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
    BlobNode,
    BrokenNode,
    MemberFileNode,
    SymlinkNode,
    layer_xattrs,
)
from orasfs.vfs.operations import FOREVER_SECONDS

logger = logging.getLogger(__name__)

EAGER_WAIT_SECONDS = 10.0  # what a stat of a packed directory waits for its layer

MakeArtifact = Callable[[Key, Artifact], Node]


@dataclass(frozen=True, slots=True)
class Inside:
    """What the nodes inside one artifact's directory share.

    Attributes:
        artifact: the artifact.
        key: from which the keys inside are derived; names path and digest.
        make_artifact: makes the directory of a child of an index.
    """

    artifact: Artifact
    key: Key
    make_artifact: MakeArtifact = field(repr=False)


class ViewNode(Node):
    """A directory of a view, or inside packed layers, or both."""

    __slots__ = ("_directory", "_inside")

    def __init__(self, key: Key, inside: Inside, directory: merge.MergedDirectory) -> None:
        super().__init__(key, inside.artifact.errors)
        self._inside = inside
        self._directory = directory

    @property
    def has_layers(self) -> bool:
        """Whether what is in it is in packed layers, as far as the manifest tells."""
        return bool(merge.required_layers(self._directory))

    @property
    def attr_seconds(self) -> float:
        """For ever once the layers that make the directory are known."""
        layers = merge.required_layers(self._directory)
        is_known = self._inside.artifact.indexes_now(layers) is not None
        return FOREVER_SECONDS if is_known else 0.0

    @property
    def keeps_names(self) -> bool:
        """Below a digest, what is known of it stays."""
        return self.attr_seconds == FOREVER_SECONDS

    def stat(self) -> Stat:
        """Return what the topmost layer says, or its head, or the manifest if none is known."""
        directory, artifact = self._directory, self._inside.artifact
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
            layers = merge.required_layers(self._directory)
            indexes = self._inside.artifact.indexes_now(layers)
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

    def listing_now(self) -> IteratorListing | None:
        """List the directory if all its layers are known."""
        layers = merge.required_layers(self._directory)
        indexes = self._inside.artifact.indexes_now(layers)
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
        node = self._node(name, located, is_final=is_final)
        return Found(node.placed(self._below(name)))

    def _entries(self, indexes: merge.Indexes) -> Iterator[Listed]:
        for name, located in merge.entries(self._directory, indexes):
            node = self._node(name, located).placed(self._below(name))
            # Zero timeouts make the first use a lookup, which fails or fetches.
            seconds = FOREVER_SECONDS if node.attr_seconds else 0.0
            yield Listed(name, Found(node, seconds))

    def _node(self, name: str, located: merge.Located, *, is_final: bool = True) -> Node:
        inside = self._inside
        artifact = inside.artifact
        key = derive(self.key, name)
        match located:
            case RawFile():
                return BlobNode(key, artifact, located)
            case Broken():
                return BrokenNode(key, artifact.errors, located.reason)
            case Child():
                return inside.make_artifact(key, artifact.related(located.descriptor))
            case merge.MergedDirectory():
                return ViewNode(key, inside, located)
            case merge.MemberOf():
                layer, member = located.layer, located.member
                digest = str(layer.descriptor.digest)
                # By ordinal, not by name: hard links are one inode.
                key = derive(inside.key, "member", digest, layer.root, str(member.ordinal))
                kind = SymlinkNode if member.kind == MemberKind.SYMLINK else MemberFileNode
                return kind(key, artifact, layer, member, is_final=is_final)

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
