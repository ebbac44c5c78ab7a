"""The top directory of an artifact, resolved or not yet, and the names that lead to tags.

Owns the rule of docs/SEMANTICS.md: a tag that moves is a new directory, and the old one goes
on serving its digest. A directory that a listing showed has no digest yet; who looks inside first
resolves it, and from then on it is that digest's.

INVARIANT: a node gets a digest once and keeps it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

import trio

from orasfs.errors import InvalidInput, NotFound, OrasfsError, Unsupported
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest
from orasfs.oci.reference import Target
from orasfs.vfs import xattrs
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import METADATA_NAME
from orasfs.vfs.nodes import tag_orders
from orasfs.vfs.nodes.base import Answer, Found, IteratorListing, Node, Piece, Spot
from orasfs.vfs.nodes.metadata import FAILED_SECONDS, MetadataNode
from orasfs.vfs.nodes.view import Inside, ViewNode
from orasfs.vfs.operations import FOREVER_SECONDS
from orasfs.vfs.repositories import RepositoryState

logger = logging.getLogger(__name__)

EDIT = f"{xattrs.PREFIX}edit"
COMMIT = f"{xattrs.PREFIX}commit"
_SPARE_NAMES = 1024
_NEEDS_MANIFEST = (xattrs.ARTIFACT_TYPE, xattrs.ANNOTATION_PREFIX)


class EditPlace(Protocol):
    """The directory in which a tag has its name."""

    async def edit(self, name: str, descriptor: Descriptor) -> Node:
        """Make a draft of what the name stands for, on top of it, or return the one there is."""
        ...


class ArtifactNode(Node):
    """The top directory of an artifact.

    Its attributes never change, known or not: the epoch and 0755, since another time would cost
    a request a name.

    Args:
        key: of the directory.
        target: what to resolve, unless `artifact` is given.
        state: the repository.
        mount: what the mount's nodes share.
        artifact: what it is, if that is known.

    Attributes:
        origin: where a tag has its name, if it was reached by one.
    """

    __slots__ = ("_artifact", "_mount", "_state", "_target", "origin")

    def __init__(
        self,
        key: Key,
        target: Target,
        state: RepositoryState,
        mount: Mount,
        artifact: Artifact | None = None,
    ) -> None:
        super().__init__(key, artifact.errors if artifact else state.errors)
        self._target = target
        self._state = state
        self._mount = mount
        self._artifact = artifact
        self.origin: tuple[EditPlace, str] | None = None

    def __repr__(self) -> str:
        return f"<ArtifactNode {self._artifact or self._state.place.reference(self._target)}>"

    @property
    def digest(self) -> Digest | None:
        """The manifest's digest, None as long as it is not resolved."""
        return self._artifact.descriptor.digest if self._artifact else None

    @property
    def attr_seconds(self) -> float:
        """For ever, once there is a digest."""
        return FOREVER_SECONDS if self._artifact else self._mount.options.tag_ttl_seconds

    @property
    def spot(self) -> Spot:
        """The top of its own artifact."""
        return Spot(self)

    def bind(self, descriptor: Descriptor) -> bool:
        """Take the digest if there is none yet; tell whether the node has this one now."""
        return self._bound(descriptor).descriptor.digest == descriptor.digest

    def lookup_now(self, name: str) -> Answer | None:
        """Find a name in the view if the manifest is in memory."""
        root = None if name == METADATA_NAME else self._root_now()
        return root.lookup_now(name) if root else None

    async def lookup(self, name: str) -> Answer:
        """Find a name in the artifact, or its metadata directory."""
        artifact = await self._resolved()
        if name == METADATA_NAME:
            metadata = await self._metadata(artifact)
            if metadata is not None:
                return metadata
        return await (await self._root(artifact)).lookup(name)

    async def companion(self) -> Piece | None:
        """Return the config, which no listing has."""
        artifact = await self._resolved()
        parsed = (await artifact.shown()).parsed
        config = parsed.config if isinstance(parsed, Manifest) else None
        return None if config is None else Piece(artifact.repository, config)

    def listing_now(self) -> IteratorListing | None:
        """List the view if all of it is in memory."""
        root = self._root_now()
        return root.listing_now() if root else None

    async def listing(self) -> IteratorListing:
        """List the view."""
        return await (await self._root(await self._resolved())).listing()

    def getxattr_now(self, name: str) -> bytes | None:
        """Return what the descriptor says, and the manifest if it is in memory."""
        if not name.startswith(xattrs.PREFIX):  # a probe is no reason to resolve a tag
            raise xattrs.absent(name)
        artifact = self._artifact
        if artifact is None:
            return None
        found: Mapping[str, str] = {
            **xattrs.of_content(artifact.descriptor, is_verified=True),
            **xattrs.of_place(artifact.reference),
        }
        if name.startswith(_NEEDS_MANIFEST):
            document = self._mount.documents.get(artifact.descriptor.digest)
            if document is None:
                return None
            parsed = document.parsed
            found = dict(xattrs.of_annotations(parsed.annotations))
            if parsed.artifact_type:
                found[xattrs.ARTIFACT_TYPE] = parsed.artifact_type
        return xattrs.encode(name, found)

    async def getxattr(self, name: str) -> bytes:
        """Return what the descriptor or the manifest says, resolving the tag if need be."""
        artifact = await self._resolved()
        if name.startswith(_NEEDS_MANIFEST):
            await artifact.document()
        value = self.getxattr_now(name)
        if value is None:  # fallen out of memory meanwhile: too many at once
            raise xattrs.absent(name)
        return value

    def listxattr_now(self) -> Sequence[str] | None:
        """Return media type and annotations, nothing for a tag that is not resolved."""
        if self._artifact is None:
            return ()
        document = self._mount.documents.get(self._artifact.descriptor.digest)
        return xattrs.copied(document.parsed.annotations) if document else None

    async def listxattr(self) -> Sequence[str]:
        """Return the same, fetching the manifest."""
        artifact = await self._resolved()
        return xattrs.copied((await artifact.document()).parsed.annotations)

    async def set_attribute(self, name: str, value: bytes) -> None:
        """Take an order: another tag, a removal, a commit, for which nothing is to do."""
        if name in tag_orders.ORDERS:
            artifact = await self._resolved()
            await tag_orders.order(
                self._state, self._mount, artifact.descriptor, self._target, name, value
            )
        elif name == EDIT:
            await self._edit(value)
        elif name == COMMIT:
            await trio.lowlevel.checkpoint()
        else:
            await super().set_attribute(name, value)

    async def begin_edit(self) -> Node:
        """Make a draft on top of what it is; return the draft's top directory.

        Raises:
            Unsupported: it has no name that a draft could have, or is nothing that can be edited.
        """
        if self._target.digest is not None:
            raise Unsupported(
                "a digest names one manifest for ever: edit it by its tag, or begin a draft on it "
                f"by mkdir REPOSITORY:NEW; setfattr -n {xattrs.PREFIX}base -v @DIGEST "
                "REPOSITORY:NEW"
            )
        if self.origin is None:
            raise Unsupported(
                "the mount shows one artifact and has no place for a draft: "
                f"mount {self._state.place} to edit it"
            )
        artifact = await self._resolved()
        place, name = self.origin
        return await place.edit(name, artifact.descriptor)

    async def _edit(self, value: bytes) -> None:
        if value != b"1":
            raise InvalidInput(f"{EDIT}: expected 1")
        await self.begin_edit()

    def _bound(self, descriptor: Descriptor) -> Artifact:
        artifact = self._artifact
        if artifact is None:
            artifact = Artifact(self._state, descriptor, self._mount, self._target.tag)
            self._artifact = artifact
            self.errors = artifact.errors
        return artifact

    async def _resolved(self) -> Artifact:
        if self._artifact is not None:
            return self._artifact
        if self._target.digest is not None:
            return self._bound(await self._state.repository.resolve(str(self._target.digest)))
        resolution = await self._state.tags.resolve(self._target.tag or "")
        if resolution is None:
            raise NotFound(f"{self._state.place.reference(self._target)}: no such tag any more")
        return self._bound(resolution.descriptor)

    def _inside(self, artifact: Artifact) -> Inside:
        # The digest is in the keys below, since a forgotten directory may come back as another.
        key = derive(self.key, str(artifact.descriptor.digest))
        return Inside(artifact, key, make_artifact, self)

    async def _root(self, artifact: Artifact) -> ViewNode:
        inside = self._inside(artifact)
        return ViewNode(inside.key, inside, await artifact.root()).placed(Spot(self))

    def _root_now(self) -> ViewNode | None:
        if self._artifact is None:
            return None
        root = self._artifact.root_now()
        inside = self._inside(self._artifact)
        return ViewNode(inside.key, inside, root).placed(Spot(self)) if root else None

    async def _metadata(self, artifact: Artifact) -> Found | None:
        """Return the metadata directory, None if the artifact has a title `.oras`, which wins.

        While the manifest cannot be had, only the metadata directory can say why; what has failed
        before is then not waited for long, and the name is asked again soon.
        """
        key = derive(self._inside(artifact).key, METADATA_NAME, "metadata")
        node = MetadataNode(key, artifact, make_artifact)
        try:
            with trio.move_on_after(FAILED_SECONDS if artifact.errors.text else math.inf):
                root = await artifact.root()
                is_own = root.static is not None and METADATA_NAME in root.static.entries
                return None if is_own else Found(node)
        except OrasfsError as error:
            logger.debug("metadata without a manifest: %s: %s", artifact, error)
        return Found(node, self._mount.options.short_seconds)


def make_artifact(key: Key, artifact: Artifact) -> ArtifactNode:
    """Return the directory of an artifact that is reached by its digest."""
    target = Target(None, artifact.descriptor.digest)
    return ArtifactNode(key, target, artifact.state, artifact.mount, artifact)


class TagNodes:
    """The directories that the names of tags lead to, each tag's current one."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._alive: WeakValueDictionary[Key, ArtifactNode] = WeakValueDictionary()
        self._current: dict[Key, Key] = {}

    def resolved(
        self, name_key: Key, tag: str, state: RepositoryState, descriptor: Descriptor
    ) -> ArtifactNode:
        """Return the directory for a tag that points to `descriptor`; the same as before if so."""
        current = self._alive.get(self._current.get(name_key, name_key))
        if current is not None and current.bind(descriptor):
            return current
        key = derive(name_key, str(descriptor.digest))
        node = self._alive.get(key) or self._make(key, tag, state)
        node.bind(descriptor)
        self._note_current(name_key, key)
        return node

    def listed(self, name_key: Key, tag: str, state: RepositoryState) -> Found:
        """Return the directory for a tag that a listing shows, without asking for its digest.

        A tag that was resolved before keeps its directory, but its name holds no longer than the
        resolution, so that a moved tag is seen in time.
        """
        known = state.tags.known(tag)
        current = self._alive.get(self._current.get(name_key, name_key))
        if current is not None and current.digest is None:
            return Found(current, self._mount.options.tag_ttl_seconds)
        if known is not None:
            node = self.resolved(name_key, tag, state, known.descriptor)
            return Found(node, known.seconds)
        if current is not None:
            return Found(current, 0.0)
        node = self._unresolved(name_key, tag, state)
        return Found(node, self._mount.options.tag_ttl_seconds)

    def _unresolved(self, name_key: Key, tag: str, state: RepositoryState) -> ArtifactNode:
        number = 0
        key = derive(name_key, "listed", str(number))
        while key in self._alive:  # an earlier one, which has become some digest's
            number += 1
            key = derive(name_key, "listed", str(number))
        self._note_current(name_key, key)
        return self._make(key, tag, state)

    def _note_current(self, name_key: Key, key: Key) -> None:
        """Note which directory a name leads to; forget names whose directories are gone."""
        self._current[name_key] = key
        if len(self._current) > 2 * len(self._alive) + _SPARE_NAMES:
            self._current = {
                name: kept
                for name, kept in self._current.items()
                if kept in self._alive or kept == key
            }

    def _make(self, key: Key, tag: str, state: RepositoryState) -> ArtifactNode:
        node = ArtifactNode(key, Target(tag), state, self._mount)
        self._alive[key] = node
        return node
