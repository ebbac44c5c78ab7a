"""What the kernel asks, from its bytes: a message in, a request out.

Owns the parsing of messages, and every check of their bounds. Pure; knows no file descriptor and
no filesystem.
"""

from struct import Struct

from orasfs.errors import InvalidInput
from orasfs.fuse.device import wire
from orasfs.fuse.device.requests import (
    Forget,
    GetXattr,
    Handle,
    Header,
    InitRequest,
    Link,
    List,
    Make,
    Named,
    Of,
    Open,
    Read,
    Rename,
    SetAttr,
    SetXattr,
    Symlink,
    Sync,
    SyncDirectory,
    Write,
)
from orasfs.staging.changes import AttrChanges
from orasfs.vfs.operations import Fh, Ino

_NS = 1_000_000_000


class Body:
    """The rest of a request, read from front to back and never past its end."""

    __slots__ = ("_at", "_view")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def take(self, layout: Struct) -> tuple[int, ...]:
        """Return the next fields.

        Raises:
            InvalidInput: there are not as many bytes.
        """
        if len(self._view) - self._at < layout.size:
            raise InvalidInput(f"a request ends after {len(self._view)} bytes")
        fields = layout.unpack_from(self._view, self._at)
        self._at += layout.size
        return fields

    def name(self) -> bytes:
        """Return the bytes up to the next zero byte.

        Raises:
            InvalidInput: there is none.
        """
        name, zero, _ = bytes(self._view[self._at :]).partition(b"\0")
        if not zero:
            raise InvalidInput("a request's name does not end")
        self._at += len(name) + 1
        return name

    def content(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            InvalidInput: there are not as many.
        """
        if len(self._view) - self._at < size:
            raise InvalidInput(f"a request has less than {size} bytes of content")
        start, self._at = self._at, self._at + size
        return bytes(self._view[start : self._at])


def split(message: memoryview) -> tuple[Header, Body]:
    """Split a message into its header and the rest.

    Raises:
        InvalidInput: it is no request, or not a whole one.
    """
    if len(message) < wire.IN_HEADER.size:
        raise InvalidInput(f"a request of {len(message)} bytes")
    length, opcode, unique, ino, _, _, pid, extensions, _ = wire.IN_HEADER.unpack_from(message)
    end = length - extensions * 8  # which stand behind everything else, and were not asked for
    if length != len(message) or end < wire.IN_HEADER.size:
        raise InvalidInput(f"a request of {len(message)} bytes that says it has {length}")
    header = Header(opcode, unique, Ino(ino), pid)
    return header, Body(message[wire.IN_HEADER.size : end])


def parse_init(_header: Header, body: Body) -> InitRequest:
    """Parse INIT; a kernel that has more than 32 flags says so in one of them."""
    major, minor, max_readahead, low = body.take(wire.INIT_IN)
    flags = wire.Init(low)
    if wire.Init.INIT_EXT in flags:
        (high,) = body.take(wire.INIT_IN_FLAGS2)
        flags |= wire.Init(high << 32)
    return InitRequest(major, minor, max_readahead, flags)


def parse_forget(header: Header, body: Body) -> Forget:
    """Parse FORGET."""
    (lookups,) = body.take(wire.FORGET_IN)
    return Forget(((header.ino, lookups),))


def parse_batch_forget(_header: Header, body: Body) -> Forget:
    """Parse BATCH_FORGET."""
    count, _ = body.take(wire.BATCH_FORGET_IN)
    pairs = (body.take(wire.FORGET_ONE) for _ in range(count))
    return Forget(tuple((Ino(ino), lookups) for ino, lookups in pairs))


def parse_of(header: Header, _body: Body) -> Of:
    """Parse GETATTR, READLINK, OPENDIR and STATFS, of which only the inode matters."""
    return Of(header.ino)


def parse_named(header: Header, body: Body) -> Named:
    """Parse LOOKUP, UNLINK and RMDIR."""
    return Named(header.ino, body.name())


def parse_mknod(header: Header, body: Body) -> Make:
    """Parse MKNOD; the caller's umask is in the mode already."""
    mode, *_ = body.take(wire.MKNOD_IN)
    return Make(header.ino, body.name(), mode)


def parse_mkdir(header: Header, body: Body) -> Make:
    """Parse MKDIR; the caller's umask is in the mode already."""
    mode, _ = body.take(wire.MKDIR_IN)
    return Make(header.ino, body.name(), mode)


def parse_create(header: Header, body: Body) -> Make:
    """Parse CREATE; the caller's umask is in the mode already."""
    flags, mode, *_ = body.take(wire.CREATE_IN)
    return Make(header.ino, body.name(), mode, flags)


def parse_symlink(header: Header, body: Body) -> Symlink:
    """Parse SYMLINK."""
    name = body.name()
    return Symlink(header.ino, name, body.name())


def parse_link(header: Header, body: Body) -> Link:
    """Parse LINK."""
    (ino,) = body.take(wire.LINK_IN)
    return Link(Ino(ino), header.ino, body.name())


def parse_rename(header: Header, body: Body) -> Rename:
    """Parse RENAME."""
    (new_parent,) = body.take(wire.RENAME_IN)
    name = body.name()
    return Rename(header.ino, name, Ino(new_parent), body.name(), 0)


def parse_rename2(header: Header, body: Body) -> Rename:
    """Parse RENAME2."""
    new_parent, flags, _ = body.take(wire.RENAME2_IN)
    name = body.name()
    return Rename(header.ino, name, Ino(new_parent), body.name(), flags)


def parse_setattr(header: Header, body: Body) -> SetAttr:
    """Parse SETATTR.

    An owner changes nothing: artifacts have none. The kernel lets only root give files away, and
    root's `cp -a` is to work.
    """
    fields = body.take(wire.SETATTR_IN)
    valid, _, fh, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode = fields[:12]
    changes = AttrChanges(
        mode=mode if valid & wire.Valid.MODE else None,
        size=size if valid & wire.Valid.SIZE else None,
        atime_ns=_signed(atime) * _NS + atime_ns if valid & wire.Valid.ATIME else None,
        mtime_ns=_signed(mtime) * _NS + mtime_ns if valid & wire.Valid.MTIME else None,
    )
    return SetAttr(header.ino, changes, Fh(fh) if valid & wire.Valid.FH else None)


def _signed(seconds: int) -> int:
    """Return seconds since the epoch, which the kernel sends without their sign."""
    return seconds - (1 << 64) if seconds >> 63 else seconds


def parse_open(header: Header, body: Body) -> Open:
    """Parse OPEN."""
    flags, _ = body.take(wire.OPEN_IN)
    return Open(header.ino, flags)


def parse_handle(_header: Header, body: Body) -> Handle:
    """Parse RELEASE and RELEASEDIR."""
    fh, *_ = body.take(wire.RELEASE_IN)
    return Handle(Fh(fh))


def parse_read(_header: Header, body: Body) -> Read:
    """Parse READ."""
    fh, offset, size, *_ = body.take(wire.READ_IN)
    return Read(Fh(fh), offset, size)


def parse_readdir(header: Header, body: Body) -> List:
    """Parse READDIR of a directory that was opened without us."""
    _, position, size, *_ = body.take(wire.READ_IN)
    return List(header.ino, position, size, is_plus=False)


def parse_readdirplus(header: Header, body: Body) -> List:
    """Parse READDIRPLUS of a directory that was opened without us."""
    _, position, size, *_ = body.take(wire.READ_IN)
    return List(header.ino, position, size, is_plus=True)


def parse_write(_header: Header, body: Body) -> Write:
    """Parse WRITE."""
    fh, offset, size, *_ = body.take(wire.WRITE_IN)
    return Write(Fh(fh), offset, body.content(size))


def parse_sync(_header: Header, body: Body) -> Sync:
    """Parse FSYNC."""
    fh, flags, _ = body.take(wire.FSYNC_IN)
    return Sync(Fh(fh), data_only=bool(flags & wire.FSYNC_DATA_ONLY))


def parse_fsyncdir(header: Header, body: Body) -> SyncDirectory:
    """Parse FSYNCDIR of a directory that was opened without us."""
    _, flags, _ = body.take(wire.FSYNC_IN)
    return SyncDirectory(header.ino, data_only=bool(flags & wire.FSYNC_DATA_ONLY))


def parse_getxattr(header: Header, body: Body) -> GetXattr:
    """Parse GETXATTR."""
    size, _ = body.take(wire.GETXATTR_IN)
    return GetXattr(header.ino, body.name(), size)


def parse_listxattr(header: Header, body: Body) -> GetXattr:
    """Parse LISTXATTR."""
    size, _ = body.take(wire.GETXATTR_IN)
    return GetXattr(header.ino, b"", size)


def parse_removexattr(header: Header, body: Body) -> GetXattr:
    """Parse REMOVEXATTR."""
    return GetXattr(header.ino, body.name(), 0)


def parse_setxattr(header: Header, body: Body) -> SetXattr:
    """Parse SETXATTR."""
    size, flags = body.take(wire.SETXATTR_IN)
    name = body.name()
    return SetXattr(header.ino, name, body.content(size), flags)


def parse_interrupt(_header: Header, body: Body) -> int:
    """Parse INTERRUPT: return the number of the request that nobody waits for any more."""
    (unique,) = body.take(wire.INTERRUPT_IN)
    return unique
