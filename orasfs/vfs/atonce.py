"""What the filesystem answers without waiting: one method an operation, None where it must wait.

Owns the first half of the operations that read; `orasfs.vfs.filesystem` has the second, which
waits. A transport that asks here first needs no task for most of what the kernel asks.

INVARIANT: nothing here waits, so that giving inode numbers and returning the answer they are in is
one turn of the loop. Failures are those of the operation that waits.
"""

import os
from collections.abc import Callable, Iterator, Sequence

from orasfs.oci.storage import BlobReader
from orasfs.vfs import xattrs
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import CONTROL_NAME
from orasfs.vfs.nodes.base import Listed, Node, Opened
from orasfs.vfs.nodes.view import LayerSeries
from orasfs.vfs.operations import (
    ROOT_INO,
    Attr,
    DirectoryEntry,
    Entry,
    Fh,
    Ino,
    MemberRow,
    OpenFile,
)
from orasfs.vfs.tables import DirectoryHandle, Tables

READDIR_BATCH = 192  # about what the kernel's buffer takes
WHOLE_BYTES = 64 * 1024  # up to which a file is given whole, read or not
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT


class AtOnce:
    """The half of `orasfs.vfs.operations.Operations` that never waits."""

    _tables: Tables
    _mount: Mount

    def lookup_now(self, parent: Ino, name: str) -> Entry | None:
        """Find a name below an inode if that needs no waiting."""
        node = self._tables.inodes.node(parent)
        if parent == ROOT_INO and name == CONTROL_NAME:
            return None
        with self._tables.remembering(node, f"lookup {name}"):
            answer = node.lookup_now(name)
        return None if answer is None else self._tables.entry(answer)

    def getattr_now(self, ino: Ino) -> tuple[Attr, float]:
        """Return attributes and for how many seconds they hold."""
        node = self._tables.inodes.node(ino)
        return self._tables.attr(ino, node), node.attr_seconds

    def open_now(self, ino: Ino, flags: int) -> OpenFile | None:
        """Open a file to read if that needs no waiting."""
        if flags & WRITE_FLAGS:
            return None
        node = self._tables.inodes.node(ino)
        with self._tables.remembering(node, "open"):
            opened = node.open_now()
        return None if opened is None else self._opened(node, opened)

    def _opened(self, node: Node, opened: Opened) -> OpenFile:
        if opened.digest is not None:
            self._mount.verification.opened(opened.digest, opened.reader)
        return self._tables.open_file(node, opened)

    def whole_now(self, fh: Fh) -> bytes | None:
        """Return all of a small member of a layer, once."""
        handle = self._tables.files.get(fh)
        return self._whole(handle.node, handle.opened.reader)

    def _whole(self, node: Node, reader: BlobReader) -> bytes | None:
        serial = node.serial
        if serial is None or not 0 < reader.size <= WHOLE_BYTES:
            return None
        series = serial.series
        if not isinstance(series, LayerSeries) or not series.give(serial.ordinal):
            return None
        with self._tables.remembering(node, "read"):
            return reader.read_now(0, reader.size)

    def follower(self, fh: Fh) -> Ino | None:
        """Return the next file of a layer whose files are opened in the order of its tar."""
        serial = self._tables.files.get(fh).node.serial
        if serial is None or not isinstance(serial.series, LayerSeries):
            return None
        following = serial.series.follower(serial.ordinal)
        base = None if following is None else self._tables.inodes.base(serial.series)
        return None if following is None or base is None else Ino(base + following)

    def whole_of(self, ino: Ino) -> bytes | None:
        """Return all of a small member of a layer that is not open, once."""
        if not self._tables.inodes.lookups(ino):
            return None
        node = self._tables.inodes.node(ino)
        opened = node.open_now()
        if opened is None:
            return None
        try:
            return self._whole(node, opened.reader)
        finally:
            opened.reader.close()

    def opendir_now(self, ino: Ino) -> Fh | None:
        """Open a directory if that needs no waiting."""
        node = self._tables.inodes.node(ino)
        with self._tables.remembering(node, "list"):
            listing = node.listing_now()
        if listing is None:
            return None
        return self._tables.directories.add(DirectoryHandle(node, listing))

    def getxattr_now(self, ino: Ino, name: str) -> bytes | None:  # noqa: ARG002 - of any inode
        """Refuse what nothing here has.

        The kernel asks for the capabilities of a file at each write(2) into it, and `ls` for its
        ACLs.

        Raises:
            NoAttribute: it is not one of ours.
            Unsupported: ACLs.
        """
        xattrs.check_name(name)
        return None

    def keeps_names(self, fh: Fh) -> bool:
        """Tell whether what an open directory lists is the same for ever."""
        return self._tables.directories.get(fh).node.keeps_names

    def readdir_now(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry] | None:
        """Return the next entries if they are at hand."""
        handle = self._tables.directories.get(fh)
        with self._tables.remembering(handle.node, "list"):
            while handle.snapshot.lacks(start_id):
                if not handle.grow_now():
                    return None
        return self._offer(handle, handle.snapshot.batch(start_id, READDIR_BATCH))

    def list_members(
        self, fh: Fh, start_id: int, consume: Callable[[Iterator[MemberRow]], Sequence[Ino]]
    ) -> bool:
        """Let `consume` take the next entries of a directory of one layer; False if it is none."""
        node, inodes = self._tables.directories.get(fh).node, self._tables.inodes
        with self._tables.remembering(node, "list"):
            members = node.members_now()
            base = None if members is None else inodes.base(members.series)
            if members is None or base is None:
                return False
            taken: Sequence[Ino] = ()
            try:
                taken = consume(members.rows(base, start_id))
            finally:
                inodes.count_members(members.series, [ino - base for ino in taken])
        return True

    def _offer(
        self, handle: DirectoryHandle, batch: Sequence[tuple[int, Listed]]
    ) -> Sequence[DirectoryEntry]:
        """Give inode numbers to a batch, and let go of the batch before it."""
        before, handle.offered = handle.offered, []
        entries = []
        for next_id, snapped in batch:
            listed = handle.node.relisted(snapped)
            if listed is None:
                continue
            ino = self._tables.inodes.pin(listed.found.node)
            handle.offered.append(ino)
            node = self._tables.inodes.present(ino, listed.found.node)
            attr = self._tables.attr(ino, node)
            entry = Entry(attr, listed.found.name_seconds, node.attr_seconds)
            entries.append(DirectoryEntry(listed.name, entry, next_id))
        for ino in before:
            self._tables.inodes.unpin(ino)
        return entries
