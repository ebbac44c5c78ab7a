"""The filesystem: one method an operation, each a step to the node that knows.

Owns inodes, handles, deadlines and the remembering of errors. Has no policy of its own: what a
name is and what a file holds say the nodes.

INVARIANT: between giving an inode number to an answer and returning the answer nothing waits, so
that a number is never given back before the kernel has it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from orasfs.errors import (
    IsADirectory,
    NoAttribute,
    NotADirectory,
    OrasfsError,
    ReadOnly,
    Unsupported,
)
from orasfs.oci.digest import Digest
from orasfs.vfs import xattrs
from orasfs.vfs.documents import DocumentCache
from orasfs.vfs.handles import HandleTable, Snapshot
from orasfs.vfs.inodes import InodeTable, derive
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import CONTROL_NAME
from orasfs.vfs.nodes.base import Answer, Found, Listed, Listing, Node, Opened
from orasfs.vfs.nodes.control import control_directory
from orasfs.vfs.nodes.roots import make_root
from orasfs.vfs.nodes.world import World
from orasfs.vfs.operations import (
    ROOT_INO,
    Attr,
    DirectoryEntry,
    Entry,
    Fh,
    FilesystemStatus,
    Ino,
    Notifier,
    OpenFile,
)
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.ports import Registries
from orasfs.vfs.root import RootSpecification
from orasfs.vfs.verification import Verification
from orasfs.vfs.waiting import Patience

READDIR_BATCH = 192  # about what the kernel's buffer takes
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT
_NOT_REMEMBERED = (NoAttribute, Unsupported, ReadOnly, NotADirectory, IsADirectory)


@dataclass(slots=True)
class _FileHandle:
    node: Node
    opened: Opened


@dataclass(slots=True)
class _DirectoryHandle:
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
        self.snapshot.grow(await self.listing.more())


class Filesystem:
    """Implements `orasfs.vfs.operations.Operations` over ports.

    Args:
        root: what the mount's root is.
        registries: all registries that may be reached.
        options: what the mount was told.
        control: makers of the files in `MOUNT/.orasfs`, by name.
        statfs: tells the free space; local only.
        nursery: where work goes on that nobody waits for any more.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        root: RootSpecification,
        registries: Registries,
        options: FilesystemOptions,
        *,
        control: Mapping[str, Callable[[], bytes]],
        statfs: Callable[[], FilesystemStatus],
        nursery: trio.Nursery,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        mount = Mount(options, clock, nursery, DocumentCache(), Verification())
        top = make_root(root, World(registries, mount))
        self._mount = mount
        self._inodes: InodeTable[Node] = InodeTable(top)
        self._control = control_directory(derive(top.key, CONTROL_NAME, "control"), control)
        self._statfs = statfs
        self._patience = Patience(nursery, options.wait_seconds)
        self._files: HandleTable[_FileHandle] = HandleTable()
        self._directories: HandleTable[_DirectoryHandle] = HandleTable()
        self._notifier: Notifier | None = None

    def set_notifier(self, notifier: Notifier) -> None:
        """Say how to tell the kernel, once there is a session."""
        self._notifier = notifier

    def content_mismatch(self, digest: Digest) -> None:
        """Drop what the kernel has cached of a blob that turned out to be another."""
        self._mount.verification.forget(digest)
        if self._notifier is None:
            return
        for ino, node in self._inodes:
            if node.content_digest == digest:
                self._notifier.invalidate_content(ino)

    async def lookup(self, parent: Ino, name: str) -> Entry:
        """Find a name below an inode."""
        node = self._inodes.node(parent)
        if parent == ROOT_INO and name == CONTROL_NAME:
            return self._entry(Found(self._control))
        with self._remembering(node, f"lookup {name}"):
            answer = node.lookup_now(name)
            if answer is None:
                work = partial(node.lookup, name)
                answer = await self._patience.shared(("lookup", node.key, name), work)
        return self._entry(answer)

    async def getattr(self, ino: Ino) -> tuple[Attr, float]:
        """Return attributes and for how many seconds they hold."""
        node = self._inodes.node(ino)
        return self._attr(ino, node), node.attr_seconds

    def forget(self, ino: Ino, lookups: int) -> None:
        """Give back references; never raises."""
        self._inodes.forget(ino, lookups)

    def count_lookup(self, ino: Ino) -> None:
        """Count a reference to an inode that `readdir` returned and the kernel accepted."""
        self._inodes.count_lookup(ino)

    async def readlink(self, ino: Ino) -> str:
        """Return a symlink's target."""
        return self._inodes.node(ino).readlink()

    async def open(self, ino: Ino, flags: int) -> OpenFile:
        """Open a file for reading.

        Raises:
            ReadOnly: for anything else.
        """
        if flags & _WRITE_FLAGS:
            raise ReadOnly("committed content is read-only")
        node = self._inodes.node(ino)
        with self._remembering(node, "open"):
            opened = node.open_now()
            if opened is None:
                opened = await self._patience.owned(node.open, _abandon)
        if opened.digest is not None:
            self._mount.verification.opened(opened.digest, opened.reader)
        fh = self._files.add(_FileHandle(node, opened))
        return OpenFile(fh, opened.keep_cache, opened.direct_io)

    def read_now(self, fh: Fh, offset: int, size: int) -> bytes | None:
        """Return bytes that are at hand, else None."""
        handle = self._files.get(fh)
        with self._remembering(handle.node, "read"):
            return handle.opened.reader.read_now(offset, size)

    async def read(self, fh: Fh, offset: int, size: int) -> bytes:
        """Read; waits as long as the network's deadlines let it."""
        handle = self._files.get(fh)
        with self._remembering(handle.node, "read"):
            return await handle.opened.reader.read(offset, size)

    def release(self, fh: Fh) -> None:
        """Close a file."""
        opened = self._files.remove(fh).opened
        if opened.digest is not None:
            self._mount.verification.closed(opened.digest, opened.reader)
        opened.reader.close()

    async def opendir(self, ino: Ino) -> Fh:
        """Open a directory."""
        node = self._inodes.node(ino)
        with self._remembering(node, "list"):
            listing = node.listing_now()
            if listing is None:
                listing = await self._patience.owned(node.listing, _abandon)
        return self._directories.add(_DirectoryHandle(node, listing))

    async def readdir(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry]:
        """Return the next entries, waiting for them if need be."""
        handle = self._directories.get(fh)
        with self._remembering(handle.node, "list"):
            while handle.snapshot.lacks(start_id):
                if handle.grow_now():
                    continue
                key = ("readdir", fh, len(handle.snapshot))
                await self._patience.shared(key, handle.grow)
        return self._offer(handle, handle.snapshot.batch(start_id, READDIR_BATCH))

    def releasedir(self, fh: Fh) -> None:
        """Close a directory."""
        self._offer(self._directories.remove(fh), ())

    async def getxattr(self, ino: Ino, name: str) -> bytes:
        """Return an extended attribute's value."""
        xattrs.check_name(name)
        node = self._inodes.node(ino)
        with self._remembering(node, f"getxattr {name}"):
            value = node.getxattr_now(name)
            if value is None:
                work = partial(node.getxattr, name)
                value = await self._patience.shared(("getxattr", node.key, name), work)
        return value

    async def listxattr(self, ino: Ino) -> Sequence[str]:
        """Return the names that a copy should carry."""
        node = self._inodes.node(ino)
        with self._remembering(node, "listxattr"):
            names = node.listxattr_now()
            if names is None:
                key = ("listxattr", node.key)
                names = await self._patience.shared(key, node.listxattr)
        return names

    def statfs(self) -> FilesystemStatus:
        """Tell free space."""
        return self._statfs()

    def _entry(self, answer: Answer) -> Entry:
        if not isinstance(answer, Found):
            return Entry(None, answer.seconds, 0.0)
        ino = self._inodes.take(answer.node)
        node = self._inodes.node(ino)  # the one that was there before, if there was one
        return Entry(self._attr(ino, node), answer.name_seconds, node.attr_seconds)

    def _offer(
        self, handle: _DirectoryHandle, batch: Sequence[tuple[int, Listed]]
    ) -> Sequence[DirectoryEntry]:
        """Give inode numbers to a batch, and let go of the batch before it."""
        before, handle.offered = handle.offered, []
        entries = []
        for next_id, listed in batch:
            ino = self._inodes.pin(listed.found.node)
            handle.offered.append(ino)
            node = self._inodes.node(ino)
            entry = Entry(self._attr(ino, node), listed.found.name_seconds, node.attr_seconds)
            entries.append(DirectoryEntry(listed.name, entry, next_id))
        for ino in before:
            self._inodes.unpin(ino)
        return entries

    @staticmethod
    def _attr(ino: Ino, node: Node) -> Attr:
        stat = node.stat()
        return Attr(ino, stat.mode, stat.size, stat.mtime_ns, stat.link_count)

    @staticmethod
    @contextmanager
    def _remembering(node: Node, operation: str) -> Iterator[None]:
        """Keep what fails for `.oras/error` of the artifact and its repository."""
        try:
            yield
        except OrasfsError as error:
            if not isinstance(error, _NOT_REMEMBERED):
                node.errors.record(operation, error)
            raise


def _abandon(result: Opened | Listing) -> None:
    """Close what nobody waits for any more."""
    if isinstance(result, Opened):
        result.reader.close()
