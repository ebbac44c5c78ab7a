"""What is in a draft, as nodes: every operation is passed on to the staged tree.

Owns the step from a staged inode to a node, and the kernel's caching of it: this process is the
only one that changes a draft, and only at the kernel's own request, so what the kernel has seen
holds for ever.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from orasfs.errors import CrossDevice, InvalidInput, NotPermitted
from orasfs.staging import settings
from orasfs.staging.changes import AttrChanges
from orasfs.staging.draft import Draft
from orasfs.staging.identity import Identity
from orasfs.staging.openfile import OpenStaged
from orasfs.staging.workspace import OWN_PREFIX, Workspace
from orasfs.vfs import xattrs
from orasfs.vfs.drafts import LowerTree
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.nodes.base import (
    Answer,
    Found,
    IteratorListing,
    Listed,
    Missing,
    Node,
    Opened,
    Stat,
)
from orasfs.vfs.operations import FOREVER_SECONDS

STATE = f"{xattrs.PREFIX}state"
REFERENCE = f"{xattrs.PREFIX}reference"
_TOLD = frozenset({STATE, REFERENCE})
_ORDERS = frozenset(f"{xattrs.PREFIX}{order}" for order in ("base", "commit", "discard", "edit"))


@dataclass(frozen=True, slots=True)
class Staged:
    """What the nodes of one tree of a draft share.

    Attributes:
        draft: whose tree it is.
        workspace: the tree.
        key: from which the keys of the nodes are derived.
        errors: the draft's.
        lowers: what drafts have from their bases, by id.
    """

    draft: Draft
    workspace: Workspace
    key: Key
    errors: ErrorLog = field(repr=False)
    lowers: Mapping[str, LowerTree] = field(default_factory=dict, repr=False)

    @property
    def lower(self) -> LowerTree | None:
        """What the tree has from the draft's base."""
        return self.lowers.get(self.draft.id) if self.workspace is self.draft.tree else None

    def node(self, identity: Identity) -> "StagedNode":
        """Return the node of an inode that is not the top."""
        key = derive(self.key, str(identity.number), str(identity.serial))
        kind = {stat.S_IFDIR: StagedDirectoryNode, stat.S_IFLNK: StagedSymlinkNode}.get(
            identity.kind, StagedFileNode
        )
        return kind(key, self, identity)


class StagedNode(Node):
    """Something in a draft."""

    __slots__ = ("identity", "staged")

    def __init__(self, key: Key, staged: Staged, identity: Identity) -> None:
        super().__init__(key, staged.errors)
        self.staged = staged
        self.identity = identity

    @property
    def is_local(self) -> bool:
        """Always: nothing leaves the machine before a commit."""
        return True

    def stat(self) -> Stat:
        """Return what the disk says, but no ctime of what has a base: looking changes it there."""
        found = self.staged.workspace.status(self.identity)
        times = found.st_atime_ns, found.st_ctime_ns if self.staged.lower is None else None
        return Stat(found.st_mode, found.st_size, found.st_mtime_ns, found.st_nlink, *times)

    def check_changeable(self) -> None:
        """Let changes through unless a commit runs.

        Raises:
            Busy: one does.
        """
        self.staged.draft.check_writable()

    async def change(self, changes: AttrChanges, opened: Opened | None) -> None:
        """Change attributes."""
        self.check_changeable()
        file = opened.writer if opened is not None else None
        given = file if isinstance(file, OpenStaged) else None
        lower = self.staged.lower
        if lower is not None and changes.size == 0:
            lower.drop(self.identity)
        elif lower is not None and changes.size is not None:
            await lower.copy_up(self.identity)
        self.staged.workspace.change(self.identity, changes, given)
        await trio.lowlevel.checkpoint()

    def getxattr_now(self, name: str) -> bytes:
        """Return what was set, the state, and where it belongs."""
        if name == STATE:
            return b"modified" if self.staged.draft.base is not None else b"draft"
        if name == REFERENCE:
            return str(self.staged.draft.key).encode("utf-8", "surrogateescape")
        value = None
        if not name.startswith(OWN_PREFIX):
            value = self.staged.workspace.attribute(self.identity, name)
        if value is None:
            raise xattrs.absent(name)
        return value

    def listxattr_now(self) -> Sequence[str]:
        """Return what was set."""
        return self.staged.workspace.attributes(self.identity)

    async def set_attribute(self, name: str, value: bytes) -> None:
        """Set an attribute; settings are checked.

        Raises:
            InvalidInput: it is no setting, or no value of it.
            NotPermitted: it is one that only we set.
        """
        if name in _TOLD or name.startswith(OWN_PREFIX):
            raise NotPermitted(f"{name} cannot be set")
        if name in _ORDERS:
            key = self.staged.draft.key
            raise InvalidInput(f"{name}: is for the top of the draft {key}, not for what is in it")
        if name.startswith(xattrs.PREFIX):
            settings.check_setting(name, value, is_top=self.identity.is_top)
        self.check_changeable()
        self.staged.workspace.set_attribute(self.identity, name, value)
        await trio.lowlevel.checkpoint()

    async def remove_attribute(self, name: str) -> None:
        """Remove an attribute."""
        self.getxattr_now(name)
        if name in _TOLD:
            raise NotPermitted(f"{name} cannot be removed")
        self.check_changeable()
        self.staged.workspace.remove_attribute(self.identity, name)
        await trio.lowlevel.checkpoint()


class StagedSymlinkNode(StagedNode):
    """A symbolic link in a draft, which nobody but the caller's kernel follows."""

    __slots__ = ()

    def readlink(self) -> str:
        """Return the target."""
        return self.staged.workspace.readlink(self.identity)


class StagedFileNode(StagedNode):
    """A file in a draft."""

    __slots__ = ()

    def open_now(self) -> Opened | None:
        """Open it for reading, if its bytes are here."""
        lower = self.staged.lower
        if lower is not None and lower.is_lower(self.identity):
            return None
        return self._opened(os.O_RDONLY)

    async def open(self) -> Opened:
        """Open it for reading, wherever its bytes are.

        Raises:
            OrasfsError: they are the base's, which cannot be had.
        """
        lower = self.staged.lower
        if lower is None:
            return self._opened(os.O_RDONLY)
        opened = self.staged.workspace.open(self.identity, os.O_RDONLY)
        try:
            return Opened(await lower.open(self.identity, opened))
        except BaseException:
            opened.close()
            raise

    async def open_for_writing(self, flags: int) -> Opened:
        """Open it for writing.

        Raises:
            Busy: a commit runs.
        """
        self.check_changeable()
        lower = self.staged.lower
        if lower is not None and flags & os.O_TRUNC:
            lower.drop(self.identity)
        elif lower is not None:
            await lower.copy_up(self.identity)
        await trio.lowlevel.checkpoint()
        return self._opened(flags)

    def _opened(self, flags: int) -> Opened:
        opened = self.staged.workspace.open(self.identity, flags)
        self.staged.draft.note_writer(opened)
        return as_opened(opened)


def as_opened(opened: OpenStaged) -> Opened:
    """Return an open staged file as the filesystem keeps it."""
    return Opened(opened, writer=opened if opened.is_writable else None)


class StagedDirectoryNode(StagedNode):
    """A directory in a draft."""

    __slots__ = ()

    @property
    def attr_seconds(self) -> float:
        """For ever, once the names are here: a large layer tells its directory's mode late."""
        return 0.0 if self._is_pending() else FOREVER_SECONDS

    def lookup_now(self, name: str) -> Answer | None:
        """Find a name, if the names are here."""
        answer = None if self._is_pending() else self.find(name)
        return None if _pending(answer) is not None else answer

    async def lookup(self, name: str) -> Answer:
        """Find a name.

        Raises:
            OrasfsError: the names are the base's, which cannot be had.
        """
        await self.fill()
        answer = self.find(name)
        lower, below = self.staged.lower, _pending(answer)
        if lower is not None and below is not None:
            await lower.know(below)
        return answer

    def _is_pending(self) -> bool:
        lower = self.staged.lower
        return lower is not None and lower.is_pending(self.identity)

    async def fill(self) -> None:
        """Have the names here."""
        lower = self.staged.lower
        if lower is not None:
            await lower.fill(self.identity)

    async def ready(self) -> None:
        """Have the names here, to be changed.

        Raises:
            Busy: a commit runs.
        """
        self.check_changeable()
        await self.fill()
        await trio.lowlevel.checkpoint()
        self.check_changeable()

    def find(self, name: str) -> Answer:
        """Find a name among those that are here."""
        found = self.staged.workspace.find(self.identity, name)
        return Missing() if found is None else Found(self.staged.node(found))

    def listing_now(self) -> IteratorListing | None:
        """List the names that are there now, if they are here."""
        if self._is_pending():
            return None
        return IteratorListing(self._entries(self.staged.workspace.names(self.identity)))

    async def listing(self) -> IteratorListing:
        """List the names that are there now.

        Raises:
            OrasfsError: they are the base's, which cannot be had.
        """
        await self.fill()
        return IteratorListing(self._entries(self.staged.workspace.names(self.identity)))

    def relisted(self, listed: Listed) -> Listed | None:
        """Return what has the name now: since the listing began it may have been replaced."""
        node = listed.found.node
        if isinstance(node, StagedNode) and (self.identity, listed.name) in node.identity.names:
            return listed
        answer = self.find(listed.name)
        return Listed(listed.name, answer) if isinstance(answer, Found) else None

    async def change(self, changes: AttrChanges, opened: Opened | None) -> None:
        """Change attributes of what has its own."""
        await self.ready()
        await super().change(changes, opened)

    async def make_directory(self, name: str, mode: int) -> Found:
        """Make a directory."""
        await self.ready()
        return self._found(self.staged.workspace.make_directory(self.identity, name, mode))

    async def make_file(self, name: str, mode: int, flags: int) -> tuple[Found, Opened]:
        """Make a file and open it."""
        await self.ready()
        opened = self.staged.workspace.make_file(self.identity, name, mode, flags)
        self.staged.draft.note_writer(opened)
        return self._found(opened.identity), as_opened(opened)

    async def make_symlink(self, name: str, target: str) -> Found:
        """Make a symbolic link."""
        await self.ready()
        return self._found(self.staged.workspace.make_symlink(self.identity, name, target))

    async def make_link(self, node: Node, name: str) -> Found:
        """Give a file of the same draft another name.

        Raises:
            CrossDevice: it is somewhere else.
        """
        await self.ready()
        identity = self._of_same_tree(node)
        self.staged.workspace.link(identity, self.identity, name)
        return self._found(identity)

    async def unlink(self, name: str) -> None:
        """Remove a name of what is no directory."""
        await self.ready()
        self.staged.workspace.unlink(self.identity, name)

    async def remove_directory(self, name: str) -> None:
        """Remove an empty directory."""
        await self.ready()
        below = self.find(name)
        if isinstance(below, Found) and isinstance(below.node, StagedDirectoryNode):
            await below.node.fill()  # it is not empty only because nobody has looked
        self.staged.workspace.remove_directory(self.identity, name)

    async def rename(self, name: str, target: Node, new_name: str, flags: int) -> None:
        """Move a name within the same draft.

        Raises:
            CrossDevice: `target` is somewhere else.
        """
        await self.ready()
        directory = self._of_same_tree(target)
        if isinstance(target, StagedDirectoryNode):
            await target.ready()
        self.staged.workspace.rename((self.identity, name), (directory, new_name), flags)

    async def sync_directory(self, *, data_only: bool) -> None:  # noqa: ARG002 - names are data
        """Make the names durable."""
        work = self.staged.workspace.sync_directory
        await trio.to_thread.run_sync(work, self.identity)

    async def open_for_writing(self, flags: int) -> Opened:
        """Refuse.

        Raises:
            InvalidInput: it is a directory, which the kernel does not open so.
        """
        await trio.lowlevel.checkpoint()
        raise InvalidInput(f"a directory cannot be opened with flags {flags:#o}")

    def _found(self, identity: Identity) -> Found:
        return Found(self.staged.node(identity))

    def _of_same_tree(self, node: Node) -> Identity:
        if isinstance(node, StagedNode) and node.staged.workspace is self.staged.workspace:
            return node.identity
        raise CrossDevice("not in the same draft")

    def _entries(self, names: Sequence[str]) -> Iterator[Listed]:
        for name in names:
            answer = self.find(name)
            if isinstance(answer, Found):
                is_open = _pending(answer) is not None  # then the first use is a lookup
                yield Listed(name, Found(answer.node, 0.0) if is_open else answer)


def _pending(answer: Answer | None) -> Identity | None:
    """Return the directory that was found if only the base can tell its mode and time."""
    node = answer.node if isinstance(answer, Found) else None
    is_pending = isinstance(node, StagedDirectoryNode) and not node.attr_seconds
    return node.identity if isinstance(node, StagedNode) and is_pending else None
