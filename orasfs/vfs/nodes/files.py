"""Files, symlinks and broken names: the leaves of the mount."""

import stat
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

from orasfs.errors import InvalidContent
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader
from orasfs.tree.layerindex import Member
from orasfs.tree.node import PackedLayer, RawFile
from orasfs.tree.partialindex import NotKnownYet
from orasfs.vfs import xattrs
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key, Serial
from orasfs.vfs.memory import MemoryReader
from orasfs.vfs.nodes.base import Backed, Node, Opened, Piece, Stat
from orasfs.vfs.nodes.serial import SerialNode
from orasfs.vfs.operations import FOREVER_SECONDS

GENERATED_MODE = stat.S_IFREG | 0o444
SYMLINK_MODE = stat.S_IFLNK | 0o777


def layer_xattrs(artifact: Artifact, descriptor: Descriptor) -> Mapping[str, str]:
    """Return the extended attributes of what a blob is shown as."""
    is_verified = artifact.mount.verification.is_verified(descriptor)
    return {
        **xattrs.of_annotations(descriptor.annotations),
        **xattrs.of_content(descriptor, is_verified=is_verified),
        **xattrs.of_place(artifact.reference),
    }


class BlobNode(Node):
    """A blob as a file."""

    __slots__ = ("_artifact", "_file")

    def __init__(self, key: Key, artifact: Artifact, file: RawFile) -> None:
        super().__init__(key, artifact.errors)
        self._artifact = artifact
        self._file = file

    @property
    def content_digest(self) -> Digest | None:
        """The blob's digest."""
        return self._file.descriptor.digest

    @property
    def piece(self) -> Piece:
        """The blob."""
        return Piece(self._artifact.repository, self._file.descriptor)

    def stat(self) -> Stat:
        """Return mode and time of the view and the blob's size."""
        file = self._file
        return Stat(stat.S_IFREG | file.mode, file.descriptor.size, file.mtime_ns)

    async def open(self) -> Opened:
        """Open the blob."""
        descriptor = self._file.descriptor
        reader = await self._artifact.repository.open_blob(descriptor)
        return _opened(reader, descriptor.digest)

    def getxattr_now(self, name: str) -> bytes:
        """Return what the descriptor says."""
        return xattrs.encode(name, layer_xattrs(self._artifact, self._file.descriptor))

    def listxattr_now(self) -> Sequence[str]:
        """Return media type and annotations."""
        return xattrs.copied(self._file.descriptor.annotations)


class MemberNode(SerialNode):
    """A file or a symlink inside a packed layer; hard links to it are the same node."""

    __slots__ = ("_artifact", "_is_final", "_known", "_layer")

    def __init__(
        self, key: Key, artifact: Artifact, layer: PackedLayer, member: Member, serial: Serial
    ) -> None:
        super().__init__(key, artifact.errors, serial)
        self._artifact = artifact
        self._layer = layer
        self._known = member
        self._is_final = serial.series is not None

    @property
    def _member(self) -> Member:
        self._look_again()
        return self._known

    def _look_again(self) -> None:
        """Know all of the member, once the whole layer has passed: it may have got links."""
        layer = None if self._is_final else self._artifact.repository.layer_now(self._layer)
        if layer is not None:
            self._known = layer.index.member(self._known.ordinal)
            self._is_final = True

    @property
    def attr_seconds(self) -> float:
        """For ever once the layer is known."""
        self._look_again()
        return FOREVER_SECONDS if self._is_final else 0.0

    @property
    def content_digest(self) -> Digest | None:
        """The layer's digest: if that is wrong, so are the bytes."""
        return self._layer.descriptor.digest

    def getxattr_now(self, name: str) -> bytes:
        """Return what the layer's descriptor says; annotations are the packed directory's."""
        descriptor = self._layer.descriptor
        opened = self._artifact.repository.layer_now(self._layer)
        is_verified = opened is not None and opened.is_verified
        found = {
            **xattrs.of_content(descriptor, is_verified=is_verified),
            **xattrs.of_place(self._artifact.reference),
        }
        return xattrs.encode(name, found)


class MemberFileNode(MemberNode):
    """A file inside a packed layer."""

    __slots__ = ()

    @property
    def piece(self) -> Piece:
        """The layer."""
        layer = self._layer
        return Piece(self._artifact.repository, layer.descriptor, layer)

    def stat(self) -> Stat:
        """Return what the tar says."""
        member = self._member
        return Stat(stat.S_IFREG | member.mode, member.size, member.mtime_ns, member.link_count)

    def open_now(self) -> Opened | None:
        """Open the member if its layer is at hand."""
        layer = self._artifact.repository.layer_now(self._layer)
        return _opened(layer.open_member(self._member.ordinal)) if layer else None

    async def open(self) -> Opened:
        """Open the member once its layer has passed as far as it; reads wait for its bytes."""
        layer = await self._artifact.repository.begin_layer(self._layer)
        while True:
            try:
                return _opened(layer.open_member(self._member.ordinal))
            except NotKnownYet:
                await layer.wait_for_more()


class SymlinkNode(MemberNode):
    """A symlink inside a packed layer."""

    __slots__ = ()

    def stat(self) -> Stat:
        """Return what the tar says, but for the mode: a symlink has none (symlink(7)).

        A copy cannot have another than 0777, so `rsync` would find each one changed.
        """
        member = self._member
        return Stat(SYMLINK_MODE, member.size, member.mtime_ns, member.link_count)

    def readlink(self) -> str:
        """Return the target as the tar has it."""
        return self._member.target


def _opened(reader: BlobReader, digest: Digest | None = None) -> Opened:
    backed = reader if _is_backed(reader) else None
    return Opened(reader, digest=digest, backed=backed)


def _is_backed(reader: BlobReader) -> TypeGuard[Backed]:
    """Tell what `isinstance` would, which looks at so much that every open would feel it."""
    return hasattr(reader, "backing_fd")


class BrokenNode(Node):
    """A name that exists and cannot be shown: listed, and every use fails with the reason."""

    __slots__ = ("_reason",)

    def __init__(self, key: Key, errors: ErrorLog, reason: str) -> None:
        super().__init__(key, errors)
        self._reason = reason

    @property
    def attr_seconds(self) -> float:
        """Not at all: a use must come here, to fail."""
        return 0.0

    def stat(self) -> Stat:
        """Return a file of nothing, for the listing's sake."""
        return Stat(GENERATED_MODE)

    async def open(self) -> Opened:
        """Fail with the reason."""
        raise InvalidContent(self._reason)


class GeneratedNode(Node):
    """A file whose bytes were made at the lookup and never change."""

    __slots__ = ("_content",)

    def __init__(self, key: Key, errors: ErrorLog, content: bytes) -> None:
        super().__init__(key, errors)
        self._content = content

    def stat(self) -> Stat:
        """Return a read-only file of the content's size."""
        return Stat(GENERATED_MODE, len(self._content))

    def open_now(self) -> Opened:
        """Open the content."""
        return Opened(MemoryReader(self._content))


class LiveNode(Node):
    """A file whose bytes are made anew at each open, past the kernel's cache."""

    __slots__ = ("_content",)

    def __init__(self, key: Key, errors: ErrorLog, content: Callable[[], bytes]) -> None:
        super().__init__(key, errors)
        self._content = content

    @property
    def attr_seconds(self) -> float:
        """Not at all: the size changes."""
        return 0.0

    def stat(self) -> Stat:
        """Return a read-only file of the size that the content has now."""
        return Stat(GENERATED_MODE, len(self._content()))

    def open_now(self) -> Opened:
        """Open what the content is now; a reader sees one version."""
        return Opened(MemoryReader(self._content()), keep_cache=False, direct_io=True)
