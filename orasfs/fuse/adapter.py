# ruff: noqa: ARG002 - handlers take what pyfuse3 gives them
"""pyfuse3's handlers over the port of the filesystem: decode, call, encode, and nothing else.

Owns the translation of names, attributes and failures. Knows nothing of registries, artifacts or
content: there is no branch on what a node is.

INVARIANT: only FUSEError leaves a handler (anything else would end pyfuse3's loop and leave the
caller waiting for ever), and `forget` and `init` raise nothing at all.
INVARIANT: a listing counts a lookup for exactly those entries that the kernel accepted.
"""

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

import pyfuse3
import trio

from orasfs.errors import OrasfsError
from orasfs.fuse.errno import errno_of
from orasfs.vfs.operations import Attr, Entry, Fh, Ino, Operations

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BLOCK_SIZE = 128 * 1024  # st_blksize: what cp and cat read at once, one FUSE request


def _answered(
    handler: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn whatever a handler raises into the errno that the caller gets."""
    name = handler.__name__

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OrasfsError as error:
            number = errno_of(error)
            if logger.isEnabledFor(logging.DEBUG):
                symbol = errno.errorcode.get(number)
                logger.debug("%s args=%r errno=%s error=%s", name, _plain(args), symbol, error)
            raise pyfuse3.FUSEError(number) from error
        except Exception as error:
            logger.exception("%s failed args=%r", name, _plain(args))
            raise pyfuse3.FUSEError(errno.EIO) from error

    return answer


class FuseAdapter(pyfuse3.Operations):
    """Answers the kernel's requests by asking `operations`.

    Args:
        operations: the filesystem.
        uid: the owner of every file: the mounting user.
        gid: the group of every file.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, operations: Operations, uid: int, gid: int) -> None:
        super().__init__()
        self._operations = operations
        self._uid = uid
        self._gid = gid
        self.initialized = trio.Event()  # set once the kernel's first request has been seen

    def init(self) -> None:
        """Note that the kernel speaks to us; its answer goes out as soon as this returns."""
        self.initialized.set()

    @_answered
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find a name; one that does not exist is an entry of inode 0, which the kernel keeps."""
        return self._entry(await self._operations.lookup(Ino(parent_inode), os.fsdecode(name)))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Give back references."""
        for ino, lookups in inode_list:
            self._operations.forget(Ino(ino), lookups)

    @_answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Return the attributes of an inode."""
        attr, seconds = await self._operations.getattr(Ino(inode))
        return self._attributes(attr, 0.0, seconds)

    @_answered
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Return a symlink's target."""
        return os.fsencode(await self._operations.readlink(Ino(inode)))

    @_answered
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open a file."""
        opened = await self._operations.open(Ino(inode), flags)
        return pyfuse3.FileInfo(
            fh=opened.fh, keep_cache=opened.keep_cache, direct_io=opened.direct_io
        )

    @_answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Read; without leaving the loop's turn where the bytes are at hand."""
        data = self._operations.read_now(Fh(fh), off, size)
        if data is None:
            data = await self._operations.read(Fh(fh), off, size)
        return data

    @_answered
    async def release(self, fh: int) -> None:
        """Close a file."""
        self._operations.release(Fh(fh))

    @_answered
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """Open a directory."""
        return await self._operations.opendir(Ino(inode))

    @_answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """List entries until the kernel's buffer is full."""
        found = await self._operations.readdir(Fh(fh), start_id)
        # Encoded first: a failure behind the first accepted entry would lose its reference.
        encoded = [
            (os.fsencode(each.name), self._entry(each.entry), each.next_id)
            for each in found
            if each.entry.attr is not None
        ]
        for name, attributes, next_id in encoded:
            if not pyfuse3.readdir_reply(token, name, attributes, next_id):
                break
            self._operations.count_lookup(Ino(attributes.st_ino))

    @_answered
    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        self._operations.releasedir(Fh(fh))

    @_answered
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

    @_answered
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Return an extended attribute."""
        return await self._operations.getxattr(Ino(inode), os.fsdecode(name))

    @_answered
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        """Return the names of extended attributes."""
        return [os.fsencode(name) for name in await self._operations.listxattr(Ino(inode))]

    async def _read_only(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Refuse to write: what is mounted is committed."""
        raise pyfuse3.FUSEError(errno.EROFS)

    # Of a name that exists, mkdir(2) and its like get EEXIST from the kernel itself.
    create = mknod = mkdir = symlink = link = _read_only
    unlink = rmdir = rename = _read_only
    setattr = write = setxattr = removexattr = _read_only

    async def _nothing_dirty(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Answer ENOSYS: the kernel then lets close(2) and fsync(2) succeed without asking."""
        raise pyfuse3.FUSEError(errno.ENOSYS)

    flush = fsync = fsyncdir = _nothing_dirty

    def _entry(self, entry: Entry) -> pyfuse3.EntryAttributes:
        if entry.attr is not None:
            return self._attributes(entry.attr, entry.name_seconds, entry.attr_seconds)
        absent = pyfuse3.EntryAttributes()
        absent.st_ino = 0
        absent.entry_timeout = entry.name_seconds
        return absent

    def _attributes(
        self, attr: Attr, name_seconds: float, attr_seconds: float
    ) -> pyfuse3.EntryAttributes:
        answer = pyfuse3.EntryAttributes()
        answer.st_ino = attr.ino
        answer.generation = 0
        answer.entry_timeout = name_seconds
        answer.attr_timeout = attr_seconds
        answer.st_mode = attr.mode
        answer.st_nlink = attr.link_count
        answer.st_uid = self._uid
        answer.st_gid = self._gid
        answer.st_size = attr.size
        answer.st_blksize = BLOCK_SIZE
        answer.st_blocks = attr.blocks
        answer.st_atime_ns = answer.st_mtime_ns = answer.st_ctime_ns = attr.mtime_ns
        return answer


def _plain(args: Sequence[object]) -> list[object]:
    """Leave numbers and names of a handler's arguments, which are worth a line in the log."""
    return [arg for arg in args if isinstance(arg, int | bytes)]
