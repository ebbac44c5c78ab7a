"""The port of the filesystem: what a transport (FUSE today) asks of it, in our own types.

Each method says when the kernel causes it. Names are `str`, with bytes that are no UTF-8 as
surrogate escapes. Methods raise `orasfs.errors`; the transport turns them into errnos.

Lookup counts (Linux Documentation/filesystems/fuse): the kernel holds a reference to an inode for
each answer to `lookup` and each directory entry it accepted, and gives them back by `forget`.
`lookup` counts by itself; for `readdir` the transport calls `count_lookup` once the kernel has
accepted an entry.
"""

import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from orasfs.staging.changes import AttrChanges

Ino = NewType("Ino", int)
Fh = NewType("Fh", int)

ROOT_INO = Ino(1)
FOREVER_SECONDS = 365 * 86_400.0  # below a digest nothing changes


@dataclass(frozen=True, slots=True)
class Attr:
    """Attributes of an inode; `mode` includes the file type bits, sizes are bytes.

    The owner is the mounting user, which the transport fills in.
    """

    ino: Ino
    mode: int
    size: int
    mtime_ns: int
    link_count: int = 1
    atime_ns: int | None = None
    ctime_ns: int | None = None

    @property
    def times(self) -> tuple[int, int, int]:
        """Of the last read, write and change of attributes; `mtime_ns` where that is all."""
        atime_ns = self.mtime_ns if self.atime_ns is None else self.atime_ns
        ctime_ns = self.mtime_ns if self.ctime_ns is None else self.ctime_ns
        return atime_ns, self.mtime_ns, ctime_ns

    @property
    def blocks(self) -> int:
        """Units of 512 bytes: as for a file without holes, or archivers would write zeros."""
        return -(-self.size // 512)

    @property
    def is_directory(self) -> bool:
        """Whether the mode says directory."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer to a lookup: attributes, and how long the kernel may keep name and attributes.

    A negative entry (`attr` is None) says that the name does not exist, for `name_seconds`.
    """

    attr: Attr | None
    name_seconds: float
    attr_seconds: float


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A name in a listing; `next_id` continues behind it, as long as the handle lives."""

    name: str
    entry: Entry
    next_id: int


# A name for ever with attributes for ever: name, inode, mode, size, mtime in nanoseconds, links.
MemberRow = tuple[bytes, Ino, int, int, int, int]


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file: whether cached pages stay valid, and whether the kernel must not cache."""

    fh: Fh
    keep_cache: bool
    direct_io: bool


@dataclass(frozen=True, slots=True)
class FilesystemStatus:
    """statvfs(3): sizes in `block_size` units, counts of inodes."""

    block_size: int
    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int
    name_max: int = 255


class Operations(Protocol):
    """What the kernel asks. All waits end within the mount's `wait` option."""

    def lookup_now(self, parent: Ino, name: str) -> Entry | None:
        """Find a name if that needs no waiting, else return None: `lookup` is then asked."""
        ...

    async def lookup(self, parent: Ino, name: str) -> Entry:
        """Find a name (any path walk over a name that is not in the kernel's cache)."""
        ...

    async def getattr(self, ino: Ino) -> tuple[Attr, float]:
        """Return attributes and for how many seconds they hold (stat, and before many calls)."""
        ...

    def getattr_now(self, ino: Ino) -> tuple[Attr, float] | None:
        """Return the same if it needs no waiting, else None."""
        ...

    def forget(self, ino: Ino, lookups: int) -> None:
        """Give back references (the kernel dropped the inode). Never raises."""
        ...

    def count_lookup(self, ino: Ino) -> None:
        """Count a reference to an inode that `readdir` returned and the kernel accepted."""
        ...

    async def readlink(self, ino: Ino) -> str:
        """Return a symlink's target."""
        ...

    def open_now(self, ino: Ino, flags: int) -> OpenFile | None:
        """Open a file to read if that needs no waiting, else return None."""
        ...

    async def open(self, ino: Ino, flags: int) -> OpenFile:
        """Open a file; `flags` has the bits of the system call.

        Raises:
            ReadOnly: for writing into what is committed.
            Busy: for writing while a commit runs.
        """
        ...

    def read_now(self, fh: Fh, offset: int, size: int) -> bytes | None:
        """Return bytes that are at hand without waiting, else None: `read` is then asked."""
        ...

    async def read(self, fh: Fh, offset: int, size: int) -> bytes:
        """Read up to `size` bytes; fewer mean the end of the file."""
        ...

    def whole_now(self, fh: Fh) -> bytes | None:
        """Return all of a small file for a cache that will not ask for it then.

        None the next time, if the bytes are not at hand, and of what may change.
        """
        ...

    def follower(self, fh: Fh) -> Ino | None:
        """Return the file that is likely to be opened next, if files are being opened in order.

        To be asked once for each open. The kernel may have that file open.
        """
        ...

    def whole_of(self, ino: Ino) -> bytes | None:
        """Return all of a small file that is not open, as `whole_now` does.

        None as there, and if the kernel does not know the file.
        """
        ...

    def backing_fd(self, fh: Fh) -> int | None:
        """Return a descriptor of a file with exactly these bytes, verified, if there is one now.

        A transport may have the kernel read that by itself. The descriptor is the filesystem's,
        and good until `release`.
        """
        ...

    def release(self, fh: Fh) -> None:
        """Close (the last reference to the open file is gone)."""
        ...

    def opendir_now(self, ino: Ino) -> Fh | None:
        """Open a directory if that needs no waiting, else return None."""
        ...

    async def opendir(self, ino: Ino) -> Fh:
        """Open a directory for listing."""
        ...

    def keeps_names(self, fh: Fh) -> bool:
        """Tell whether the names of an open directory stay: the kernel may then list them."""
        ...

    def readdir_now(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry] | None:
        """Return the next entries if they are at hand, none at the end; else None."""
        ...

    def list_members(
        self, fh: Fh, start_id: int, consume: Callable[[Iterator[MemberRow]], Sequence[Ino]]
    ) -> bool:
        """Let `consume` take the next entries of a directory of one layer; False if it is none.

        The ids of the entries are those of `readdir`, one after the other. What `consume` returns
        counts as lookups.
        """
        ...

    async def readdir(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry]:
        """Return the next entries behind `start_id` (0 begins), none at the end."""
        ...

    def releasedir(self, fh: Fh) -> None:
        """Close a directory."""
        ...

    def getxattr_now(self, ino: Ino, name: str) -> bytes | None:
        """Return the value, or raise as `getxattr`, if that needs no waiting, else return None."""
        ...

    async def getxattr(self, ino: Ino, name: str) -> bytes:
        """Return an extended attribute's value.

        Raises:
            NoAttribute: there is none of this name.
            Unsupported: ACLs.
        """
        ...

    async def listxattr(self, ino: Ino) -> Sequence[str]:
        """Return the names of extended attributes that a copy should carry."""
        ...

    def statfs(self) -> FilesystemStatus:
        """Tell free space (df). Local only: never asks the network."""
        ...


class ChangeOperations(Protocol):
    """What the kernel asks to be changed. Of a name that exists it refuses to make another itself.

    Besides what is listed, every method may raise `ReadOnly` (of what is committed), `Busy` (while
    a commit runs), `StorageFull` and `LocalFailure`. An answer that makes a name counts a lookup.
    """

    async def mkdir(self, parent: Ino, name: str, mode: int) -> Entry:
        """Make a directory: in a draft, or a draft, or a local namespace.

        Raises:
            AlreadyExists: a tag of that name is committed.
            InvalidName: nothing can have that name.
        """
        ...

    async def create(
        self, parent: Ino, name: str, mode: int, flags: int
    ) -> tuple[Entry, OpenFile]:
        """Make a file and open it.

        Raises:
            NotPermitted: outside of a draft.
        """
        ...

    async def mknod(self, parent: Ino, name: str, mode: int) -> Entry:
        """Make a regular file.

        Raises:
            NotPermitted: outside of a draft, or it is to be a device, a FIFO or a socket.
        """
        ...

    async def symlink(self, parent: Ino, name: str, target: str) -> Entry:
        """Make a symbolic link."""
        ...

    async def link(self, ino: Ino, parent: Ino, name: str) -> Entry:
        """Give a file of a draft another name in the same draft.

        Raises:
            CrossDevice: it is somewhere else.
        """
        ...

    async def unlink(self, parent: Ino, name: str) -> None:
        """Remove a name of what is no directory."""
        ...

    async def rmdir(self, parent: Ino, name: str) -> None:
        """Remove an empty directory; the top of a draft: drop the draft.

        Raises:
            NotEmpty: something is in it; always of what is committed.
        """
        ...

    async def rename(
        self, parent: Ino, name: str, new_parent: Ino, new_name: str, flags: int
    ) -> None:
        """Rename, with the flags of renameat2(2).

        Raises:
            CrossDevice: from one draft, or repository, to another.
        """
        ...

    async def setattr(self, ino: Ino, changes: AttrChanges, fh: Fh | None) -> tuple[Attr, float]:
        """Change attributes, of an open file if `fh` is given; answer as `getattr`."""
        ...

    def write_now(self, fh: Fh, offset: int, content: bytes) -> bool:
        """Write all of it unless that needs waiting; if it returns False, `write` is asked."""
        ...

    async def write(self, fh: Fh, offset: int, content: bytes) -> None:
        """Write all of it."""
        ...

    async def fsync(self, fh: Fh, *, data_only: bool) -> None:
        """Make an open file durable; nothing leaves the machine."""
        ...

    async def fsyncdir(self, ino: Ino, *, data_only: bool) -> None:
        """Make a directory's names durable; unless `data_only`, commit a draft by its top."""
        ...

    async def setxattr(self, ino: Ino, name: str, value: bytes) -> None:
        """Set an extended attribute, which may be an order.

        Raises:
            InvalidInput: it is not a valid setting.
            Unsupported: ACLs and other namespaces.
        """
        ...

    async def removexattr(self, ino: Ino, name: str) -> None:
        """Remove an extended attribute.

        Raises:
            NoAttribute: there is none of this name.
        """
        ...


class MountOperations(Operations, ChangeOperations, Protocol):
    """Everything that a transport asks."""


class Notifier(Protocol):
    """What the filesystem tells the kernel unasked."""

    def invalidate_content(self, ino: Ino) -> None:
        """Drop cached pages of the inode; returns at once, works in the background."""
        ...

    def invalidate_entry(self, parent: Ino, name: str) -> None:
        """Drop a name from the kernel's cache; returns at once, works in the background."""
        ...

    async def settle(self) -> None:
        """Wait a moment until what was told before has arrived.

        Not for requests that lock a directory in the kernel: what is told waits for that lock.
        """
        ...
