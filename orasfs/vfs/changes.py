"""The half of the filesystem that changes things: one method an operation, as in `filesystem`.

Owns no policy: what may be changed, and how, say the nodes; of most they refuse.

INVARIANT: between giving an inode number to an answer and returning the answer nothing waits.
"""

import os
import stat
from functools import partial

from orasfs.errors import NotPermitted, ReadOnly
from orasfs.staging.changes import AttrChanges
from orasfs.vfs import xattrs
from orasfs.vfs.editing import ORDERS, Editing
from orasfs.vfs.nodes.artifact import EDIT, ArtifactNode
from orasfs.vfs.nodes.base import Writer
from orasfs.vfs.operations import Attr, Entry, Fh, Ino, OpenFile
from orasfs.vfs.tables import Tables


class Changes:
    """Implements `orasfs.vfs.operations.ChangeOperations`."""

    def __init__(self, tables: Tables, editing: Editing) -> None:
        self._tables = tables
        self._editing = editing

    async def mkdir(self, parent: Ino, name: str, mode: int) -> Entry:
        """Make a directory, a draft or a local namespace."""
        node = await self._editing.writable(parent)
        with self._tables.remembering(node, f"mkdir {name}"):
            work = partial(node.make_directory, name, mode)
            found = await self._tables.wait(node, work)
        return self._tables.entry(found)

    async def create(
        self, parent: Ino, name: str, mode: int, flags: int
    ) -> tuple[Entry, OpenFile]:
        """Make a file and open it."""
        node = await self._editing.writable(parent)
        with self._tables.remembering(node, f"create {name}"):
            found, opened = await node.make_file(name, mode, flags)
        return self._tables.entry(found), self._tables.open_file(found.node, opened)

    async def mknod(self, parent: Ino, name: str, mode: int) -> Entry:
        """Make a regular file."""
        node = await self._editing.writable(parent)
        with self._tables.remembering(node, f"mknod {name}"):
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                node.check_changeable()
                raise NotPermitted("an artifact holds no devices, FIFOs and sockets")
            found, opened = await node.make_file(name, mode, os.O_RDWR)
        opened.reader.close()
        return self._tables.entry(found)

    async def symlink(self, parent: Ino, name: str, target: str) -> Entry:
        """Make a symbolic link, or what a place takes it for."""
        node = await self._editing.writable(parent)
        with self._tables.remembering(node, f"symlink {name}"):
            work = partial(node.make_symlink, name, target)
            found = await self._tables.wait(node, work)
        return self._tables.entry(found)

    async def link(self, ino: Ino, parent: Ino, name: str) -> Entry:
        """Give a file another name."""
        directory = await self._editing.writable(parent)
        node = await self._editing.settled(ino)
        with self._tables.remembering(directory, f"link {name}"):
            found = await directory.make_link(node, name)
        return self._tables.entry(found)

    async def unlink(self, parent: Ino, name: str) -> None:
        """Remove a name."""
        node = await self._editing.writable(parent)
        with self._tables.remembering(node, f"unlink {name}"):
            await node.unlink(name)

    async def rmdir(self, parent: Ino, name: str) -> None:
        """Remove an empty directory."""
        node = await self._editing.writable(parent)
        with self._tables.remembering(node, f"rmdir {name}"):
            await self._tables.wait(node, partial(node.remove_directory, name))

    async def rename(
        self, parent: Ino, name: str, new_parent: Ino, new_name: str, flags: int
    ) -> None:
        """Rename."""
        await self._editing.writable(new_parent)
        node = await self._editing.writable(parent)
        target = self._tables.inodes.node(new_parent)
        with self._tables.remembering(node, f"rename {name} {new_name}"):
            work = partial(node.rename, name, target, new_name, flags)
            await self._tables.wait(node, work)

    async def setattr(self, ino: Ino, changes: AttrChanges, fh: Fh | None) -> tuple[Attr, float]:
        """Change attributes."""
        node = await self._editing.writable(ino)
        opened = self._tables.files.get(fh).opened if fh is not None else None
        with self._tables.remembering(node, "setattr"):
            await node.change(changes, opened)
        return self._tables.attr(ino, node), node.attr_seconds

    def write_now(self, fh: Fh, offset: int, content: bytes) -> bool:
        """Write unless that needs waiting."""
        handle = self._tables.files.get(fh)
        with self._tables.remembering(handle.node, "write"):
            return self._writer(fh).write_now(offset, content)

    async def write(self, fh: Fh, offset: int, content: bytes) -> None:
        """Write."""
        handle = self._tables.files.get(fh)
        with self._tables.remembering(handle.node, "write"):
            await self._writer(fh).write(offset, content)

    async def fsync(self, fh: Fh, *, data_only: bool) -> None:
        """Make an open file durable; what is committed is."""
        handle = self._tables.files.get(fh)
        writer = handle.opened.writer
        if writer is not None:
            with self._tables.remembering(handle.node, "fsync"):
                await writer.sync(data_only=data_only)

    async def fsyncdir(self, ino: Ino, *, data_only: bool) -> None:
        """Make names durable; at the top of a draft, commit."""
        node = self._tables.inodes.node(ino)
        with self._tables.remembering(node, "fsync"):
            await node.sync_directory(data_only=data_only)

    async def setxattr(self, ino: Ino, name: str, value: bytes) -> None:
        """Set an extended attribute."""
        xattrs.check_settable(name)
        node = self._tables.inodes.node(ino)
        if name == EDIT and value == b"1" and isinstance(node, ArtifactNode):
            await self._editing.begin(node, f"setxattr {name}")
            return
        if name not in ORDERS:
            node = await self._editing.writable(ino)
        with self._tables.remembering(node, f"setxattr {name}"):
            work = partial(node.set_attribute, name, value)
            await self._tables.wait(node, work)

    async def removexattr(self, ino: Ino, name: str) -> None:
        """Remove an extended attribute."""
        xattrs.check_name(name)
        node = await self._editing.writable(ino)
        with self._tables.remembering(node, f"removexattr {name}"):
            await node.remove_attribute(name)

    def _writer(self, fh: Fh) -> Writer:
        writer = self._tables.files.get(fh).opened.writer
        if writer is None:
            raise ReadOnly("not open for writing")
        return writer
