"""A draft's content as a real directory tree: every operation is passed on to the disk.

Owns the step from identities to real paths. What was fsynced is durable because the disk says so;
there is no journal of our own. Metadata operations are made at once, as those of a local disk are.

INVARIANT: no staged symlink is ever followed, and no name leads out of the tree.
INVARIANT: names that begin with `user.orasfs.` are our own attributes; nobody else sees them.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from orasfs.errors import InvalidName
from orasfs.staging import localdisk
from orasfs.staging.changes import AttrChanges
from orasfs.staging.identity import Identities, Identity
from orasfs.staging.localdisk import refusal, translated
from orasfs.staging.openfile import OpenStaged, real_flags
from orasfs.staging.writtendigest import WrittenDigests

OWN_PREFIX = "user.orasfs."
LOWER = f"{OWN_PREFIX}lower"  # of a file: its bytes are those at this path of the base
PENDING = f"{OWN_PREFIX}pending"  # of a directory: it has yet to get its entries from the base
_USER_PREFIX = "user."
_PERMISSIONS = 0o7777
_NO_ATTRIBUTES = frozenset({errno.ENOTSUP, errno.ENODATA})


class Workspace:
    """A tree of real files below `root`, which exists.

    Every method may raise `StorageFull`, and `LocalFailure` with the operating system's number.

    Attributes:
        top: the tree's top directory.
        digests: of files that are written.
        device: the disk's number, as in stat(2).
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._identities = Identities()
        self.digests = WrittenDigests()
        with translated(self._root):
            status = os.lstat(self._root)
        self.top = Identity(status, is_top=True)
        self.device = status.st_dev

    def __repr__(self) -> str:
        return f"<Workspace {self._root}>"

    def path(self, identity: Identity) -> str:
        """Return the real path of an identity.

        Raises:
            LocalFailure: it has been removed.
        """
        parts = identity.parts()
        if parts is None:
            raise refusal("removed meanwhile", errno.ENOENT)
        return "/".join([self._root, *parts])

    def status(self, identity: Identity) -> os.stat_result:
        """Return the attributes; of what is removed and not open, the last that were known."""
        if identity.fds:
            with translated("stat"):
                return os.fstat(identity.fds[-1])
        if identity.is_removed and identity.last is not None:
            return identity.last
        path = self.path(identity)
        with translated(path):
            return os.lstat(path)

    def find(self, parent: Identity, name: str) -> Identity | None:
        """Return what has this name, None if nothing has."""
        path = self._join(parent, name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise localdisk.failure(name, error) from error
        return self._identities.named(parent, name, status)

    def names(self, directory: Identity) -> Sequence[str]:
        """Return the names in a directory, sorted; none if it has been removed."""
        if directory.is_removed:
            return ()
        path = self.path(directory)
        with translated(path):
            return sorted(os.listdir(path))  # noqa: PTH208 - names with surrogates, not paths

    def make_directory(self, parent: Identity, name: str, mode: int) -> Identity:
        """Make a directory with exactly this mode."""
        path = self._join(parent, name)
        with translated(name):
            os.mkdir(path, 0o700)  # noqa: PTH102 - a string with surrogates
            os.chmod(path, mode & _PERMISSIONS)  # noqa: PTH101 - the same
        return self._made(parent, name, path)

    def make_file(self, parent: Identity, name: str, mode: int, flags: int) -> OpenStaged:
        """Make a file with exactly this mode, and open it whatever the mode allows."""
        path = self._join(parent, name)
        flags = (real_flags(flags) & ~os.O_TRUNC) | os.O_CREAT | os.O_EXCL
        with translated(name):
            fd = os.open(path, flags, 0o600)
            os.fchmod(fd, mode & _PERMISSIONS)
        return OpenStaged(fd, self._made(parent, name, path), flags, self.digests)

    def make_symlink(self, parent: Identity, name: str, target: str) -> Identity:
        """Make a symbolic link; nobody looks where it leads."""
        path = self._join(parent, name)
        with translated(name):
            os.symlink(target, path)  # noqa: PTH211 - strings with surrogates
        return self._made(parent, name, path)

    def link(self, identity: Identity, parent: Identity, name: str) -> None:
        """Give a file another name."""
        path = self._join(parent, name)
        with translated(name):
            os.link(self.path(identity), path, follow_symlinks=False)
        self._made(parent, name, path)

    def unlink(self, parent: Identity, name: str) -> None:
        """Remove a name of what is no directory."""
        self._remove(parent, name, os.unlink)

    def remove_directory(self, parent: Identity, name: str) -> None:
        """Remove an empty directory."""
        self._remove(parent, name, os.rmdir)

    def rename(self, old: tuple[Identity, str], new: tuple[Identity, str], flags: int = 0) -> None:
        """Rename as renameat2(2)."""
        old_path, new_path = self._join(*old), self._join(*new)
        with translated(f"rename {old[1]}"):
            source = os.lstat(old_path)
            target = os.lstat(new_path) if os.path.lexists(new_path) else None
            localdisk.rename(old_path, new_path, flags)
        if target is not None and target.st_ino == source.st_ino:
            return  # two names of one file: rename(2) leaves both
        if target is not None and flags & localdisk.RENAME_EXCHANGE:
            self._identities.moved(target, new, old)
        elif target is not None:
            self._gone(*new, target)
        self._identities.moved(source, old, new)

    def open(self, identity: Identity, flags: int) -> OpenStaged:
        """Open a file; one that has been removed only as long as somebody has it open."""
        flags = real_flags(flags)
        if identity.is_removed and identity.fds:
            path, flags = f"/proc/self/fd/{identity.fds[-1]}", flags & ~os.O_NOFOLLOW
        else:
            path = self.path(identity)
        with translated("open"):
            return OpenStaged(os.open(path, flags), identity, flags, self.digests)

    def change(
        self, identity: Identity, changes: AttrChanges, opened: OpenStaged | None = None
    ) -> None:
        """Change attributes; through `opened` where it was given, whatever the mode allows."""
        where = identity.fds[-1] if identity.is_removed and identity.fds else self.path(identity)
        with translated("set attributes"):
            if changes.size is not None:
                self._truncate(identity, changes.size, opened)
            if changes.mode is not None:
                self._refuse_symlink(identity)
                os.chmod(where, changes.mode & _PERMISSIONS)  # noqa: PTH101 - may be a number
            if changes.atime_ns is not None or changes.mtime_ns is not None:
                status = self.status(identity)
                times = (
                    status.st_atime_ns if changes.atime_ns is None else changes.atime_ns,
                    status.st_mtime_ns if changes.mtime_ns is None else changes.mtime_ns,
                )
                if isinstance(where, int):
                    os.utime(where, ns=times)
                else:
                    os.utime(where, ns=times, follow_symlinks=False)
                self.digests.touched(identity.number, times[1])

    def readlink(self, identity: Identity) -> str:
        """Return a symlink's target."""
        path = self.path(identity)
        with translated("readlink"):
            return os.readlink(path)  # noqa: PTH115 - a target is no path of ours

    def attributes(self, identity: Identity) -> Sequence[str]:
        """Return the names of the extended attributes that are not our own."""
        if identity.is_removed:
            return ()
        path = self.path(identity)
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_ATTRIBUTES:
                return ()
            raise localdisk.failure("listxattr", error) from error
        shown = (each for each in names if each.startswith(_USER_PREFIX))
        return sorted(each for each in shown if not each.startswith(OWN_PREFIX))

    def attribute(self, identity: Identity, name: str) -> bytes | None:
        """Return an extended attribute, None if it has none of this name."""
        if identity.is_removed or identity.kind == stat.S_IFLNK:
            return None
        path = self.path(identity)
        try:
            return os.getxattr(path, name, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_ATTRIBUTES:
                return None
            raise localdisk.failure(name, error) from error

    def set_attribute(self, identity: Identity, name: str, value: bytes) -> None:
        """Set an extended attribute."""
        path = self.path(identity)
        with translated(name):
            os.setxattr(path, name, value, follow_symlinks=False)

    def remove_attribute(self, identity: Identity, name: str) -> None:
        """Remove an extended attribute."""
        path = self.path(identity)
        with translated(name):
            os.removexattr(path, name, follow_symlinks=False)

    def sync_directory(self, directory: Identity) -> None:
        """Make the names in a directory durable. Blocks for as long as the disk takes."""
        if not directory.is_removed:
            with translated("sync"):
                localdisk.sync_directory(self.path(directory))

    def _join(self, parent: Identity, name: str) -> str:
        if name in {"", ".", ".."} or "/" in name or "\0" in name:
            raise InvalidName(f"name {name!r}: not one")
        return f"{self.path(parent)}/{name}"

    def _made(self, parent: Identity, name: str, path: str) -> Identity:
        with translated(name):
            return self._identities.named(parent, name, os.lstat(path))

    def _remove(self, parent: Identity, name: str, remove: Callable[[str], None]) -> None:
        path = self._join(parent, name)
        with translated(name):
            status = os.lstat(path)
            remove(path)
        self._gone(parent, name, status)

    def _gone(self, parent: Identity, name: str, status: os.stat_result) -> None:
        self.digests.forget(status.st_ino)
        self._identities.removed(parent, name, status)

    def _truncate(self, identity: Identity, size: int, opened: OpenStaged | None) -> None:
        self.digests.forget(identity.number)
        if opened is not None and opened.is_writable:
            os.ftruncate(opened.fd, size)
            return
        opened = self.open(identity, os.O_WRONLY)
        try:
            os.ftruncate(opened.fd, size)
        finally:
            opened.close()

    @staticmethod
    def _refuse_symlink(identity: Identity) -> None:
        if identity.kind == stat.S_IFLNK:
            raise refusal("a symbolic link has no mode", errno.EOPNOTSUPP)
