"""What is answered to each request that changes something: decode, call, encode.

Owns the decoding of what is to be changed. There is no branch on what a node is.

INVARIANT: as in `orasfs.fuse.device.handlers`. None of these is interrupted: a change is made
whole or not at all.
"""

import os
from collections.abc import Callable
from functools import partial

from orasfs.errors import AlreadyExists, NoAttribute
from orasfs.fuse.device import replies
from orasfs.fuse.device.handlers import DONE, Answer
from orasfs.fuse.device.openfiles import OpenFiles
from orasfs.fuse.device.replies import Encoder
from orasfs.fuse.device.requests import (
    GetXattr,
    Link,
    Make,
    Named,
    Rename,
    SetAttr,
    SetXattr,
    Symlink,
    Sync,
    SyncDirectory,
    Write,
)
from orasfs.fuse.device.wire import Opened
from orasfs.vfs.operations import Entry, Fh, MountOperations


class ChangeHandlers:
    """Answers the requests that change something.

    Args:
        operations: the filesystem.
        encoder: knows whose the files are.
        files: what is open.
    """

    def __init__(self, operations: MountOperations, encoder: Encoder, files: OpenFiles) -> None:
        self._operations = operations
        self._encoder = encoder
        self._files = files

    def _made(self, entry: Entry) -> Answer:
        return Answer(self._encoder.entry(entry), self._take_back(entry))

    def _take_back(self, entry: Entry) -> Callable[[], None] | None:
        if entry.attr is None:
            return None
        return partial(self._operations.forget, entry.attr.ino, 1)

    async def mkdir(self, request: Make) -> Answer:
        """Make a directory."""
        name = os.fsdecode(request.name)
        return self._made(await self._operations.mkdir(request.parent, name, request.mode))

    async def mknod(self, request: Make) -> Answer:
        """Make a file."""
        name = os.fsdecode(request.name)
        return self._made(await self._operations.mknod(request.parent, name, request.mode))

    async def create(self, request: Make) -> Answer:
        """Make a file and open it."""
        name = os.fsdecode(request.name)
        entry, file = await self._operations.create(
            request.parent, name, request.mode, request.flags
        )
        flags = Opened.NOFLUSH
        if entry.attr is not None:
            flags |= self._files.add(entry.attr.ino, file, None)[0]
        body = self._encoder.entry(entry) + replies.opened(file.fh, flags)
        return Answer(body, partial(self._uncreate, entry, file.fh))

    def _uncreate(self, entry: Entry, fh: Fh) -> None:
        self._files.remove(fh)
        self._operations.release(fh)
        if entry.attr is not None:
            self._operations.forget(entry.attr.ino, 1)

    async def symlink(self, request: Symlink) -> Answer:
        """Make a symbolic link."""
        name, target = os.fsdecode(request.name), os.fsdecode(request.target)
        return self._made(await self._operations.symlink(request.parent, name, target))

    async def link(self, request: Link) -> Answer:
        """Give a file another name."""
        name = os.fsdecode(request.name)
        return self._made(await self._operations.link(request.ino, request.parent, name))

    async def unlink(self, request: Named) -> Answer:
        """Remove a name."""
        await self._operations.unlink(request.parent, os.fsdecode(request.name))
        return DONE

    async def rmdir(self, request: Named) -> Answer:
        """Remove an empty directory."""
        await self._operations.rmdir(request.parent, os.fsdecode(request.name))
        return DONE

    async def rename(self, request: Rename) -> Answer:
        """Rename."""
        await self._operations.rename(
            request.parent,
            os.fsdecode(request.name),
            request.new_parent,
            os.fsdecode(request.new_name),
            request.flags,
        )
        return DONE

    async def setattr(self, request: SetAttr) -> Answer:
        """Change attributes."""
        attr, seconds = await self._operations.setattr(request.ino, request.changes, request.fh)
        return Answer(self._encoder.attributes(attr, seconds))

    def write_now(self, request: Write) -> Answer | None:
        """Write what needs no waiting."""
        content = request.content
        if self._operations.write_now(request.fh, request.offset, content):
            return Answer(replies.written(len(content)))
        return None

    async def write(self, request: Write) -> Answer:
        """Write."""
        await self._operations.write(request.fh, request.offset, request.content)
        return Answer(replies.written(len(request.content)))

    async def fsync(self, request: Sync) -> Answer:
        """Make a file durable."""
        await self._operations.fsync(request.fh, data_only=request.data_only)
        return DONE

    async def fsyncdir(self, request: SyncDirectory) -> Answer:
        """Make a directory durable, or commit a draft."""
        await self._operations.fsyncdir(request.ino, data_only=request.data_only)
        return DONE

    async def setxattr(self, request: SetXattr) -> Answer:
        """Set an extended attribute; one that must be there, or must not, is looked for first."""
        name = os.fsdecode(request.name)
        if request.flags & (os.XATTR_CREATE | os.XATTR_REPLACE):
            try:
                await self._operations.getxattr(request.ino, name)
            except NoAttribute:
                if request.flags & os.XATTR_REPLACE:
                    raise
            else:
                if request.flags & os.XATTR_CREATE:
                    raise AlreadyExists(name)
        await self._operations.setxattr(request.ino, name, request.value)
        return DONE

    async def removexattr(self, request: GetXattr) -> Answer:
        """Remove an extended attribute."""
        await self._operations.removexattr(request.ino, os.fsdecode(request.name))
        return DONE
