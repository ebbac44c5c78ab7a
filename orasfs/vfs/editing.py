"""Lets the inodes of what is committed be those of a draft on top of it: edits, ordered or not.

Owns the step from each inode that the kernel holds of an artifact to what has its path in the
draft, so that whoever is in there stays in there; the opposite of `orasfs.vfs.becoming`. With `-o
edit` a write is an order to edit. What is open is replaced at once; all that is below a directory
of the draft that has no entries yet waits (`MovedNode`) until somebody looks into that.

INVARIANT: an inode is replaced before anything is written, and shows the same before and after.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from weakref import ref

from orasfs.errors import AlreadyExists, OrasfsError, ReadOnly, Unsupported
from orasfs.staging.identity import Identity
from orasfs.vfs import xattrs
from orasfs.vfs.becoming import Path, walk
from orasfs.vfs.inodes import InodeTable
from orasfs.vfs.keys import Key
from orasfs.vfs.nodes.base import Found, Node, Opened
from orasfs.vfs.nodes.draft import StagedDirectoryNode
from orasfs.vfs.nodes.files import BlobNode, MemberFileNode, SymlinkNode
from orasfs.vfs.nodes.moved import MovedNode
from orasfs.vfs.nodes.view import LayerSeries, ViewNode
from orasfs.vfs.operations import Ino
from orasfs.vfs.tables import Tables
from orasfs.vfs.verification import Verification

# Attributes by which something is ordered, rather than said of what is committed.
ORDERS = frozenset(
    xattrs.PREFIX + name for name in ("edit", "commit", "discard", "base", "tag", "remove")
)


Known = tuple[Ino, Node, Path]  # an inode of an artifact, and where it is
_LEAVES = BlobNode | MemberFileNode | SymlinkNode


class Waiting:
    """The inodes of one draft that are in directories without entries, or below such.

    Args:
        inodes: of the mount.

    Attributes:
        places: the directories to which an edit has come, and those that wait, by their paths.
    """

    def __init__(self, inodes: InodeTable[Node]) -> None:
        self._inodes = inodes
        # By the directory; a waiting one by its key. What the kernel has forgotten is not kept.
        self._below: dict[Identity | Key, list[tuple[Ino, ref[MovedNode]]]] = {}
        self.places: dict[Path, StagedDirectoryNode | MovedNode] = {}

    def add(self, ino: Ino, node: Node, path: Path) -> bool:
        """Let an inode wait that the kernel knows; False if it cannot."""
        base = node.base if isinstance(node, MovedNode) else node
        parent = self.places.get(path[:-1])
        if isinstance(parent, MovedNode) and isinstance(parent.staged, StagedDirectoryNode):
            parent = parent.staged
        if parent is None or not isinstance(base, _LEAVES | ViewNode):
            return False
        has_names = isinstance(parent, StagedDirectoryNode) and parent.attr_seconds > 0
        if has_names or base.stat().link_count > 1:
            return False
        moved = MovedNode(base, parent, path[-1])
        if isinstance(base, ViewNode):
            self.places[path] = moved
        self._inodes.replace(ino, moved)
        key = parent.key if isinstance(parent, MovedNode) else parent.identity
        self._below.setdefault(key, []).append((ino, ref(moved)))
        return True

    def filled(self, directory: Identity) -> None:
        """Let those in a directory be what it has now; those below wait for the next one."""
        for ino, held in self._below.pop(directory, ()):
            moved = held()
            answer = None if moved is None else moved.above.find(moved.name)
            if moved is None or not isinstance(answer, Found):
                continue
            moved.staged = new = answer.node
            if self._inodes.lookups(ino) and self._inodes.node(ino) is moved:
                self._inodes.replace(ino, new)
            below = self._below.pop(moved.key, None)
            if below is not None and isinstance(new, StagedDirectoryNode):
                self._below[new.identity] = below


class Editing:
    """Begins edits.

    Args:
        tables: inodes and handles of the mount.
        verification: follows the open readers of blobs.
        by_itself: whether a write begins an edit.

    Attributes:
        by_itself: the same.
        invalidate: lets the kernel ask again for a name in a directory.
    """

    def __init__(self, tables: Tables, verification: Verification, *, by_itself: bool) -> None:
        self._tables = tables
        self._verification = verification
        self.by_itself = by_itself
        self.invalidate: Callable[[Ino, str], None] = lambda _ino, _name: None

    async def writable(self, ino: Ino) -> Node:
        """Return the node of an inode that is about to be changed.

        Raises:
            ReadOnly: it is committed and cannot be edited; the artifact's `.oras/error` says why.
            OrasfsError: the artifact cannot be had.
        """
        node = await self.settled(ino)
        if not self.by_itself or node.spot is None:
            return node
        try:
            await self.begin(node.spot.top, "write")
        except (Unsupported, AlreadyExists) as error:
            raise ReadOnly(str(error)) from error
        return await self.settled(ino)

    async def settled(self, ino: Ino) -> Node:
        """Return the node of an inode, in a draft the staged one.

        Raises:
            OrasfsError: the base cannot be had.
        """
        node = self._tables.inodes.node(ino)
        return await node.settle() if isinstance(node, MovedNode) else node

    async def begin(self, top: Node, operation: str) -> None:
        """Make a draft on top of an artifact, and the inodes of the one those of the other.

        Args:
            top: the artifact's directory.
            operation: what was asked for, as `.oras/error` is to call it.

        Raises:
            Unsupported: it cannot be edited.
            AlreadyExists: it is another one that is a draft under this name.
            TimedOut: it takes longer; it goes on.
            OrasfsError: the artifact cannot be had.
        """
        try:
            await self._tables.patience.shared(("edit", top.key), partial(self._begin, top))
        except OrasfsError as error:
            top.errors.record(operation, error)
            raise

    async def _begin(self, top: Node) -> None:
        draft = await top.begin_edit()
        known = sorted(self._known_of(top), key=lambda each: len(each[2]))
        numbers = {path: ino for ino, _, path in known}
        found: dict[Path, Node | None] = {(): draft}
        replaced: dict[Key, Node] = {}
        waiting = Waiting(self._tables.inodes)
        if isinstance(draft, StagedDirectoryNode) and draft.staged.lower is not None:
            draft.staged.lower.on_filled = waiting.filled
        opened = self._opened()
        for ino, node, path in known:
            if not self._tables.inodes.lookups(ino):
                continue
            if path and node.key not in opened and waiting.add(ino, node, path):
                continue
            new = await walk(found, path)
            opened = self._opened()
            if new is None or not self._tables.inodes.lookups(ino):
                continue
            if isinstance(new, StagedDirectoryNode):
                waiting.places[path] = new
            if self._is_with_the_kernel(node):
                self.invalidate(numbers.get(path[:-1], ino), path[-1])
                continue
            self._tables.inodes.replace(ino, new)
            replaced[node.key] = new
        waiting.places.clear()
        await self._replace_in_handles(replaced)

    def _opened(self) -> AbstractSet[Key]:
        """Return the keys of all that is open."""
        handles = (*self._tables.files, *self._tables.directories)
        return {each.node.key for each in handles}

    def _known_of(self, top: Node) -> list[Known]:
        """Return the inodes of an artifact that the kernel knows, each with where it is."""
        inodes = self._tables.inodes
        found = list(inodes)
        for series, inos in inodes.members():
            if isinstance(series, LayerSeries) and series.top.key == top.key:
                found += [(ino, inodes.node(ino)) for ino in inos]
        return [
            (ino, node, spot.path)
            for ino, node in found
            if (spot := node.spot) is not None and spot.top.key == top.key
        ]

    def _is_with_the_kernel(self, node: Node) -> bool:
        """Tell whether the kernel may read an open file by itself: then its inode stays so.

        Where a write begins an edit, it never does (`Filesystem.backing_fd`).
        """
        if self.by_itself:
            return False
        handles = self._tables.files
        return any(
            each.node.key == node.key and each.opened.backed is not None for each in handles
        )

    async def _replace_in_handles(self, replaced: Mapping[Key, Node]) -> None:
        for directory in self._tables.directories:
            directory.node = replaced.get(directory.node.key, directory.node)
        for handle in self._tables.files:
            staged = replaced.get(handle.node.key)
            if staged is None:
                continue
            opened = staged.open_now() or await staged.open()
            if handle not in self._tables.files:  # closed meanwhile
                opened.reader.close()
                continue
            self._close(handle.opened)
            handle.node, handle.opened = staged, opened

    def _close(self, opened: Opened) -> None:
        if opened.digest is not None:
            self._verification.closed(opened.digest, opened.reader)
        opened.reader.close()
