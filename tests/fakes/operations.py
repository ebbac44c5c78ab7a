"""A small filesystem in memory behind the port of the filesystem, with knobs by file name.

plain           a file of bytes at hand            slow      a file whose bytes need a wait
    hang            a file whose bytes never come
empty           a file of none                     link      a symlink to `plain`
dir/            a directory of 300 files           caf\udce9 a name that is no UTF-8
raise-NAME      lookup raises orasfs.errors.NAME   raise-bug raises what nobody foresaw
hang-lookup     a lookup that never ends            slow-lookup a file that is found late
given           a file of other bytes than those that the kernel is given unasked
backed          a file that is in another file, too, whose bytes are others, to tell them apart
    hide-backing, show-backing  lookups that take that other file away, and give it back
    replace-plain   a lookup that replaces the bytes of `plain` and tells the kernel
    let-late-appear a lookup that makes `late` and tells the kernel
"""

import errno
import itertools
import math
import os
import stat
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from orasfs import errors
from orasfs.vfs.operations import (
    ROOT_INO,
    Attr,
    DirectoryEntry,
    Entry,
    Fh,
    FilesystemStatus,
    Ino,
    MemberRow,
    Notifier,
    OpenFile,
)
from tests.fakes.unchangeable import Unchangeable

PLAIN = b"plain text\n"
REPLACED = b"other text\n"
SLOW = bytes(range(256)) * 2048  # 512 KiB: several requests
ASKED = b"asked of the filesystem\n" * 1000
GIVEN = b"given to the kernel once".ljust(len(ASKED), b"!")
BACKING = b"read from a backing file" * 1000
CHILDREN = 300
SLOW_LOOKUP_SECONDS = 1.0
MTIME_NS = 1_700_000_000_123_456_789


@dataclass(frozen=True, slots=True)
class FakeNode:
    """A node: what its attributes are made of."""

    mode: int
    content: bytes = b""


def _nodes() -> dict[str, FakeNode]:
    top = {
        "plain": FakeNode(stat.S_IFREG | 0o644, PLAIN),
        "empty": FakeNode(stat.S_IFREG | 0o600),
        "slow": FakeNode(stat.S_IFREG | 0o755, SLOW),
        "given": FakeNode(stat.S_IFREG | 0o644, ASKED),
        "backed": FakeNode(stat.S_IFREG | 0o644, ASKED),
        "slow-lookup": FakeNode(stat.S_IFREG | 0o644, PLAIN),
        "hang": FakeNode(stat.S_IFREG | 0o644, SLOW),
        "link": FakeNode(stat.S_IFLNK | 0o777, b"plain"),
        "caf\udce9": FakeNode(stat.S_IFREG | 0o644, PLAIN),
        "dir": FakeNode(stat.S_IFDIR | 0o755),
    }
    children = {f"dir/{n:03}": FakeNode(stat.S_IFREG | 0o644, b"x" * n) for n in range(CHILDREN)}
    return {"": FakeNode(stat.S_IFDIR | 0o755), **top, **children}


class FakeOperations(Unchangeable):
    """Implements `orasfs.vfs.operations.MountOperations`."""

    def __init__(self, notifier: Notifier | None = None) -> None:
        self._notifier = notifier
        self._nodes = _nodes()
        self._paths = list(self._nodes)  # an inode is a place in this list, from 1
        self.lookups: dict[Ino, int] = {}
        self.open_handles: dict[Fh, Ino] = {}
        self.requests: list[str] = []
        self.followers: dict[Ino, Ino] = {}
        self._backing_fd = os.memfd_create("backing")
        weakref.finalize(self, os.close, self._backing_fd)
        os.write(self._backing_fd, BACKING)
        self._has_backing = True
        self._numbers = itertools.count(1000)

    def _path(self, ino: Ino) -> str:
        return self._paths[ino - 1]

    def _attr(self, ino: Ino) -> Attr:
        node = self._nodes[self._path(ino)]
        return Attr(ino, node.mode, len(node.content), MTIME_NS)

    def _entry(self, ino: Ino) -> Entry:
        return Entry(self._attr(ino), 60.0, 60.0)

    def lookup_now(self, parent: Ino, name: str) -> Entry | None:
        return None

    async def lookup(self, parent: Ino, name: str) -> Entry:
        self.requests.append(f"lookup {name}")
        await trio.lowlevel.checkpoint()
        if name == "hang-lookup":
            await trio.sleep_forever()
        if name == "slow-lookup":
            await trio.sleep(SLOW_LOOKUP_SECONDS)
        if name in {"hide-backing", "show-backing"}:
            self._has_backing = name == "show-backing"
            return Entry(None, 0.0, 0.0)
        if name == "raise-bug":
            raise ZeroDivisionError(name)
        if name == "replace-plain" and self._notifier:
            self._nodes["plain"] = FakeNode(stat.S_IFREG | 0o644, REPLACED)
            self._notifier.invalidate_content(Ino(self._paths.index("plain") + 1))
        if name == "let-late-appear" and self._notifier:
            self._nodes["late"] = FakeNode(stat.S_IFREG | 0o644, PLAIN)
            self._paths.append("late")
            self._notifier.invalidate_entry(ROOT_INO, "late")
        if name.startswith("raise-"):
            raise getattr(errors, name.removeprefix("raise-"))(f"{name}: asked for")
        path = "/".join(filter(None, [self._path(parent), name]))
        if path not in self._nodes:
            return Entry(None, 60.0, 0.0)
        ino = Ino(self._paths.index(path) + 1)
        self.count_lookup(ino)
        return self._entry(ino)

    async def getattr(self, ino: Ino) -> tuple[Attr, float]:
        await trio.lowlevel.checkpoint()
        return self._attr(ino), 60.0

    def getattr_now(self, ino: Ino) -> tuple[Attr, float] | None:
        return None

    def forget(self, ino: Ino, lookups: int) -> None:
        self.lookups[ino] = self.lookups.get(ino, 0) - lookups

    def count_lookup(self, ino: Ino) -> None:
        self.lookups[ino] = self.lookups.get(ino, 0) + 1

    async def readlink(self, ino: Ino) -> str:
        await trio.lowlevel.checkpoint()
        return self._nodes[self._path(ino)].content.decode()

    def open_now(self, ino: Ino, flags: int) -> OpenFile | None:
        return None

    async def open(self, ino: Ino, flags: int) -> OpenFile:
        await trio.lowlevel.checkpoint()
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise errors.ReadOnly("committed")
        fh = Fh(next(self._numbers))
        self.open_handles[fh] = ino
        return OpenFile(fh, keep_cache=True, direct_io=False)

    def read_now(self, fh: Fh, offset: int, size: int) -> bytes | None:
        path = self._path(self.open_handles[fh])
        if path in {"slow", "hang"}:
            return None
        return self._nodes[path].content[offset : offset + size]

    async def read(self, fh: Fh, offset: int, size: int) -> bytes:
        path = self._path(self.open_handles[fh])
        await trio.sleep(math.inf if path == "hang" else 0.001)
        return self._nodes[path].content[offset : offset + size]

    def whole_now(self, fh: Fh) -> bytes | None:
        return GIVEN if self._path(self.open_handles[fh]) == "given" else None

    def follower(self, fh: Fh) -> Ino | None:
        return self.followers.get(self.open_handles[fh])

    def whole_of(self, ino: Ino) -> bytes | None:
        return GIVEN if self._path(ino) == "given" else None

    def backing_fd(self, fh: Fh) -> int | None:
        is_backed = self._path(self.open_handles[fh]) == "backed" and self._has_backing
        return self._backing_fd if is_backed else None

    def release(self, fh: Fh) -> None:
        del self.open_handles[fh]

    def opendir_now(self, ino: Ino) -> Fh | None:
        return None

    async def opendir(self, ino: Ino) -> Fh:
        await trio.lowlevel.checkpoint()
        return Fh(ino)

    def keeps_names(self, fh: Fh) -> bool:
        return self._path(Ino(fh)) == "dir"

    def readdir_now(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry] | None:
        return None

    async def readdir(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry]:
        self.requests.append(f"readdir {self._path(Ino(fh))}")
        await trio.lowlevel.checkpoint()
        prefix = f"{self._path(Ino(fh))}/".removeprefix("/")
        found = [
            (path.removeprefix(prefix), Ino(place + 1))
            for place, path in enumerate(self._paths)
            if path not in {"", "slow-lookup"}  # which is never in the kernel's cache before
            and path.startswith(prefix)
            and "/" not in path.removeprefix(prefix)
        ]
        return [
            DirectoryEntry(name, self._entry(ino), place + 1)
            for place, (name, ino) in enumerate(found)
            if place >= start_id
        ]

    def list_members(
        self, fh: Fh, start_id: int, consume: Callable[[Iterator[MemberRow]], Sequence[Ino]]
    ) -> bool:
        return False

    def releasedir(self, fh: Fh) -> None:
        pass

    def getxattr_now(self, ino: Ino, name: str) -> bytes | None:
        return None

    async def getxattr(self, ino: Ino, name: str) -> bytes:
        await trio.lowlevel.checkpoint()
        if name.startswith("system.posix_acl"):
            raise errors.Unsupported("no ACLs")
        if name == "user.fake.requests":
            return "\n".join(self.requests).encode()
        if name == "user.fake.balance":
            held = {ino: count for ino, count in self.lookups.items() if ino != ROOT_INO}
            return str(min(held.values(), default=0)).encode()
        if name != "user.fake":
            raise errors.NoAttribute(errno.errorcode[errno.ENODATA])
        return b"value"

    async def listxattr(self, ino: Ino) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ["user.fake"] if self._path(ino) == "plain" else []

    def statfs(self) -> FilesystemStatus:
        return FilesystemStatus(4096, 1000, 500, 400, 10_000, 9_000)
