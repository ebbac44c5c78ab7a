# ruff: noqa: ARG002 - handlers take what pyfuse3 gives them
"""pyfuse3's handlers over the port of the filesystem: decode, call, encode, and nothing else.

Owns the translation of names, attributes and failures. Knows nothing of registries, artifacts or
content: there is no branch on what a node is.

INVARIANT: only FUSEError leaves a handler (anything else would end pyfuse3's loop and leave the
caller waiting for ever), and `forget` and `init` raise nothing at all.
INVARIANT: a listing counts a lookup for exactly those entries that the kernel accepted.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial

import pyfuse3
import trio

from orasfs.fuse.libfuse.answers import Encoder, answered
from orasfs.fuse.libfuse.changes import ChangeHandlers
from orasfs.vfs.operations import (
    FOREVER_SECONDS,
    Attr,
    Entry,
    Fh,
    Ino,
    MemberRow,
    MountOperations,
)


class FuseAdapter(ChangeHandlers):
    """Answers the kernel's requests by asking `operations`.

    Args:
        operations: the filesystem.
        uid: the owner of every file: the mounting user.
        gid: the group of every file.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, operations: MountOperations, uid: int, gid: int) -> None:
        super().__init__(operations, Encoder(uid, gid))
        self._operations = operations
        self.initialized = trio.Event()  # set once the kernel's first request has been seen

    def init(self) -> None:
        """Note that the kernel speaks to us; its answer goes out as soon as this returns."""
        self.initialized.set()

    @answered
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find a name; one that does not exist is an entry of inode 0, which the kernel keeps."""
        return self._encoder.entry(
            await self._operations.lookup(Ino(parent_inode), os.fsdecode(name))
        )

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Give back references."""
        for ino, lookups in inode_list:
            self._operations.forget(Ino(ino), lookups)

    @answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Return the attributes of an inode."""
        attr, seconds = await self._operations.getattr(Ino(inode))
        return self._encoder.attributes(attr, 0.0, seconds)

    @answered
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Return a symlink's target."""
        return os.fsencode(await self._operations.readlink(Ino(inode)))

    @answered
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open a file."""
        opened = await self._operations.open(Ino(inode), flags)
        return pyfuse3.FileInfo(
            fh=opened.fh, keep_cache=opened.keep_cache, direct_io=opened.direct_io
        )

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Read; without leaving the loop's turn where the bytes are at hand."""
        data = self._operations.read_now(Fh(fh), off, size)
        if data is None:
            data = await self._operations.read(Fh(fh), off, size)
        return data

    @answered
    async def release(self, fh: int) -> None:
        """Close a file."""
        self._operations.release(Fh(fh))

    @answered
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """Open a directory."""
        fh = await self._operations.opendir(Ino(inode))
        self._directories[fh] = Ino(inode)
        return fh

    @answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """List entries until the kernel's buffer is full."""
        if self._operations.list_members(Fh(fh), start_id, partial(self._reply, token, start_id)):
            return
        found = await self._operations.readdir(Fh(fh), start_id)
        # Encoded first: a failure behind the first accepted entry would lose its reference.
        encoded = [
            (os.fsencode(each.name), self._encoder.entry(each.entry), each.next_id)
            for each in found
            if each.entry.attr is not None
        ]
        for name, attributes, next_id in encoded:
            if not pyfuse3.readdir_reply(token, name, attributes, next_id):
                break
            self._operations.count_lookup(Ino(attributes.st_ino))

    def _reply(
        self, token: pyfuse3.ReaddirToken, start_id: int, rows: Iterator[MemberRow]
    ) -> Sequence[Ino]:
        """Give the kernel names until its buffer is full; return those it accepted."""
        taken: list[Ino] = []
        for next_id, (name, ino, mode, size, mtime_ns, links) in enumerate(rows, start_id + 1):
            attr = Attr(ino, mode, size, mtime_ns, links)
            attributes = self._encoder.entry(Entry(attr, FOREVER_SECONDS, FOREVER_SECONDS))
            if not pyfuse3.readdir_reply(token, name, attributes, next_id):
                break
            taken.append(ino)
        return taken

    @answered
    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        del self._directories[Fh(fh)]
        self._operations.releasedir(Fh(fh))

    @answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Tell the free space of the local cache."""
        status = self._operations.statfs()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = status.block_size
        data.f_blocks = status.blocks
        data.f_bfree = status.blocks_free
        data.f_bavail = status.blocks_available
        data.f_files = status.files
        data.f_ffree = data.f_favail = status.files_free
        data.f_namemax = status.name_max
        return data

    @answered
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Return an extended attribute."""
        return await self._operations.getxattr(Ino(inode), os.fsdecode(name))

    @answered
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        """Return the names of extended attributes."""
        return [os.fsencode(name) for name in await self._operations.listxattr(Ino(inode))]
