"""The chunks of a layer on disk, and how they come there. Blocking.

Owns the file `parts` beside an unpacked layer's files: each chunk that was fetched at its address,
all else holes. Nothing says which chunks are there but their digests: one that a mount uses for
the first time is read back and compared. So a crash, another process or a damaged disk cannot make
a wrong byte of it. Where the disk cannot be written, chunks are handed back in memory.

INVARIANT: methods may be called by several threads for different chunks; what a chunk's bytes must
be never changes, so two processes that write the same one write the same.
"""

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orasfs.errors import OrasfsError, StorageFailure, StorageFull, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import BlobStreamer
from orasfs.store.content.cas import ContentStore
from orasfs.store.files import disk, leases
from orasfs.store.packed import ranges
from orasfs.tree.chunktable import ChunkTable

FILE_NAME = "parts"
_BLOCK_BYTES = 512  # of st_blocks


@dataclass(slots=True)
class Outcome:
    """What became of chunks that were wanted.

    Attributes:
        good: those that the file has.
        held: the bytes of those that it could not take.
        received: how many bytes came from the source.
        failed: the chunk that is wrong; None if `error` is of all that is missing.
    """

    good: list[int] = field(default_factory=list)
    held: dict[int, bytes] = field(default_factory=dict)
    received: int = 0
    error: Exception | None = None
    failed: int | None = None


class Parts:
    """The chunks of one layer; makes and opens its file when there is need of it.

    Args:
        chunks: the table of the layer.
        descriptor: of its blob.
        directory: of the layer.
        store: whose room is used.
    """

    def __init__(
        self, chunks: ChunkTable, descriptor: Descriptor, directory: Path, store: ContentStore
    ) -> None:
        self.chunks = chunks
        self._descriptor = descriptor
        self._path = directory / FILE_NAME
        self._store = store
        self._lock = threading.Lock()  # around the opening of the file
        self._is_open = False
        self._fd = -1
        self._is_writable = False
        self._had_bytes = False

    def __repr__(self) -> str:
        return f"<Parts {self._descriptor.digest} {self.chunks}>"

    def read_now(self, start: int, stop: int) -> bytes | None:
        """Return bytes of chunks that the file has, if the page cache has them."""
        return disk.read_now(self._fd, start, stop - start)

    def read(self, start: int, stop: int, held: Mapping[int, bytes]) -> bytes:
        """Return bytes of chunks that the file has, or `held` has.

        Raises:
            StorageFailure: the disk failed.
        """
        if not held:
            return disk.read_fully(self._fd, start, stop - start)
        pieces = []
        for number in self.chunks.span(start, stop):
            first = self.chunks.start(number)
            last = first + self.chunks.length(number)
            begin, end = max(start, first), min(stop, last)
            if number in held:
                pieces.append(held[number][begin - first : end - first])
            else:
                pieces.append(disk.read_fully(self._fd, begin, end - begin))
        return b"".join(pieces)

    def obtain(
        self, numbers: range, source: BlobStreamer, is_stopping: Callable[[], bool]
    ) -> Outcome:
        """Have chunks, of which at least the first one: those next to it that the file has not.

        A failure is in the outcome, with what came before.
        """
        outcome = Outcome()

        def check_stop() -> None:
            if is_stopping():
                raise Unreachable("reading a layer was stopped")

        try:
            self._open()
            missing = []
            for number in numbers:
                if self._has(number):
                    outcome.good.append(number)
                else:
                    missing.append(number)
            run = range(missing[0], missing[0] + _run_length(missing)) if missing else range(0)
            if run:
                self._fetch(run, source, check_stop, outcome)
        except OrasfsError as error:
            outcome.error = error
        return outcome

    def _fetch(
        self,
        run: range,
        source: BlobStreamer,
        check_stop: Callable[[], None],
        outcome: Outcome,
    ) -> None:
        """Fetch chunks that lie next to one another in the blob, by one request."""
        places = [self.chunks.blob_range(number) for number in run]
        start, stop = min(place[0] for place in places), max(place[1] for place in places)
        content = self._local(start, stop)
        if content is None:
            content = ranges.fetch(source, self._descriptor, start, stop, check_stop)
            outcome.received += len(content)
        made = self.chunks.start(run.stop - 1) + self.chunks.length(run.stop - 1)
        claim = self._claim(made - self.chunks.start(run.start))
        try:
            with memoryview(content) as view:
                for number, chunk in self._decoded(run, view, start, outcome):
                    if self._is_writable and self._write(number, chunk):
                        outcome.good.append(number)
                    else:
                        outcome.held[number] = chunk
        finally:
            if claim is not None:
                claim()

    def _local(self, start: int, stop: int) -> bytes | bytearray | None:
        """Return bytes of the blob if that is in the cache."""
        fd = self._store.open(self._descriptor)
        if fd is None:
            return None
        try:
            return disk.read_fully(fd, start, stop - start)
        finally:
            os.close(fd)

    def _decoded(
        self, run: range, view: memoryview, base: int, outcome: Outcome
    ) -> Iterator[tuple[int, bytes]]:
        """Yield chunks with their bytes; tell which one is wrong."""
        number = run.start
        for begin, group in itertools.groupby(run, lambda each: self.chunks.blob_range(each)[0]):
            together: Sequence[int] = list(group)
            end = max(self.chunks.blob_range(each)[1] for each in together)
            streams = self.chunks.decode(
                range(together[0], together[-1] + 1), view[begin - base : end - base]
            )
            for number in together:
                try:
                    chunk = next(streams)
                except OrasfsError:
                    outcome.failed = number
                    raise
                yield number, chunk

    def _has(self, number: int) -> bool:
        """Tell whether the file has a chunk, by its digest."""
        if not self._had_bytes:
            return False
        start, length = self.chunks.start(number), self.chunks.length(number)
        try:
            if os.lseek(self._fd, start, os.SEEK_DATA) >= start + length:
                return False
            return self.chunks.is_right(number, os.pread(self._fd, length, start))
        except OSError:  # only holes from there on, or the disk is damaged: it is fetched
            return False

    def _write(self, number: int, chunk: bytes) -> bool:
        try:
            disk.write_fully(self._fd, chunk, self.chunks.start(number))
        except OSError:
            return False  # it is served from memory
        return True

    def _claim(self, size: int) -> Callable[[], None] | None:
        """Have room for so much more; without it nothing is written any more."""
        if not self._is_writable:
            return None
        try:
            used = os.fstat(self._fd).st_blocks * _BLOCK_BYTES
            claim = self._store.claim(self._path, used + size, self._path)
        except (OSError, StorageFull, StorageFailure):
            self._is_writable = False
            return None
        return None if claim is None else claim.settle

    def _open(self) -> None:
        with self._lock:
            if self._is_open:
                return
            self._is_open = True
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                fd = os.open(self._path, flags, 0o600)
            except OSError:
                return  # the cache cannot be written
            weakref.finalize(self, os.close, fd)
            leases.hold(fd)
            self._store.touch(self._path)
            try:
                status = os.fstat(fd)
                if status.st_size != self.chunks.size:
                    os.ftruncate(fd, self.chunks.size)
            except OSError:
                return
            self._had_bytes = status.st_blocks > 0
            self._fd, self._is_writable = fd, True


def _run_length(numbers: Sequence[int]) -> int:
    """Return how many numbers follow one another at the beginning."""
    length = 1
    while length < len(numbers) and numbers[length] == numbers[0] + length:
        length += 1
    return length
