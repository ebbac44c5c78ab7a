"""What goes back to the kernel, as bytes: attributes, entries, listings, the answer to INIT.

Owns their layout. Pure; the errnos of failures come from `orasfs.fuse.errno`.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orasfs.fuse.answers import BLOCK_SIZE
from orasfs.fuse.device import wire
from orasfs.vfs.operations import (
    FOREVER_SECONDS,
    Attr,
    DirectoryEntry,
    Entry,
    FilesystemStatus,
    Ino,
    MemberRow,
)

DOTS = 2  # entries of a directory that are no names in it: "." and ".."
POSITION_MASK = (1 << 32) - 1  # what of a position counts the entries before it
UNKNOWN_INO = 0xFFFFFFFF

_NS = 1_000_000_000
_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes attributes; `uid` and `gid` own every file: the mounting user."""

    uid: int
    gid: int

    def attr(self, attr: Attr) -> bytes:
        """Return attributes without their validity."""
        times = [divmod(time, _NS) for time in attr.times]
        return wire.ATTR.pack(
            attr.ino,
            attr.size,
            attr.blocks,
            *(seconds & _MASK64 for seconds, _ in times),  # signed again, to the kernel
            *(nanoseconds for _, nanoseconds in times),
            attr.mode,
            attr.link_count,
            *(self.uid, self.gid),
            *(0, BLOCK_SIZE, 0),
        )

    def attributes(self, attr: Attr, valid_seconds: float) -> bytes:
        """Return the answer to GETATTR."""
        return wire.ATTR_OUT.pack(*_duration(valid_seconds), 0) + self.attr(attr)

    def entry(self, entry: Entry) -> bytes:
        """Return the answer to a lookup; a name that is absent has inode 0."""
        name_seconds, name_ns = _duration(entry.name_seconds)
        if entry.attr is None:
            return wire.ENTRY_OUT.pack(0, 0, name_seconds, 0, name_ns, 0) + bytes(wire.ATTR.size)
        seconds, ns = _duration(entry.attr_seconds)
        ino = entry.attr.ino
        head = wire.ENTRY_OUT.pack(ino, 0, name_seconds, seconds, name_ns, ns)
        return head + self.attr(entry.attr)

    def listing(
        self, entries: Iterable[DirectoryEntry], before: int, size: int, *, is_plus: bool
    ) -> tuple[bytes, Sequence[Ino]]:
        """Return as many entries as `size` bytes take, and the inodes that they count for.

        Their positions are their ids and `before`.
        """
        parts: list[bytes] = []
        counted: list[Ino] = []
        for each in entries:
            attr = each.entry.attr
            if attr is None:
                continue
            name = os.fsencode(each.name)
            part = _directory_entry(name, attr.ino, attr.mode, before + each.next_id)
            if is_plus:
                part = self.entry(each.entry) + part
            size -= len(part)
            if size < 0:
                break
            parts.append(part)
            if is_plus:
                counted.append(attr.ino)
        return b"".join(parts), counted

    def dots(self, ino: Ino, position: int, *, is_plus: bool) -> bytes:
        """Return what of "." and ".." is behind a position; they count for nothing.

        The kernel never asks what the directory above is; the number says that it is not known.
        """
        empty = bytes(wire.ENTRY_OUT.size + wire.ATTR.size if is_plus else 0)
        names = enumerate([(b".", ino), (b"..", UNKNOWN_INO)])
        at = position & POSITION_MASK
        return b"".join(
            empty + _directory_entry(name, number, stat.S_IFDIR, position - at + place + 1)
            for place, (name, number) in names
            if place >= at
        )

    def members(
        self, rows: Iterable[MemberRow], before: int, size: int, *, is_plus: bool
    ) -> tuple[bytes, Sequence[Ino]]:
        """Return as many entries as `size` bytes take, and their inodes; as `listing`, in one go.

        Their positions follow `before`.
        """
        buffer = bytearray(size)
        pack, head = wire.DIRENT_PLUS.pack_into, wire.DIRENT_PLUS.size
        if not is_plus:
            pack, head = wire.DIRENT.pack_into, wire.DIRENT.size
        inos: list[Ino] = []
        end = 0
        valid, uid, gid = int(FOREVER_SECONDS), self.uid, self.gid
        for next_id, (name, ino, mode, content, mtime_ns, links) in enumerate(rows, before + 1):
            at, length = end, len(name)
            end = at + head + (length + 7 & ~7)
            if end > size:
                end = at
                break
            entry = ino, next_id, length, mode >> 12
            if is_plus:
                s, ns = divmod(mtime_ns, _NS)
                s &= _MASK64
                of_inode = (ino, content, -(-content // 512), s, s, s, ns, ns, ns, mode, links)
                pack(
                    *(buffer, at, ino, 0, valid, valid, 0, 0),
                    *(*of_inode, uid, gid, 0, BLOCK_SIZE, 0, *entry),
                )
            else:
                pack(buffer, at, *entry)
            buffer[at + head : at + head + length] = name
            inos.append(ino)
        return bytes(memoryview(buffer)[:end]), inos


def _directory_entry(name: bytes, ino: int, mode: int, position: int) -> bytes:
    head = wire.DIRENT.pack(ino, position, len(name), mode >> 12)
    return head + name + bytes(-len(name) % 8)


def _duration(seconds: float) -> tuple[int, int]:
    """Return whole seconds and the nanoseconds beside them."""
    whole = int(seconds)
    return whole, int((seconds - whole) * _NS)


def opened(fh: int, flags: wire.Opened, backing_id: int = 0) -> bytes:
    """Return the answer to OPEN."""
    return wire.OPEN_OUT.pack(fh, flags, backing_id)


def written(size: int) -> bytes:
    """Return the answer to WRITE."""
    return wire.WRITE_OUT.pack(size, 0)


def xattr_size(size: int) -> bytes:
    """Return the answer to GETXATTR and LISTXATTR with no room for the value."""
    return wire.GETXATTR_OUT.pack(size, 0)


def statfs(status: FilesystemStatus) -> bytes:
    """Return the answer to STATFS."""
    return wire.STATFS_OUT.pack(
        status.blocks,
        status.blocks_free,
        status.blocks_available,
        status.files,
        status.files_free,
        status.block_size,
        status.name_max,
        status.block_size,
        0,
    )


def invalidate_inode(ino: int) -> bytes:
    """Return the notification that all pages and attributes of an inode are to be dropped."""
    return wire.INVAL_INODE_OUT.pack(ino, 0, 0)


def store_head(ino: int, size: int) -> bytes:
    """Return the beginning of the notification of an inode's first bytes, which follow it."""
    return wire.STORE_OUT.pack(ino, 0, size, 0)


def invalidate_entry(parent: int, name: bytes) -> bytes:
    """Return the notification that a name is to be dropped."""
    return wire.INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0"
