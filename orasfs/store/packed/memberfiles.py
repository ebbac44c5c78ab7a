"""The files that a pass over a layer writes: the slab, and blobs of large members.

Owns them from the first byte until they have their final names. A large file gets that of its own
digest, when all has passed (`settle`), or before if there are very many; the slab keeps its
temporary one, which is the caller's to change. Blocking; knows no trio.

INVARIANT: one thread writes; others may only call `open_own`. What of the file an `open_own` gives
was written before the thread said so.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.files import disk, ingest, leases
from orasfs.store.files.claims import Claim
from orasfs.store.files.holes import HoleyFile
from orasfs.tree.indexbuilder import Placed

MEDIA_TYPE = "application/octet-stream"
# Large files that are open; of more, the oldest are made durable while the pass goes on.
_UNSETTLED_FILES = 512
_STEP_BYTES = 1024 * 1024


@dataclass(slots=True, eq=False)
class _OwnFile:
    """A large file that has no final name yet."""

    fd: int
    path: Path
    size: int
    claim: Claim | None = None


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
        self._small = memoryview(bytearray(_STEP_BYTES))  # for the slab, until the end of the step
        self._filled = 0  # bytes of it
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
        number = placed.blob
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
            self._gather(content)
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
        self._have_room(self._number)
        if len(self._own) > _UNSETTLED_FILES:
            self._settle(next(iter(self._own)))

    def flush(self) -> None:
        """Write what is gathered for the slab."""
        if not self._filled:
            return
        with disk.translated("write a slab"):
            self._slab.append(self._small[: self._filled])
        self._filled = 0

    def complete(self) -> None:
        """Say that these were all files: what is gathered is written, and no more will be."""
        self.flush()
        self._small = memoryview(b"")

    def settle(self) -> None:
        """Make all durable, and give the large files their final names, after `complete`."""
        for number in list(self._own):
            self._settle(number)
        with disk.translated("write a slab"):
            os.fsync(self.slab_fd)

    @property
    def slab_size(self) -> int:
        """How many bytes the slab has."""
        return self._slab.size

    @property
    def size(self) -> int:
        """How many bytes `settle` has to make durable."""
        return self._slab.size + sum(file.size for file in self._own.values())

    @property
    def paths(self) -> Mapping[Digest, Path]:
        """Where the large files are that have no final name yet; all are complete."""
        return {self.digests[number]: file.path for number, file in self._own.items()}

    def share(self) -> None:
        """Let others have the files open, too: nothing is written into them any more."""
        for fd in (self.slab_fd, *(file.fd for file in self._own.values())):
            leases.hold(fd)

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
                if file.claim is not None:
                    file.claim.settle()
            self._own.clear()
        ingest.unlink_if_same(self.slab_fd, self.slab_path)
        os.close(self.slab_fd)

    def _gather(self, content: memoryview) -> None:
        """Put bytes of small files one behind the other: a write for each would take longer."""
        while content:
            room = len(self._small) - self._filled
            part = content[:room]
            stop = self._filled + len(part)
            self._small[self._filled : stop] = part
            self._filled = stop
            if stop == len(self._small):
                self.flush()
            content = content[len(part) :]

    def _have_room(self, number: int) -> None:
        """Claim what a complete file takes, or drop it if it is in the store already."""
        file = self._own[number]
        descriptor = Descriptor(MEDIA_TYPE, self.digests[number], file.size)
        if self._store.has(descriptor):
            self._drop(number)
            return
        file.claim = self._store.claim(
            file.path, file.size, self._store.path_of(descriptor.digest)
        )

    def _settle(self, number: int) -> None:
        file = self._own[number]
        descriptor = Descriptor(MEDIA_TYPE, self.digests[number], file.size)
        target = self._store.path_of(descriptor.digest)
        ingest.publish(file.fd, file.path, target, descriptor)
        if file.claim is not None:
            file.claim.settle()
        self._drop(number)

    def _drop(self, number: int) -> None:
        """Let go of a large file that has a name, or another one has it."""
        with self._lock:
            file = self._own[number]
            ingest.unlink_if_same(file.fd, file.path)
            del self._own[number]
            os.close(file.fd)


def open_blob(store: ContentStore, digest: Digest) -> int | None:
    """Open a large file that has its final name; None if it is gone. The caller closes it."""
    size = store.size_of(digest)
    return None if size is None else store.open(Descriptor(MEDIA_TYPE, digest, size))
