"""Bringing content into the store: a locked temporary file becomes a blob once it is verified.

Owns the files below ingest/: `<algorithm>-<hex>.partial`, one a digest, which a later run resumes,
and `orasfs-*.tmp`, private ones that no one resumes. A partial that came in pieces has a map
beside it (`orasfs.store.files.chunkmapfile`). Both kinds are held by an exclusive flock while in
use, so that a killed process leaves nothing locked. Knows no network and no trio; one ingest is
used by one thread, beside which a large one has another that hashes.

INVARIANT: a name below blobs/ is given only by `Ingest.publish`, after `Ingest.verify`, or to a
file that has not changed since this process found its digest (`orasfs.store.adopt`).
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from orasfs.errors import ContentMismatch
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, Verifier
from orasfs.store.files import chunkmapfile, disk, leases
from orasfs.store.files.claims import Claim, Claimant, no_claim
from orasfs.store.files.hashing import FollowingVerifier

_CHUNK_BYTES = 1024 * 1024
_ALONE_BYTES = 4 * 1024 * 1024  # what is hashed by the time that another thread has begun
_BLOB_MODE = 0o444  # as the reference client's cache
_PRIVATE_PREFIX = "orasfs-"
_PRIVATE_SUFFIX = ".tmp"


class Incoming:
    """The file of a blob on its way into the store, which its writer has locked.

    Args:
        fd: the file, locked.
        path: its temporary name.
        descriptor: what it is to be.
        target: the name that it is to have.
        claim: of the room for it.
    """

    def __init__(
        self,
        fd: int,
        path: Path,
        descriptor: Descriptor,
        target: Path,
        claim: Claim | None = None,
    ) -> None:
        self._fd = fd
        self._claim = claim
        self.path = path
        self._descriptor = descriptor
        self._target = target

    @property
    def size(self) -> int:
        """How many bytes it is to have."""
        return self._descriptor.size

    @property
    def paths(self) -> Mapping[Digest, Path]:
        """Where it can be opened."""
        return {self._descriptor.digest: self.path}

    def share(self) -> None:
        """Let others have the file open, too: nothing is written into it any more."""
        leases.hold(self._fd)

    def open_reader(self) -> int:
        """Return a new descriptor for reading the file; the caller closes it.

        It is an open file of its own, so that it does not keep the lock.
        """
        with disk.translated(f"open {self.path.name}"):
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def publish(self) -> None:
        """Make the verified file durable and give it its final name.

        Raises:
            StorageFull: the disk is full, which a disk may say as late as here.
        """
        publish(self._fd, self.path, self._target, self._descriptor)


class Ingest(Incoming):
    """One blob on its way into the store: bytes in order, then `verify`, then `publish`.

    Attributes:
        path: its temporary name.
        offset: how many bytes are in the file.
        resumed: how many of them an earlier run left; nothing is known of their origin.
    """

    def __init__(
        self,
        fd: int,
        path: Path,
        descriptor: Descriptor,
        target: Path,
        claim: Claim | None = None,
    ) -> None:
        super().__init__(fd, path, descriptor, target, claim)
        self._verifier = Verifier(descriptor.digest, descriptor.size)
        self._follower: FollowingVerifier | None = None
        self.offset = 0
        self.resumed = 0

    def __repr__(self) -> str:
        return f"<Ingest {self._descriptor.digest} {self.offset}/{self._descriptor.size}>"

    def resume(self, on_progress: Callable[[int], None]) -> None:
        """Hash what an earlier run left; `on_progress` gets the offset and may raise to stop.

        Raises:
            StorageFailure: the disk failed.
        """
        with disk.translated(f"resume {self.path.name}"):
            chunkmapfile.flatten(self._fd, self.path, self._descriptor.size)
            if os.fstat(self._fd).st_size > self._descriptor.size:
                os.ftruncate(self._fd, 0)
            while content := os.pread(self._fd, _CHUNK_BYTES, self.offset):
                self._verifier.update(content)
                self.offset += len(content)
                self.resumed = self.offset
                on_progress(self.offset)

    def append(self, content: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            ContentMismatch: they are more than the descriptor says.
            StorageFull: the disk is full.
        """
        if self._follower is None and self._descriptor.size - self.offset > _ALONE_BYTES:
            self._follower = FollowingVerifier(self._fd, self._verifier, self.offset)
        end = self.offset + len(content)
        if self._follower is None or end > self._descriptor.size:
            self._catch_up()
            self._verifier.update(content)
        with disk.translated(f"write {self.path.name}"):
            disk.write_fully(self._fd, content, self.offset)
        self.offset = end
        if self._follower is not None:
            self._follower.advance(end)

    def verify(self) -> None:
        """Check size and digest of all that was taken.

        Raises:
            ContentMismatch: they are not what the descriptor says.
            StorageFailure: they cannot be read back.
        """
        self._catch_up()
        self._verifier.finish()

    def _catch_up(self) -> None:
        """Let all bytes in the file have passed the verifier."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.finish()

    def close(self, *, keep: bool) -> None:
        """Let go of the file; what was not published stays if `keep` and it can be resumed."""
        if self._fd < 0:
            return
        if self._follower is not None:
            self._follower.abandon()
        if not keep or self.path.name.startswith(_PRIVATE_PREFIX):
            with disk.translated(f"remove {self.path.name}"):
                unlink_if_same(self._fd, self.path)
        os.close(self._fd)
        self._fd = -1
        if self._claim is not None:
            self._claim.settle()


def open_partial(
    directory: Path, descriptor: Descriptor, target: Path, claim: Claimant = no_claim
) -> Ingest:
    """Begin an ingest, on what an earlier run left if no one else is at it.

    Raises:
        StorageFailure: the file cannot be made.
        StorageFull: there is no room for it.
    """
    digest = descriptor.digest
    with disk.translated(f"ingest {digest}"):
        path = partial_path(directory, digest)
        fd = open_locked(path)
        if fd is None:
            fd, path = open_private(directory)
    return begin(fd, path, descriptor, target, claim)


def begin(
    fd: int, path: Path, descriptor: Descriptor, target: Path, claim: Claimant = no_claim
) -> Ingest:
    """Begin an ingest on a locked file, once there is room for all of it.

    Raises:
        StorageFull: there is none; a file without content is gone.
    """
    try:
        claimed = claim(path, descriptor.size, target)
    except BaseException:
        abandon(fd, path)
        raise
    return Ingest(fd, path, descriptor, target, claimed)


def abandon(fd: int, path: Path) -> None:
    """Close a locked file that is not to be written; it stays if a later run can use it."""
    with contextlib.suppress(OSError):
        if not os.fstat(fd).st_size or path.name.startswith(_PRIVATE_PREFIX):
            unlink_if_same(fd, path)
    os.close(fd)


def publish(fd: int, path: Path, target: Path, descriptor: Descriptor) -> None:
    """Make a verified temporary file durable and give it its final name.

    Raises:
        StorageFull: the disk is full, which a disk may say as late as here.
    """
    with disk.translated(f"keep {descriptor.digest}"):
        os.fsync(fd)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        leases.hold(fd)  # what has its name is locked for reading only
        # After the rename: a partial that is read-only could not be resumed.
        os.fchmod(fd, _BLOB_MODE)
        disk.sync_directory(target.parent)


def partial_path(directory: Path, digest: Digest) -> Path:
    """Return where the resumable partial of a blob is."""
    return directory / f"{digest.algorithm}-{digest.hex}.partial"


def open_private(directory: Path) -> tuple[int, Path]:
    """Make a locked temporary file that only the caller uses; the `OSError` is the caller's."""
    while True:
        path = directory / f"{_PRIVATE_PREFIX}{secrets.token_hex(12)}{_PRIVATE_SUFFIX}"
        fd = open_locked(path)
        if fd is not None:
            return fd, path


def sweep(directory: Path) -> None:
    """Remove the private files that no living process holds; looks at ingest/ only."""
    for path in directory.glob(f"{_PRIVATE_PREFIX}*{_PRIVATE_SUFFIX}"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlink_if_same(fd, path)
        except OSError:
            continue  # in use, or another sweep was faster
        finally:
            os.close(fd)


def open_locked(path: Path) -> int | None:
    """Open or make a file and lock it; None if another holds the lock."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        # Between open and lock the previous holder may have published or removed the file: to
        # write into it now would be to write into a blob.
        if is_same(fd, path):
            return fd
        os.close(fd)


def is_same(fd: int, path: Path) -> bool:
    """Tell whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def unlink_if_same(fd: int, path: Path) -> None:
    """Remove the name of an open file, if it still has it."""
    if is_same(fd, path):
        path.unlink(missing_ok=True)


def check_bytes(content: bytes, descriptor: Descriptor) -> bool:
    """Tell whether `content` is what the descriptor says."""
    verifier = Verifier(descriptor.digest, descriptor.size)
    try:
        verifier.update(content)
        verifier.finish()
    except ContentMismatch:
        return False
    return True
