"""What one mount knows of the kernel: inodes and open handles; and how an answer is made of them.

Owns the step from a node to an answer with an inode number, and the remembering of errors. Shared
by the two halves of the filesystem, the one that reads and the one that changes.

INVARIANT: between giving an inode number to an answer and returning the answer nothing waits, so
that a number is never given back before the kernel has it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from orasfs.errors import (
    IsADirectory,
    LocalFailure,
    NoAttribute,
    NotADirectory,
    OrasfsError,
    ReadOnly,
    Unsupported,
)
from orasfs.vfs.handles import HandleTable, Snapshot
from orasfs.vfs.inodes import InodeTable
from orasfs.vfs.nodes.base import Answer, Found, Listed, Listing, Node, Opened
from orasfs.vfs.operations import Attr, Entry, Ino, OpenFile
from orasfs.vfs.waiting import Patience

T = TypeVar("T")

_NOT_REMEMBERED = (
    NoAttribute,
    Unsupported,
    ReadOnly,
    NotADirectory,
    IsADirectory,
    LocalFailure,
)


class Remembering:
    """Records what fails in a block, which goes on failing; a generator would take thrice as long.

    Args:
        node: of the artifact.
        operation: what was asked for.
    """

    __slots__ = ("_node", "_operation")

    def __init__(self, node: Node, operation: str) -> None:
        self._node = node
        self._operation = operation

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record the failure, if there is one that tells anything of the artifact."""
        if isinstance(error, OrasfsError) and not isinstance(error, _NOT_REMEMBERED):
            self._node.errors.record(self._operation, error)


@dataclass(slots=True)
class FileHandle:
    """An open file."""

    node: Node
    opened: Opened


@dataclass(slots=True)
class DirectoryHandle:
    """An open directory; `offered` are the inodes of the last batch, which must stay."""

    node: Node
    listing: Listing
    snapshot: Snapshot[Listed] = field(default_factory=Snapshot)
    offered: list[Ino] = field(default_factory=list)

    def grow_now(self) -> bool:
        """Take the next names if that needs no waiting; tell whether it did."""
        names = self.listing.more_now()
        if names is not None:
            self.snapshot.grow(names)
        return names is not None

    async def grow(self) -> None:
        """Take the next names."""
        self.snapshot.grow(await self.listing.more())


class Tables:
    """Inodes, handles, and patience with the network.

    Args:
        root: the node of the mount's root.
        patience: how long the kernel may wait.
    """

    def __init__(self, root: Node, patience: Patience) -> None:
        self.inodes: InodeTable[Node] = InodeTable(root)
        self.files: HandleTable[FileHandle] = HandleTable()
        self.directories: HandleTable[DirectoryHandle] = HandleTable()
        self.patience = patience

    def entry(self, answer: Answer) -> Entry:
        """Return the answer to a lookup, and count it."""
        if not isinstance(answer, Found):
            return Entry(None, answer.seconds, 0.0)
        ino = self.inodes.take(answer.node)
        node = self.inodes.present(ino, answer.node)
        return Entry(self.attr(ino, node), answer.name_seconds, node.attr_seconds)

    def open_file(self, node: Node, opened: Opened) -> OpenFile:
        """Return the answer to an open."""
        fh = self.files.add(FileHandle(node, opened))
        return OpenFile(fh, opened.keep_cache, opened.direct_io)

    async def wait(self, node: Node, work: Callable[[], Awaitable[T]]) -> T:
        """Do what changes something: here if it is local, else as long as patience lasts.

        Raises:
            TimedOut: it takes longer; it goes on.
        """
        if node.is_local:
            return await work()
        return await self.patience.owned(work, lambda _: None)

    @staticmethod
    def attr(ino: Ino, node: Node) -> Attr:
        """Return the attributes of a node that has an inode number."""
        stat = node.stat()
        times = stat.mtime_ns, stat.link_count, stat.atime_ns, stat.ctime_ns
        return Attr(ino, stat.mode, stat.size, *times)

    @staticmethod
    def remembering(node: Node, operation: str) -> "Remembering":
        """Keep what fails for `.oras/error` of the artifact and its repository."""
        return Remembering(node, operation)
