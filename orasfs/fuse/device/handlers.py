"""What is answered to each request that reads a file: decode, call, encode, and nothing else.

Owns the translation between requests and the port of the filesystem. There is no branch on what a
node is. Handlers raise; who called them answers with an errno.

INVARIANT: an answer that gives the kernel something (a reference, a handle) says how to take it
back, for when nobody is there any more to take it.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from orasfs.errors import LocalFailure
from orasfs.fuse.device import replies
from orasfs.fuse.device.openfiles import OpenFiles
from orasfs.fuse.device.replies import Encoder
from orasfs.fuse.device.requests import Forget, GetXattr, Handle, Named, Of, Open, Read
from orasfs.fuse.device.wire import Opened
from orasfs.vfs.operations import Entry, Fh, Ino, OpenFile, Operations


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of an answer.

    Attributes:
        take_back: what to do if nobody takes it.
        later: what to do in a spare moment if somebody does.
    """

    body: bytes = b""
    take_back: Callable[[], None] | None = None
    later: Callable[[], None] | None = None


DONE = Answer()


class ReadHandlers:
    """Answers the requests that read.

    Args:
        operations: the filesystem.
        encoder: knows whose the files are.
        files: what is open.
        drop_pages: lets the kernel forget the pages of an inode; returns at once.
        store: gives the kernel all bytes of an inode that nobody reads; returns at once.
    """

    def __init__(
        self,
        operations: Operations,
        encoder: Encoder,
        files: OpenFiles,
        drop_pages: Callable[[Ino], None],
        store: Callable[[Ino, bytes], None],
    ) -> None:
        self._operations = operations
        self._encoder = encoder
        self._files = files
        self._drop_pages = drop_pages
        self._store = store

    def lookup_now(self, request: Named) -> Answer | None:
        """Find a name that is at hand."""
        entry = self._operations.lookup_now(request.parent, os.fsdecode(request.name))
        return None if entry is None else self._entry(entry)

    async def lookup(self, request: Named) -> Answer:
        """Find a name; one that does not exist is an entry of inode 0, which the kernel keeps."""
        name = os.fsdecode(request.name)
        return self._entry(await self._operations.lookup(request.parent, name))

    def _entry(self, entry: Entry) -> Answer:
        body = self._encoder.entry(entry)
        if entry.attr is None:
            return Answer(body)
        return Answer(body, partial(self._operations.forget, entry.attr.ino, 1))

    def forget(self, request: Forget) -> None:
        """Take references back; the kernel waits for no answer."""
        for ino, lookups in request.counts:
            self._operations.forget(ino, lookups)

    def getattr_now(self, request: Of) -> Answer | None:
        """Return the attributes of an inode if they are at hand."""
        found = self._operations.getattr_now(request.ino)
        return None if found is None else Answer(self._encoder.attributes(*found))

    async def getattr(self, request: Of) -> Answer:
        """Return the attributes of an inode."""
        attr, seconds = await self._operations.getattr(request.ino)
        return Answer(self._encoder.attributes(attr, seconds))

    async def readlink(self, request: Of) -> Answer:
        """Return a symlink's target."""
        return Answer(os.fsencode(await self._operations.readlink(request.ino)))

    def open_now(self, request: Open) -> Answer | None:
        """Open a file to read if that needs no waiting."""
        if request.may_change:
            return None
        file = self._operations.open_now(request.ino, request.flags)
        return None if file is None else self._opened(request, file)

    async def open(self, request: Open) -> Answer:
        """Open a file; to write only if nobody has it passed through."""
        if request.may_change:
            self._files.check_writable(request.ino)
        return self._opened(request, await self._operations.open(request.ino, request.flags))

    def _opened(self, request: Open, file: OpenFile) -> Answer:
        """Return how a file was opened."""
        backing_fd = None if request.may_change else self._operations.backing_fd(file.fh)
        flags, backing_id = self._files.add(request.ino, file, backing_fd)
        later = None
        if not request.may_change and not backing_id:
            if self._files.is_alone(request.ino):
                self._give(request.ino, self._operations.whole_now(file.fh))
            later = partial(self._give_next, file.fh)
        body = replies.opened(file.fh, flags | Opened.NOFLUSH, backing_id)
        return Answer(body, partial(self._close, file.fh), later)

    def _give(self, ino: Ino, content: bytes | None) -> None:
        """Give the kernel a small file with its open: a read, and a look at its time, fewer."""
        if content:
            self._store(ino, content)

    def _give_next(self, fh: Fh) -> None:
        """Give the kernel the file that is likely to be opened after one that is open."""
        ino = self._operations.follower(fh)
        if ino is not None and not self._files.is_open(ino):
            self._give(ino, self._operations.whole_of(ino))

    def read_now(self, request: Read) -> Answer | None:
        """Read what is at hand."""
        data = self._operations.read_now(request.fh, request.offset, request.size)
        return None if data is None else Answer(data)

    async def read(self, request: Read) -> Answer:
        """Read."""
        return Answer(await self._operations.read(request.fh, request.offset, request.size))

    def release(self, request: Handle) -> Answer:
        """Close a file."""
        self._close(request.fh)
        return DONE

    def _close(self, fh: Fh) -> None:
        """Close a file; what will be passed through next time need not stay in two caches."""
        can_pass = self._operations.backing_fd(fh) is not None
        ino = self._files.remove(fh)
        self._operations.release(fh)
        if ino is not None and can_pass and self._files.may_pass:
            self._drop_pages(ino)

    def statfs(self, _request: Of) -> Answer:
        """Tell the free space."""
        return Answer(replies.statfs(self._operations.statfs()))

    def getxattr_now(self, request: GetXattr) -> Answer | None:
        """Return an extended attribute that is at hand."""
        value = self._operations.getxattr_now(request.ino, os.fsdecode(request.name))
        return None if value is None else _sized(value, request.size)

    async def getxattr(self, request: GetXattr) -> Answer:
        """Return an extended attribute."""
        name = os.fsdecode(request.name)
        return _sized(await self._operations.getxattr(request.ino, name), request.size)

    async def listxattr(self, request: GetXattr) -> Answer:
        """Return the names of extended attributes, each with a zero byte behind it."""
        names = await self._operations.listxattr(request.ino)
        return _sized(b"".join(os.fsencode(name) + b"\0" for name in names), request.size)


def _sized(value: bytes, size: int) -> Answer:
    """Return a value, or how long it is to a caller that has no room yet."""
    if not size:
        return Answer(replies.xattr_size(len(value)))
    if len(value) > size:
        raise LocalFailure("the value is longer than the caller has room for", errno.ERANGE)
    return Answer(value)
