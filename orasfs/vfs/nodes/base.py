"""What every node offers, and the answers it gives.

Owns the shape that `orasfs.vfs.filesystem` dispatches to. A node is one kind of thing; what it
cannot do, it inherits from `Node`, which refuses.

Methods named `..._now` never wait: they return None where waiting is needed, and the method
without the suffix is then asked.
"""

import stat
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from orasfs.errors import InvalidInput, IsADirectory, NotADirectory
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.inodes import Key
from orasfs.vfs.operations import FOREVER_SECONDS
from orasfs.vfs.xattrs import absent

DIRECTORY_MODE = stat.S_IFDIR | 0o755
LISTING_BATCH = 256


@dataclass(frozen=True, slots=True)
class Stat:
    """Attributes but for the inode number: `mode` with the file type bits, `size` in bytes."""

    mode: int
    size: int = 0
    mtime_ns: int = 0
    link_count: int = 1


PLAIN_DIRECTORY = Stat(DIRECTORY_MODE)


@dataclass(frozen=True, slots=True)
class Found:
    """A name exists; for how many seconds the kernel may keep the name."""

    node: "Node"
    name_seconds: float = FOREVER_SECONDS


@dataclass(frozen=True, slots=True)
class Missing:
    """A name does not exist; for how many seconds the kernel may believe that."""

    seconds: float = FOREVER_SECONDS


Answer = Found | Missing


@dataclass(frozen=True, slots=True)
class Listed:
    """A name in a listing."""

    name: str
    found: Found


class Listing(Protocol):
    """A listing under way."""

    def more_now(self) -> Sequence[Listed] | None:
        """Return the next names if they are at hand (none at the end), else None."""
        ...

    async def more(self) -> Sequence[Listed]:
        """Return the next names, none at the end."""
        ...


class IteratorListing:
    """A listing whose names are at hand."""

    def __init__(self, names: Iterator[Listed]) -> None:
        self._names = names

    def more_now(self) -> Sequence[Listed]:
        """Return the next names, none at the end."""
        return list(islice(self._names, LISTING_BATCH))

    async def more(self) -> Sequence[Listed]:
        """Return the next names, none at the end."""
        return self.more_now()


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file's bytes, and what the kernel may cache of them.

    Attributes:
        digest: of the blob that is read, if it is one.
    """

    reader: BlobReader
    keep_cache: bool = True
    direct_io: bool = False
    digest: Digest | None = None


class Node:
    """A thing in the mount; this class refuses everything but having attributes.

    Attributes:
        key: what tells it from all others in the mount.
        errors: where its failures are remembered for `.oras/error`.
    """

    __slots__ = ("__weakref__", "errors", "key")

    def __init__(self, key: Key, errors: ErrorLog) -> None:
        self.key = key
        self.errors = errors

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key.hex()[:8]}>"

    @property
    def content_digest(self) -> Digest | None:
        """The digest of the blob whose bytes the kernel caches for this node."""
        return None

    @property
    def attr_seconds(self) -> float:
        """For how many seconds the kernel may keep the attributes."""
        return FOREVER_SECONDS

    def stat(self) -> Stat:
        """Return the attributes; never waits."""
        return PLAIN_DIRECTORY

    def lookup_now(self, name: str) -> Answer | None:  # noqa: ARG002 - for those that can
        """Find a name, if that needs no waiting."""
        return None

    def lookup(self, name: str) -> Awaitable[Answer]:
        """Find a name.

        Raises:
            NotADirectory: this is none.
        """
        raise NotADirectory(f"{name}: looked for in something that is no directory")

    def listing_now(self) -> Listing | None:
        """Begin a listing, if that needs no waiting."""
        return None

    def listing(self) -> Awaitable[Listing]:
        """Begin a listing.

        Raises:
            NotADirectory: this is no directory.
        """
        raise NotADirectory("not a directory")

    def open_now(self) -> Opened | None:
        """Open the file, if that needs no waiting."""
        return None

    def open(self) -> Awaitable[Opened]:
        """Open the file.

        Raises:
            IsADirectory: this is no file.
        """
        raise IsADirectory("not a file")

    def readlink(self) -> str:
        """Return a symlink's target.

        Raises:
            InvalidInput: this is none.
        """
        raise InvalidInput("not a symbolic link")

    def getxattr_now(self, name: str) -> bytes | None:
        """Return an extended attribute of `user.oras.`, None if that needs waiting.

        Raises:
            NoAttribute: there is none of this name.
        """
        raise absent(name)

    def getxattr(self, name: str) -> Awaitable[bytes]:
        """Return an extended attribute; raises as `getxattr_now`."""
        raise absent(name)

    def listxattr_now(self) -> Sequence[str] | None:
        """Return the names that a copy should carry, None if that needs waiting."""
        return ()

    def listxattr(self) -> Awaitable[Sequence[str]]:
        """Return the names that a copy should carry."""
        raise NotImplementedError  # only for those whose `listxattr_now` may return None
