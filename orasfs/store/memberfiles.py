"""The files that a pass over a layer writes: the slab, and blobs of large members.

Owns them from the first byte until they have their final names. A large file gets its name, that
of its own digest, as soon as it is durable; the slab keeps its temporary one, which is the
caller's to change. Blocking; knows no trio.

INVARIANT: one thread writes; others may only call `open_own`. What of the file an `open_own` gives
was written before the thread said so.
"""

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store import disk, ingest
from orasfs.store.cas import ContentStore
from orasfs.store.holes import HoleyFile
from orasfs.tree.indexbuilder import Placed

MEDIA_TYPE = "application/octet-stream"
# Large files that wait to be made durable: by then the disk has them, or most of them.
_UNSETTLED_FILES = 32
_STEP_BYTES = 1024 * 1024


@dataclass(slots=True, eq=False)
class _OwnFile:
    """A large file that has no final name yet."""

    fd: int
    path: Path
    size: int


class MemberFiles:
    """Takes the bytes of members; implements `orasfs.tree.tar.MemberSink`.

    Attributes:
        slab_fd: the open slab.
        slab_path: its temporary name.
        digests: of the large files that are complete, by number.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        with disk.translated("unpack a layer"):
            self.slab_fd, self.slab_path = ingest.open_private(store.ingest_directory)
        self.digests: dict[int, Digest] = {}
        self._slab = HoleyFile(self.slab_fd)
        self._small = bytearray()  # for the slab, until the end of the step
        self._writing: HoleyFile | None = None  # a large file
        self._hash = hashlib.sha256()
        self._number = 0
        self._lock = threading.Lock()  # around `_own`, the sizes, and the closing of its files
        self._own: dict[int, _OwnFile] = {}  # those without a final name, the oldest first
        self._sizes: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<MemberFiles slab={self._slab.size} own={len(self._sizes)}>"

    def begin(self, placed: Placed) -> None:
        """Begin a file."""
        self._writing = None
        number = placed.place.blob
        if number is None:
            return
        with disk.translated("unpack a large file"):
            fd, path = ingest.open_private(self._store.ingest_directory)
            with self._lock:
                self._own[number] = _OwnFile(fd, path, placed.length)
                self._sizes[number] = placed.length
            self._number = number
            self._writing = HoleyFile(fd)
            self._hash = hashlib.sha256()

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the file."""
        if self._writing is None:
            self._small += content
            if len(self._small) >= _STEP_BYTES:
                self.flush()
            return
        self._hash.update(content)
        with disk.translated("unpack a large file"):
            self._writing.append(content)

    def end(self) -> None:
        """End the file."""
        if self._writing is None:
            return
        self._writing = None
        self.digests[self._number] = Digest("sha256", self._hash.hexdigest())
        if len(self._own) > _UNSETTLED_FILES:
            self._settle(next(iter(self._own)))

    def flush(self) -> None:
        """Write what is gathered for the slab."""
        if not self._small:
            return
        with disk.translated("write a slab"), memoryview(self._small) as content:
            self._slab.append(content)
        self._small.clear()

    def settle(self) -> None:
        """Make all durable, and give the large files their final names; all are complete."""
        self.flush()
        for number in list(self._own):
            self._settle(number)
        with disk.translated("write a slab"):
            os.fsync(self.slab_fd)

    def open_own(self, number: int) -> int | None:
        """Open a large file; None if it has not begun, or is gone. The caller closes it."""
        with self._lock:
            file = self._own.get(number)
            if file is not None:
                return os.dup(file.fd)
            size = self._sizes.get(number)
        if size is None:
            return None
        return self._store.open(Descriptor(MEDIA_TYPE, self.digests[number], size))

    def close(self) -> None:
        """Let go of all, and remove what has no final name."""
        with self._lock:
            for file in self._own.values():
                file.path.unlink(missing_ok=True)
                os.close(file.fd)
            self._own.clear()
        ingest.unlink_if_same(self.slab_fd, self.slab_path)
        os.close(self.slab_fd)

    def _settle(self, number: int) -> None:
        file = self._own[number]
        descriptor = Descriptor(MEDIA_TYPE, self.digests[number], file.size)
        if self._store.has(descriptor):
            file.path.unlink(missing_ok=True)
        else:
            target = self._store.path_of(descriptor.digest)
            claim = self._store.claim(file.path, file.size, target)
            ingest.publish(file.fd, file.path, target, descriptor)
            if claim is not None:
                claim.settle()
        with self._lock:
            del self._own[number]
            os.close(file.fd)
