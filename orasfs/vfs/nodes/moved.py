"""What an edit has not come to: all below a directory of a draft that nobody has looked into yet.

Owns what the kernel is told of such an inode until the directory that it is in gets its entries;
from then on the inode is the staged one's. Knows no inode numbers.

INVARIANT: a directory that has no entries yet is what the base has, and so is all that is below.
"""

from collections.abc import Sequence

from orasfs.oci.digest import Digest
from orasfs.staging.changes import AttrChanges
from orasfs.vfs.nodes.base import (
    Answer,
    Found,
    Listed,
    Listing,
    Members,
    Node,
    Opened,
    Piece,
    Spot,
    Stat,
)
from orasfs.vfs.nodes.draft import StagedDirectoryNode


class MovedNode(Node):
    """Something of the base, in a draft; when the draft has gone, of the base again.

    Args:
        base: what it is in the base.
        parent: the directory that will have it: a staged one, or one that waits itself.
        name: in that directory.

    Attributes:
        base: the same.
        parent: the same.
        name: the same.
        staged: what it has become.
    """

    __slots__ = ("base", "name", "parent", "staged")

    def __init__(self, base: Node, parent: "StagedDirectoryNode | MovedNode", name: str) -> None:
        super().__init__(base.key, parent.errors)
        self.base = base
        self.parent = parent
        self.name = name
        self.staged: Node | None = None

    @property
    def above(self) -> StagedDirectoryNode:
        """The nearest directory above that is a staged one."""
        parent = self.parent
        while isinstance(parent, MovedNode):
            staged = parent.staged
            parent = staged if isinstance(staged, StagedDirectoryNode) else parent.parent
        return parent

    @property
    def path(self) -> tuple[str, ...]:
        """Where it is below `above`."""
        names = [self.name]
        parent = self.parent
        while isinstance(parent, MovedNode) and parent.staged is None:
            names.append(parent.name)
            parent = parent.parent
        return tuple(names[::-1])

    @property
    def is_current(self) -> bool:
        """Whether the draft has the base still."""
        return self.above.staged.lower is not None

    @property
    def is_local(self) -> bool:
        """As all that is in a draft."""
        return self.is_current

    @property
    def spot(self) -> Spot | None:
        """Where it is in what is committed, if it is no part of a draft any more."""
        return None if self.is_current else self.base.spot

    @property
    def content_digest(self) -> Digest | None:
        """The digest of the blob that its bytes are from."""
        return self.base.content_digest

    @property
    def piece(self) -> Piece | None:
        """What its bytes come from."""
        return self.base.piece

    @property
    def attr_seconds(self) -> float:
        """As long as the base's."""
        return (self.staged or self.base).attr_seconds

    def stat(self) -> Stat:
        """Return what the base says, or what it has become."""
        return (self.staged or self.base).stat()

    def readlink(self) -> str:
        """Return the target."""
        return (self.staged or self.base).readlink()

    async def settle(self) -> Node:
        """Have the directory get its entries, and return what has the name there.

        Raises:
            OrasfsError: the base cannot be had.
        """
        if self.staged is None and self.is_current:
            parent = self.parent
            directory = await parent.settle() if isinstance(parent, MovedNode) else parent
            answer = directory.lookup_now(self.name) or await directory.lookup(self.name)
            self.staged = answer.node if isinstance(answer, Found) else None
        return self.staged or self.base

    def lookup_now(self, name: str) -> Answer | None:
        """Wait for the directory."""
        return None if self.is_current else self.base.lookup_now(name)

    async def lookup(self, name: str) -> Answer:
        """Find a name."""
        node = await self.settle()
        return node.lookup_now(name) or await node.lookup(name)

    def members_now(self) -> Members | None:
        """Return none: they are no members of the base's series any more."""
        return None if self.is_current else self.base.members_now()

    def listing_now(self) -> Listing | None:
        """Wait for the directory."""
        return None if self.is_current else self.base.listing_now()

    async def listing(self) -> Listing:
        """Begin a listing."""
        node = await self.settle()
        return node.listing_now() or await node.listing()

    def relisted(self, listed: Listed) -> Listed | None:
        """Return what a name of a listing stands for now, None if it is gone."""
        return (self.staged or self.base).relisted(listed)

    async def sync_directory(self, *, data_only: bool) -> None:
        """Make the names durable."""
        await (await self.settle()).sync_directory(data_only=data_only)

    def open_now(self) -> Opened | None:
        """Wait for the directory: a reader is to see what will be written."""
        return None if self.is_current else self.base.open_now()

    async def open(self) -> Opened:
        """Open it for reading."""
        node = await self.settle()
        return node.open_now() or await node.open()

    async def open_for_writing(self, flags: int) -> Opened:
        """Open it for writing."""
        return await (await self.settle()).open_for_writing(flags)

    def getxattr_now(self, name: str) -> bytes | None:
        """Wait for the directory."""
        return None if self.is_current else self.base.getxattr_now(name)

    async def getxattr(self, name: str) -> bytes:
        """Return an extended attribute."""
        node = await self.settle()
        value = node.getxattr_now(name)
        return await node.getxattr(name) if value is None else value

    def listxattr_now(self) -> Sequence[str] | None:
        """Wait for the directory."""
        return None if self.is_current else self.base.listxattr_now()

    async def listxattr(self) -> Sequence[str]:
        """Return the names that a copy should carry."""
        node = await self.settle()
        names = node.listxattr_now()
        return await node.listxattr() if names is None else names

    async def change(self, changes: AttrChanges, opened: Opened | None) -> None:
        """Change attributes."""
        await (await self.settle()).change(changes, opened)

    async def set_attribute(self, name: str, value: bytes) -> None:
        """Set an extended attribute."""
        await (await self.settle()).set_attribute(name, value)

    async def remove_attribute(self, name: str) -> None:
        """Remove an extended attribute."""
        await (await self.settle()).remove_attribute(name)
