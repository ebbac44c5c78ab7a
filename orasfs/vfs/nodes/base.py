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
from typing import NoReturn, Protocol, Self

import trio

from orasfs.errors import InvalidInput, IsADirectory, NotADirectory, ReadOnly
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader
from orasfs.staging.changes import AttrChanges
from orasfs.tree.node import PackedLayer
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key, Serial, Series
from orasfs.vfs.operations import FOREVER_SECONDS, MemberRow
from orasfs.vfs.ports import Repository
from orasfs.vfs.xattrs import absent

DIRECTORY_MODE = stat.S_IFDIR | 0o755
LISTING_BATCH = 256


@dataclass(frozen=True, slots=True)
class Stat:
    """Attributes but for the inode number: `mode` with the file type bits, `size` in bytes.

    The times of reading and of the last change of attributes are None where they are `mtime_ns`.
    """

    mode: int
    size: int = 0
    mtime_ns: int = 0
    link_count: int = 1
    atime_ns: int | None = None
    ctime_ns: int | None = None


PLAIN_DIRECTORY = Stat(DIRECTORY_MODE)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a node's bytes come from: a blob, or a packed layer."""

    repository: Repository
    descriptor: Descriptor
    layer: PackedLayer | None = None


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


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something committed is: at a path below the top directory of an artifact."""

    top: "Node"
    path: tuple[str, ...] = ()

    def below(self, name: str) -> "Spot":
        """Return where a name in it is."""
        return Spot(self.top, (*self.path, name))


class Members(Protocol):
    """All names of a directory, which are members of one series."""

    @property
    def series(self) -> Series["Node"]:
        """The series."""
        ...

    def rows(self, base: int, start: int) -> Iterator[MemberRow]:
        """Yield them from the `start`-th on; `base` is the number of the series' first inode."""
        ...


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


class Writer(Protocol):
    """An open file that can be written."""

    def write_now(self, offset: int, content: bytes) -> bool:
        """Write all of it unless that needs waiting; tell whether it is written."""
        ...

    async def write(self, offset: int, content: bytes) -> None:
        """Write all of it."""
        ...

    async def sync(self, *, data_only: bool) -> None:
        """Make it durable."""
        ...


class Backed(Protocol):
    """An open file that may be, byte for byte, another file, which a transport may hand on."""

    def backing_fd(self) -> int | None:
        """Return that file's descriptor, good until this one is closed, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file's bytes, and what the kernel may cache of them.

    Attributes:
        digest: of the blob that is read, if it is one.
        writer: writes the file, if it is one of a draft.
        backed: tells whether it is another file, for what never changes.
    """

    reader: BlobReader
    keep_cache: bool = True
    direct_io: bool = False
    digest: Digest | None = None
    writer: Writer | None = None
    backed: Backed | None = None


class Node:
    """A thing in the mount; this class refuses everything but having attributes.

    Attributes:
        key: what tells it from all others in the mount.
        errors: where its failures are remembered for `.oras/error`.
    """

    __slots__ = ("__weakref__", "_spot", "errors", "key")

    def __init__(self, key: Key, errors: ErrorLog) -> None:
        self._spot: Spot | None = None
        self.key = key
        self.errors = errors

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key.hex()[:8]}>"

    @property
    def is_local(self) -> bool:
        """Whether changes below need no network, and so no deadline."""
        return False

    @property
    def spot(self) -> Spot | None:
        """Where it is in what is committed, if an edit can make it a part of a draft."""
        return self._spot

    def placed(self, spot: Spot | None) -> Self:
        """Learn where it is, and return itself."""
        self._spot = spot
        return self

    @property
    def serial(self) -> Serial | None:
        """Which member of a series it is, so that no object needs to be kept for its inode."""
        return None

    @property
    def keeps_names(self) -> bool:
        """Whether a directory lists the same names for ever, so that the kernel may keep them."""
        return False

    @property
    def content_digest(self) -> Digest | None:
        """The digest of the blob whose bytes the kernel caches for this node."""
        return None

    @property
    def piece(self) -> Piece | None:
        """What the bytes of the file come from, None where that is nothing to fetch."""
        return None

    async def companion(self) -> Piece | None:
        """Return what a directory has besides what is in it, None if nothing."""
        await trio.lowlevel.checkpoint()
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

    def members_now(self) -> Members | None:
        """Return the names as members of a series, if they are, and it is at hand."""
        return None

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

    def relisted(self, listed: Listed) -> Listed | None:
        """Return what a name of a listing stands for now, None if it is gone."""
        return listed

    def check_changeable(self) -> None:
        """Refuse every change.

        Raises:
            ReadOnly: what is committed stays as it is.
        """
        raise ReadOnly("what is committed is read-only; `orasfs edit` makes a draft of it")

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        self.check_changeable()
        raise ReadOnly("this cannot be changed")

    def make_directory(self, name: str, mode: int) -> Awaitable[Found]:
        """Make a directory."""
        self._refuse(name, mode)

    def make_file(self, name: str, mode: int, flags: int) -> Awaitable[tuple[Found, Opened]]:
        """Make a file and open it."""
        self._refuse(name, mode, flags)

    def make_symlink(self, name: str, target: str) -> Awaitable[Found]:
        """Make a symbolic link."""
        self._refuse(name, target)

    def make_link(self, node: "Node", name: str) -> Awaitable[Found]:
        """Give a file another name, in this directory."""
        self._refuse(node, name)

    def unlink(self, name: str) -> Awaitable[None]:
        """Remove a name of what is no directory."""
        self._refuse(name)

    def remove_directory(self, name: str) -> Awaitable[None]:
        """Remove an empty directory."""
        self._refuse(name)

    def rename(self, name: str, target: "Node", new_name: str, flags: int) -> Awaitable[None]:
        """Move a name of this directory to the directory `target`."""
        self._refuse(name, target, new_name, flags)

    def change(self, changes: AttrChanges, opened: Opened | None) -> Awaitable[None]:
        """Change attributes, of an open file if one is given."""
        self._refuse(changes, opened)

    def open_for_writing(self, flags: int) -> Awaitable[Opened]:
        """Open the file with these flags."""
        self._refuse(flags)

    def begin_edit(self) -> Awaitable["Node"]:
        """Make a draft on top of what this is the top directory of; return the draft's."""
        self._refuse()

    def sync_directory(self, *, data_only: bool) -> Awaitable[None]:
        """Make the names in the directory durable."""
        return _nothing_to_do(data_only=data_only)

    def set_attribute(self, name: str, value: bytes) -> Awaitable[None]:
        """Set an extended attribute."""
        self._refuse(name, value)

    def remove_attribute(self, name: str) -> Awaitable[None]:
        """Remove an extended attribute."""
        self._refuse(name)


async def _nothing_to_do(*, data_only: bool) -> None:  # noqa: ARG001 - as `sync_directory`
    """Have everything durable already."""
    await trio.lowlevel.checkpoint()
