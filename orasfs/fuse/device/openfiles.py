"""How the kernel has the files of each inode open: from its cache, past it, or passed through.

Owns the table of open files, and which backing file is registered for which inode. Decides; the
registering itself is the channel's.

The kernel (fs/fuse/iomode.c) has an inode either in its cache or passed through: an open that does
not agree with those that are still alive fails with EIO. It counts a file as closed before it
sends RELEASE, so what is alive here is at least what is alive there.

INVARIANT: all files of an inode that are open at one time are cached, or all passed through to one
and the same backing file.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

from orasfs.errors import Busy
from orasfs.fuse.device.wire import Opened
from orasfs.vfs.operations import Fh, Ino, OpenFile

logger = logging.getLogger(__name__)


class Registry(Protocol):
    """Registers files that the kernel may read by itself."""

    def open_backing(self, fd: int) -> int:
        """Return the number of the registration; raises OSError where it cannot be."""
        ...

    def close_backing(self, backing_id: int) -> None:
        """Take it back."""
        ...


@dataclass(slots=True)
class _Inode:
    """How many files are open cached, and how many are passed through to `backing_id`."""

    cached: int = 0
    passed: int = 0
    backing_id: int = 0


class OpenFiles:
    """The open files of a session.

    Args:
        registry: registers backing files; None passes nothing through.
    """

    def __init__(self, registry: Registry | None) -> None:
        self._registry = registry
        self._inodes: dict[Ino, _Inode] = {}
        self._cached: dict[Fh, Ino] = {}
        self._passed: dict[Fh, Ino] = {}

    def __repr__(self) -> str:
        return f"<OpenFiles {len(self._cached)} cached, {len(self._passed)} passed through>"

    @property
    def may_pass(self) -> bool:
        """Whether files are passed through where they can be."""
        return self._registry is not None

    def add(self, ino: Ino, file: OpenFile, backing_fd: int | None) -> tuple[Opened, int]:
        """Note a file that is being opened; return how, and the number of its backing file.

        Args:
            ino: of which inode.
            file: what the filesystem says of it.
            backing_fd: a file with the same bytes, if there is one; never of what is written,
                since the kernel opens it again as ours was opened.
        """
        inode = self._inodes.get(ino)
        if inode is not None and inode.passed:
            # What has no backing file any more is being edited. With both flags it is read from
            # us after all; only a mapping still shows what it was.
            past_cache = Opened.DIRECT_IO if backing_fd is None else Opened(0)
            return self._add_passed(ino, inode, file) | past_cache, inode.backing_id
        if backing_fd is None or file.direct_io or inode is not None:
            return self._add_cached(ino, file)
        backing_id = self._register(backing_fd)
        if not backing_id:
            return self._add_cached(ino, file)
        inode = self._inodes[ino] = _Inode(backing_id=backing_id)
        return self._add_passed(ino, inode, file), backing_id

    def is_alone(self, ino: Ino) -> bool:
        """Tell whether one file of an inode is open, cached: then nothing of it is being read."""
        inode = self._inodes.get(ino)
        return inode is not None and inode.cached == 1

    def is_open(self, ino: Ino) -> bool:
        """Tell whether any file of an inode is open."""
        return ino in self._inodes

    def check_writable(self, ino: Ino) -> None:
        """Refuse to have a file written that is passed through.

        Raises:
            Busy: it is; the kernel could only fail, after the file was opened and cut off.
        """
        inode = self._inodes.get(ino)
        if inode is not None and inode.passed:
            raise Busy("others have it open to read, past the daemon; it can be written then")

    def _add_passed(self, ino: Ino, inode: _Inode, file: OpenFile) -> Opened:
        inode.passed += 1
        self._passed[file.fh] = ino
        return Opened.PASSTHROUGH

    def _add_cached(self, ino: Ino, file: OpenFile) -> tuple[Opened, int]:
        if file.direct_io:
            return Opened.DIRECT_IO, 0
        self._inodes.setdefault(ino, _Inode()).cached += 1
        self._cached[file.fh] = ino
        return Opened.KEEP_CACHE if file.keep_cache else Opened(0), 0

    def remove(self, fh: Fh) -> Ino | None:
        """Note that a file is closed; return its inode if it was the last one cached."""
        if fh in self._passed:
            ino = self._passed.pop(fh)
            inode = self._inodes[ino]
            inode.passed -= 1
            if not inode.passed:
                self._unregister(inode.backing_id)
                del self._inodes[ino]
        elif fh in self._cached:
            ino = self._cached.pop(fh)
            inode = self._inodes[ino]
            inode.cached -= 1
            if not inode.cached:
                del self._inodes[ino]
                return ino
        return None

    def _register(self, fd: int) -> int:
        """Return the number of a registration, 0 if there is none."""
        if self._registry is None:
            return 0
        try:
            return self._registry.open_backing(fd)
        except OSError as error:
            # ELOOP: the cache is on an overlay. Whatever it is, it will be so for the next file.
            logger.warning("files are not passed through: %s", error)
            self._registry = None
            return 0

    def _unregister(self, backing_id: int) -> None:
        if self._registry is not None:
            self._registry.close_backing(backing_id)
