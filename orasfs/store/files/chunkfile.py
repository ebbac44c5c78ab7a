"""A blob that comes into the store in pieces: a sparse partial file with its chunk map.

Owns the two files below ingest/, the hashing, and the way to the final name. The partial is the
same file, under the same lock, as that of a blob that comes in order
(`orasfs.store.files.ingest`); each understands what the other one left. Knows no network and no
trio. Several threads may write at once, each by a `ChunkWriter` of its own; the other methods are
for one thread.

INVARIANT: a name below blobs/ is given only by `publish`, after `verify`.
INVARIANT: until it is verified, no one is given the piece that came last (`servable`). So whoever
has got all of the bytes, in whatever order, has got those of its digest.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Verifier
from orasfs.store.files import chunkmapfile, disk, ingest
from orasfs.store.files.chunks import ChunkMap
from orasfs.store.files.claims import Claim, Claimant, no_claim
from orasfs.store.files.hashing import FollowingVerifier

_BUFFER_BYTES = 1024 * 1024
# How much is hashed along that was there before: some for nothing, more for what has come since;
# so a large file that is gone on with a little at a time is not hashed anew each time.
_BACKLOG_BYTES = 64 * 1024 * 1024
_BACKLOG_FACTOR = 4


class ChunkFile(ingest.Incoming):
    """The partial file of one blob, opened on what an earlier run left.

    Attributes:
        chunks: what is in the file.
        resumed: how many bytes an earlier run left; nothing is known of their origin.
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
        self._map_fd = -1
        self._lock = threading.Lock()  # around the hashing and what it knows
        self._verifier = Verifier(descriptor.digest, descriptor.size)
        self._follower: FollowingVerifier | None = None
        self._hashed = 0
        self._prefix = 0
        self._written = 0
        self._last = (0, descriptor.size)  # the piece that came last, once all are there
        self.chunks = ChunkMap(descriptor.size)
        self.resumed = 0

    def __repr__(self) -> str:
        return f"<ChunkFile {self._descriptor.digest} {self.chunks}>"

    def resume(self, *, is_shared: bool) -> None:
        """Take over what is there; `is_shared` if a later run is to find it.

        Raises:
            StorageFailure: the disk failed.
        """
        with disk.translated(f"resume {self.path.name}"):
            size = os.fstat(self._fd).st_size
            path = chunkmapfile.path_of(self.path)
            is_right = chunkmapfile.load(path, self.chunks, size) if is_shared else False
            if is_right is None and size <= self._descriptor.size:
                self.chunks.fill(0, size)  # one that came in order
            elif not is_right:
                os.ftruncate(self._fd, 0)
            if is_shared:
                self._map_fd = chunkmapfile.create(path, self.chunks)
        self.resumed = self.chunks.received

    def open_writer(self, *, hashes_along: bool) -> "ChunkWriter":
        """Return a writer for another thread, which closes it.

        Args:
            hashes_along: whether what it writes in order is worth hashing at once.
        """
        with disk.translated(f"open {self.path.name}"):
            map_fd = -1 if self._map_fd < 0 else os.dup(self._map_fd)
            return ChunkWriter(self, os.dup(self._fd), map_fd, hashes_along=hashes_along)

    def servable(self, start: int, stop: int) -> int:
        """Return up to where bytes from `start` on may be served before all are verified.

        It is `stop` at most, and `start` if none may be.
        """
        gap = self.chunks.gap(start, stop)
        end = stop if gap is None else max(gap, start)
        if not self.chunks.is_complete:  # looked at last: then `end` is of a time before that
            return end
        last_start, last_stop = self._last
        return max(start, last_start) if start < last_stop and last_start < end else end

    def may_serve(self, start: int, stop: int) -> bool:
        """Tell whether bytes [start, stop) may be served before all are verified."""
        return self.servable(start, stop) >= stop

    def have_room(self, size: int) -> None:
        """Have room for `size` bytes more; for `ChunkWriter`.

        Raises:
            StorageFull: there is none.
        """
        if self._claim is not None:
            self._claim.use(size, self._descriptor.size)

    def note(self, start: int, stop: int, *, hashes_along: bool) -> None:
        """Say that a writer has written bytes [start, stop); for `ChunkWriter`."""
        total = self._descriptor.size
        with self._lock:  # of two that write the last pieces, one is the last
            was_complete = self.chunks.is_complete
            self.chunks.fill(start, stop)
            if self.chunks.is_complete and not was_complete:
                self._last = start, stop
            if self._fd < 0:
                return
            self._written += stop - start
            gap = self.chunks.gap(self._prefix, total)
            prefix = total if gap is None else gap
            is_news, self._prefix = prefix > self._prefix, prefix
            if self._follower is None and hashes_along and is_news:
                backlog = prefix - self._hashed - (stop - start)
                if backlog <= _BACKLOG_BYTES + _BACKLOG_FACTOR * self._written:
                    self._follower = FollowingVerifier(self._fd, self._verifier, self._hashed)
            if self._follower is not None:
                self._follower.advance(prefix)
                self._hashed = prefix

    def verify(self, check: Callable[[], None]) -> None:
        """Check the digest of the file, which is complete; `check` may raise to stop.

        Raises:
            ContentMismatch: it is not what the descriptor says.
            StorageFailure: it cannot be read back.
        """
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.finish()
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        with disk.translated("read back what was written"):
            while count := os.preadv(self._fd, [buffer], self._hashed):
                check()
                self._verifier.update(buffer[:count])
                self._hashed += count
        self._verifier.finish()

    def publish(self) -> None:
        """Make the verified file durable and give it its final name; see `Incoming.publish`."""
        # First: a complete file without a map is one that came in order.
        chunkmapfile.path_of(self.path).unlink(missing_ok=True)
        super().publish()

    def restart(self) -> None:
        """Drop all bytes, none of which was served; no writer is open."""
        with disk.translated(f"drop {self.path.name}"):
            os.ftruncate(self._fd, 0)
            self.chunks.clear()
            if self._map_fd >= 0:
                chunkmapfile.update(self._map_fd, self.chunks, 0, self._descriptor.size)
        self._verifier = Verifier(self._descriptor.digest, self._descriptor.size)
        self._hashed = self._prefix = self.resumed = 0
        self._last = (0, self._descriptor.size)

    def close(self, *, keep: bool, flush: bool = False) -> None:
        """Let go of the file; the bytes of one that was not published stay if `keep`.

        Args:
            keep: whether the bytes are of use to a later run.
            flush: whether they shall be even after the machine went down.
        """
        with self._lock:  # a writer that was left behind may still be at it
            follower, self._follower = self._follower, None
            fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if follower is not None:
            follower.abandon()
        try:
            with disk.translated(f"close {self.path.name}"):
                self._settle(fd, keep=keep and self.chunks.received > 0, flush=flush)
        finally:
            os.close(fd)
            if self._map_fd >= 0:
                os.close(self._map_fd)
                self._map_fd = -1
            if self._claim is not None:
                self._claim.settle()

    def _settle(self, fd: int, *, keep: bool, flush: bool) -> None:
        if not ingest.is_same(fd, self.path):
            return  # published, or removed by someone
        if not keep or self._map_fd < 0:
            chunkmapfile.unlink_with_map(self.path)
        elif flush:
            os.fsync(fd)
            chunkmapfile.flush(self._map_fd)


class ChunkWriter:
    """Writes into a `ChunkFile` from one thread, through descriptors of its own.

    So a thread that was left behind never writes into a file that is closed, and keeps the lock.
    """

    def __init__(self, file: ChunkFile, fd: int, map_fd: int, *, hashes_along: bool) -> None:
        self._file = file
        self._fd = fd
        self._map_fd = map_fd
        self._hashes_along = hashes_along

    def write(self, content: memoryview, offset: int) -> None:
        """Write what of the bytes is not there yet: what was served or hashed never changes.

        Raises:
            StorageFull: the disk is full.
        """
        chunks = self._file.chunks
        for start, stop in chunks.holes(offset, offset + len(content)):
            self._file.have_room(stop - start)
            with disk.translated("write a blob"):
                disk.write_fully(self._fd, content[start - offset : stop - offset], start)
                self._file.note(start, stop, hashes_along=self._hashes_along)
                if self._map_fd >= 0:
                    chunkmapfile.update(self._map_fd, chunks, start, stop)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._fd)
        if self._map_fd >= 0:
            os.close(self._map_fd)


def open_chunks(
    directory: Path, descriptor: Descriptor, target: Path, claim: Claimant = no_claim
) -> ChunkFile:
    """Open the partial file of a blob, or a private one if another process has it.

    Raises:
        StorageFailure: the file cannot be made.
        StorageFull: there is no room for what is in it.
    """
    with disk.translated(f"ingest {descriptor.digest}"):
        path = ingest.partial_path(directory, descriptor.digest)
        fd = ingest.open_locked(path)
        is_shared = fd is not None
        if fd is None:
            fd, path = ingest.open_private(directory)
    try:
        claimed = claim(path, os.fstat(fd).st_blocks * 512, target)
    except BaseException:
        ingest.abandon(fd, path)
        raise
    file = ChunkFile(fd, path, descriptor, target, claimed)
    try:
        file.resume(is_shared=is_shared)
    except BaseException:
        file.close(keep=True)
        raise
    return file
