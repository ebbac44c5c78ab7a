# ruff: noqa: ARG002 - handlers take what pyfuse3 gives them
"""pyfuse3's handlers that change something: decode, call, encode, and nothing else.

Owns the decoding of what is to be changed. There is no branch on what a node is.

INVARIANT: as in `orasfs.fuse.libfuse.adapter`, only FUSEError leaves a handler.
"""

import errno
import os
from typing import NoReturn

import pyfuse3

from orasfs.fuse.libfuse.answers import Encoder, answered
from orasfs.staging.changes import AttrChanges
from orasfs.vfs.operations import ChangeOperations, Fh, Ino


class ChangeHandlers(pyfuse3.Operations):
    """Answers the requests that change something by asking `operations`."""

    def __init__(self, operations: ChangeOperations, encoder: Encoder) -> None:
        super().__init__()
        self._changes = operations
        self._encoder = encoder
        self._directories: dict[Fh, Ino] = {}  # those that are open

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a directory; the caller's umask is in the mode already."""
        made = await self._changes.mkdir(Ino(parent_inode), os.fsdecode(name), mode)
        return self._encoder.entry(made)

    @answered
    async def create(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Make a file and open it."""
        parent = Ino(parent_inode)
        made, opened = await self._changes.create(parent, os.fsdecode(name), mode, flags)
        info = pyfuse3.FileInfo(
            fh=opened.fh, keep_cache=opened.keep_cache, direct_io=opened.direct_io
        )
        return info, self._encoder.entry(made)

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a file."""
        made = await self._changes.mknod(Ino(parent_inode), os.fsdecode(name), mode)
        return self._encoder.entry(made)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a symbolic link."""
        parent = Ino(parent_inode)
        made = await self._changes.symlink(parent, os.fsdecode(name), os.fsdecode(target))
        return self._encoder.entry(made)

    @answered
    async def link(
        self,
        inode: int,
        new_parent_inode: int,
        new_name: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Give a file another name."""
        parent = Ino(new_parent_inode)
        made = await self._changes.link(Ino(inode), parent, os.fsdecode(new_name))
        return self._encoder.entry(made)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove a name."""
        await self._changes.unlink(Ino(parent_inode), os.fsdecode(name))

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an empty directory."""
        await self._changes.rmdir(Ino(parent_inode), os.fsdecode(name))

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Rename."""
        await self._changes.rename(
            Ino(parent_inode_old),
            os.fsdecode(name_old),
            Ino(parent_inode_new),
            os.fsdecode(name_new),
            flags,
        )

    @answered
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Change attributes.

        An owner changes nothing: artifacts have none. The kernel lets only root give files away,
        and root's `cp -a` is to work.
        """
        changes = AttrChanges(
            mode=attr.st_mode if fields.update_mode else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        handle = None if fh is None else Fh(fh)
        found, seconds = await self._changes.setattr(Ino(inode), changes, handle)
        return self._encoder.attributes(found, 0.0, seconds)

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write; without leaving the loop's turn where that needs no waiting."""
        if not self._changes.write_now(Fh(fh), off, buf):
            await self._changes.write(Fh(fh), off, buf)
        return len(buf)

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's
        """Make a file durable."""
        await self._changes.fsync(Fh(fh), data_only=datasync)

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's
        """Make a directory durable, or commit a draft."""
        await self._changes.fsyncdir(self._directories[Fh(fh)], data_only=datasync)

    async def flush(self, fh: int) -> NoReturn:
        """Answer ENOSYS: close(2) then succeeds without asking; nothing is kept back here."""
        raise pyfuse3.FUSEError(errno.ENOSYS)

    @answered
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Set an extended attribute."""
        await self._changes.setxattr(Ino(inode), os.fsdecode(name), bytes(value))

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an extended attribute."""
        await self._changes.removexattr(Ino(inode), os.fsdecode(name))
