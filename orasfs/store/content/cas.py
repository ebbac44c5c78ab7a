"""The content store: verified blobs by digest, in an OCI image layout that `oras` shares.

Owns the root directory: oci-layout and index.json (made if missing, never rewritten), blobs/ and
ingest/. Knows no network and no trio; all calls may block on the disk.

INVARIANT: what is below blobs/ was verified before it got its name. The names need no lock: many
processes may add to one store, since one name always means the same bytes.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from orasfs.errors import StorageFailure, StorageFull
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, verify
from orasfs.store.content.room import Room
from orasfs.store.files import disk, ingest, leases
from orasfs.store.files.chunkfile import ChunkFile, open_chunks
from orasfs.store.files.claims import Claim, Claimant, no_claim
from orasfs.store.files.pending import Patience, PendingBlobs, Unnamed

logger = logging.getLogger(__name__)

# From so many on, to write a blob to the disk is felt by who writes to it meanwhile.
_WORTH_WAITING_BYTES = 4 * 1024 * 1024
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % mediatype.OCI_INDEX.encode()


class ContentStore:
    """Blobs below one root directory, which is made if it is missing.

    Args:
        root: the directory.
        room: what there is room for; None if that is not to be limited.
        patience: how long what is whole may wait for the disk.

    Raises (on construction):
        StorageFailure: the root cannot be made or written.
        StorageFull: the disk is full.
    """

    def __init__(
        self, root: Path, room: Room | None = None, patience: Patience | None = None
    ) -> None:
        self.root = root
        self._room = room
        self._claim: Claimant = no_claim if room is None else room.claim
        self.ingest_directory = root / "ingest"
        self.pending = PendingBlobs(patience)
        if room is not None:
            room.on_shortage(self.pending.settle_all)
        try:
            self._prepare()
        except (StorageFull, StorageFailure) as error:
            # What is in it can be read, and all else passes through without being kept.
            if not (disk.cannot_be_written(error) and (root / "blobs").is_dir()):
                raise
            logger.warning("cache cannot be written, nothing is kept in it: %s", error)

    def _prepare(self) -> None:
        root = self.root
        with disk.translated(f"prepare the cache {root}"):
            # Private: what a registry shows only to this user is no one else's to read.
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / "blobs").mkdir(exist_ok=True)
            self.ingest_directory.mkdir(exist_ok=True)
            ingest.sweep(self.ingest_directory)
            self._make_if_missing("index.json", _INDEX)
            self._make_if_missing("oci-layout", _LAYOUT)

    def __repr__(self) -> str:
        return f"<ContentStore {self.root}>"

    def path_of(self, digest: Digest) -> Path:
        """Return the blob's final name, which it has or would have."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def places_of(self, digest: Digest) -> Iterator[Path]:
        """Yield where the blob may be, to be tried in this order: it moves one way only."""
        pending = self.pending.path_of(digest)
        if pending is not None:
            yield pending
        yield self.path_of(digest)

    def has(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob is here with the descriptor's size."""
        return self.size_of(descriptor.digest) == descriptor.size

    def size_of(self, digest: Digest) -> int | None:
        """Return the size in bytes of the blob that is here, None if there is none."""
        for path in self.places_of(digest):
            with contextlib.suppress(OSError):
                status = path.stat()
                return status.st_size if stat.S_ISREG(status.st_mode) else None
        return None

    def open(self, descriptor: Descriptor) -> int | None:
        """Open the blob for reading; None if it is not here with the descriptor's size.

        It is not evicted as long as it is open.
        """
        for path in self.places_of(descriptor.digest):
            fd = open_regular(path, descriptor.size)
            if fd is not None:
                leases.hold(fd)
                self.touch(self.path_of(descriptor.digest))
                return fd
        return None

    def read_bytes(self, descriptor: Descriptor) -> bytes | None:
        """Return a small blob, verified again; None if it is not here.

        A damaged one is removed, so that it is fetched anew.
        """
        fd = self.open(descriptor)
        if fd is None:
            return None
        path = self.path_of(descriptor.digest)
        try:
            with os.fdopen(fd, "rb") as file:
                content = file.read()
        except OSError:
            return None
        if ingest.check_bytes(content, descriptor):
            return content
        with contextlib.suppress(OSError):  # it is not used in any case
            path.unlink(missing_ok=True)
        return None

    def ingest_bytes(self, descriptor: Descriptor, content: bytes) -> None:
        """Keep `content` as a blob.

        Raises:
            ContentMismatch: it is not what the descriptor says; nothing is kept.
            StorageFull: the disk is full.
        """
        verify(content, descriptor.digest, descriptor.size)
        if self.has(descriptor):
            return
        with disk.translated(f"ingest {descriptor.digest}"):
            fd, path = ingest.open_private(self.ingest_directory)
        incoming = self.begin_in(fd, path, descriptor)
        try:
            incoming.append(content)
            incoming.verify()
            incoming.publish()
        finally:
            incoming.close(keep=False)

    def begin(self, descriptor: Descriptor) -> ingest.Ingest:
        """Begin to take a blob as a stream; call `Ingest.resume` first, and close it in the end.

        Raises:
            StorageFailure: the temporary file cannot be made.
        """
        target = self.path_of(descriptor.digest)
        return ingest.open_partial(self.ingest_directory, descriptor, target, self._claim)

    def keep(self, unnamed: Unnamed) -> None:
        """Take over what is verified: it can be opened at once, and has its name some time later.

        A small one has it now. Waits for a disk that is far behind.

        Raises:
            StorageFull: the disk has no room for a small one.
        """
        if unnamed.size < _WORTH_WAITING_BYTES:
            try:
                unnamed.publish()
            finally:
                unnamed.close(keep=False)
            return
        self.pending.wait_for_room()
        self.pending.add(unnamed, may_wait=True)

    def begin_in(self, fd: int, path: Path, descriptor: Descriptor) -> ingest.Ingest:
        """Begin to take a blob in a file below ingest/ that the caller has opened and locked.

        Raises:
            StorageFull: there is no room; the file is closed.
        """
        target = self.path_of(descriptor.digest)
        return ingest.begin(fd, path, descriptor, target, self._claim)

    def open_chunks(self, descriptor: Descriptor) -> ChunkFile:
        """Begin to take a blob in pieces, or go on; close it in the end.

        Raises:
            StorageFull: it is larger than all of the cache.
            StorageFailure: the temporary file cannot be made.
        """
        if self._room is not None:
            self._room.check(descriptor.size)
        target = self.path_of(descriptor.digest)
        return open_chunks(self.ingest_directory, descriptor, target, self._claim)

    def touch(self, path: Path) -> None:
        """Note that a file of the cache, which need not be a blob, is used; does not block."""
        if self._room is not None:
            self._room.touch(path)

    def claim(self, path: Path, size: int, target: Path) -> Claim | None:
        """Have room for a file, or for the files of a directory `target`, see `Room.claim`.

        Raises:
            StorageFull: there is none.
        """
        return self._claim(path, size, target)

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes can be written without evicting anything. Blocks."""
        return self._room is None or self._room.has(size)

    def trim(self) -> None:
        """Evict as much as the cache is too large, if it is."""
        if self._room is not None:
            self._room.trim()

    def _make_if_missing(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, and never over one that is there."""
        target = self.root / name
        if target.exists():
            return
        fd, path = ingest.open_private(self.ingest_directory)
        try:
            disk.write_fully(fd, content, 0)
            os.fchmod(fd, 0o644)
            os.fsync(fd)
            os.link(path, target)  # unlike a rename it fails if another process was faster
        except FileExistsError:
            return
        finally:
            path.unlink(missing_ok=True)
            os.close(fd)


def open_regular(path: Path, size: int) -> int | None:
    """Open a regular file of exactly `size` bytes for reading; None if it is not one."""
    try:
        # O_NONBLOCK: to open a pipe that someone put there must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_size == size:
        return fd
    os.close(fd)
    return None
