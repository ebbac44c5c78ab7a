"""What the kernel asks, as values.

Owns what a request has. Pure; how they are read from bytes is in `orasfs.fuse.device.parsing`.
Names are bytes here, without their zero byte.
"""

import os
from dataclasses import dataclass

from orasfs.fuse.device import wire
from orasfs.staging.changes import AttrChanges
from orasfs.vfs.operations import Fh, Ino


@dataclass(frozen=True, slots=True)
class Header:
    """How every request begins.

    Attributes:
        opcode: what is asked; may be one that this does not know.
        unique: the request's number, which the answer repeats.
        ino: what it is about.
        pid: the thread that waits, 0 if it is in a namespace that is not ours.
    """

    opcode: int
    unique: int
    ino: Ino
    pid: int


@dataclass(frozen=True, slots=True)
class InitRequest:
    """The first request: what the kernel can do; `flags` are 64 bits."""

    major: int
    minor: int
    max_readahead: int
    flags: wire.Init


@dataclass(frozen=True, slots=True)
class Forget:
    """References given back: inode and how many."""

    counts: tuple[tuple[Ino, int], ...]


@dataclass(frozen=True, slots=True)
class Of:
    """A request about an inode, without anything else."""

    ino: Ino


@dataclass(frozen=True, slots=True)
class Named:
    """A request about a name in a directory: lookup, unlink, rmdir."""

    parent: Ino
    name: bytes


@dataclass(frozen=True, slots=True)
class Make:
    """A name to be made: mknod, mkdir, and with `flags` of open(2) create."""

    parent: Ino
    name: bytes
    mode: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link to be made."""

    parent: Ino
    name: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """Another name for a file."""

    ino: Ino
    parent: Ino
    name: bytes


@dataclass(frozen=True, slots=True)
class Rename:
    """A rename, with the flags of renameat2(2)."""

    parent: Ino
    name: bytes
    new_parent: Ino
    new_name: bytes
    flags: int


@dataclass(frozen=True, slots=True)
class SetAttr:
    """Attributes to be changed."""

    ino: Ino
    changes: AttrChanges
    fh: Fh | None


@dataclass(frozen=True, slots=True)
class Open:
    """A file to be opened, with the flags of open(2)."""

    ino: Ino
    flags: int

    @property
    def may_change(self) -> bool:
        """Whether the file may be written, or loses its content."""
        return bool(self.flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC))


@dataclass(frozen=True, slots=True)
class Handle:
    """A request about an open file or directory: release, releasedir."""

    fh: Fh


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes behind `offset`, up to `size` of them."""

    fh: Fh
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class List:
    """Entries of a directory behind a position that an entry came with, 0 for the first.

    Attributes:
        size: bytes of answer at most.
        is_plus: whether with attributes, as lookups.
    """

    ino: Ino
    position: int
    size: int
    is_plus: bool


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to be written."""

    fh: Fh
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """A file to be made durable."""

    fh: Fh
    data_only: bool


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    """The names of a directory to be made durable."""

    ino: Ino
    data_only: bool


@dataclass(frozen=True, slots=True)
class GetXattr:
    """An extended attribute; a `size` of 0 asks how long it is. Of `list`, the name is empty."""

    ino: Ino
    name: bytes
    size: int


@dataclass(frozen=True, slots=True)
class SetXattr:
    """An extended attribute to be set, with the flags of setxattr(2)."""

    ino: Ino
    name: bytes
    value: bytes
    flags: int
