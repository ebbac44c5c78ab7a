"""One pass over a layer: its blob becomes a slab, blobs of large files, and an index.

Owns the files of a pass until it is through, and who may read them meanwhile.
Blocking: the methods are for worker threads, one at a time; `feed` may have one more beside it.
Knows no trio and no network.

INVARIANT: what is in the tar before `position` is in the files of this pass, so whoever has seen a
position may read up to it. Nothing gets a final name but by its own digest (blobs of files), or
from `seal` on, which the caller calls after it has verified the layer's blob.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from orasfs.errors import InvalidContent
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.files import disk
from orasfs.store.packed import unpack
from orasfs.store.packed.ahead import made_ahead
from orasfs.store.packed.memberfiles import MemberFiles
from orasfs.store.packed.sealed import SealedLayer
from orasfs.tree.chunktable import ChunkMaker, ChunkTable
from orasfs.tree.compression import Decompressor, open_decompressor
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.tar import TarScanner

_CHUNK_BYTES = 1024 * 1024
_ALONE_BYTES = 1024 * 1024  # of the blob; for that, which has just come, no thread is begun
_PART_BYTES = 256 * 1024  # of the tar, or a piece more; each is handed from thread to thread

_Piece = tuple[bytes | memoryview, int]  # of the tar, and where in the blob its stream begins


class Unpacker:
    """Unpacks the blob in `blob_fd`, as far as it is there.

    Args:
        blob_fd: an open file; `close` closes it.
        store: where the files go.
        algorithm: of a digest of the tar that is wanted beside its sha256; or that.
        on_progress: called after each step, in the worker's thread; may raise to stop.

    Attributes:
        offset: how many bytes of the blob have been used.
        position: up to where the tar has been written.
    """

    def __init__(
        self,
        blob_fd: int,
        store: ContentStore,
        algorithm: str,
        on_progress: Callable[[], None],
    ) -> None:
        self._fd = blob_fd
        self._store = store
        self._on_progress = on_progress
        self._decompressor: Decompressor | None = None
        self._chunks: ChunkMaker | None = None
        self._files = MemberFiles(store)
        self._scanner = TarScanner(self._files)
        names = dict.fromkeys(("sha256", algorithm))
        self._hashes = {name: hashlib.new(name) for name in names}
        self._is_sealed = False
        self.offset = 0
        self.position = 0

    def __repr__(self) -> str:
        return f"<Unpacker blob={self.offset} tar={self.position}>"

    @property
    def builder(self) -> IndexBuilder:
        """What is known of the members; read it only through a `PartialIndex`."""
        return self._scanner.builder

    def is_of(self, fd: int) -> bool:
        """Tell whether an open file is the one that is being unpacked, and not a later one."""
        return fd >= 0 and os.path.sameopenfile(self._fd, fd)

    def feed(self, stop: int) -> None:
        """Unpack the bytes of the blob up to `stop`, which are there.

        Raises:
            InvalidContent: they are no layer.
            StorageFull: the disk is full.
        """
        parts = self._parts(stop)
        if stop - self.offset > _ALONE_BYTES:
            parts = made_ahead(parts)
        with closing(parts):
            for part in parts:
                self._take(part)

    def seal(self, directory: Path) -> SealedLayer:
        """Return the layer that is to be in `directory`; the blob was whole, and is verified.

        The files are its own from then on.

        Raises:
            InvalidContent: it ends in the middle of something.
            StorageFull: the disk is full.
        """
        (self._decompressor or self._begin(b"")).finish()
        sections = self._scanner.sections()
        builder = self._scanner.builder
        with disk.translated(f"unpack into {directory}"):
            self._files.complete()
            for number, digest in self._files.digests.items():
                builder.set_blob(number, digest)
            digests = [Digest(name, each.hexdigest()) for name, each in self._hashes.items()]
            ingest_directory = self._store.ingest_directory
            size = builder.slab_size
            draft = unpack.Draft(sections, size, digests, ingest_directory, self._table())
            try:
                sealed = SealedLayer(directory, self._files, draft)
            except BaseException:
                draft.close()
                raise
        self._is_sealed = True
        return sealed

    def open_blob(self, number: int) -> int | None:
        """Open a file that is, or becomes, a blob of its own; None if it has been evicted.

        Safe in any thread. The caller closes it.
        """
        return self._files.open_own(number)

    @property
    def slab_fd(self) -> int:
        """The open slab."""
        return self._files.slab_fd

    def close(self) -> None:
        """Let go of what is not sealed. Readers must have copies of descriptors."""
        os.close(self._fd)
        if not self._is_sealed:
            self._files.close()

    def _parts(self, stop: int) -> Generator[Sequence[_Piece]]:
        """Decompress the bytes of the blob up to `stop`; yield some pieces at a time.

        Those before damage come before what that raises.
        """
        part, size = [], 0
        try:
            for piece in self._pieces(stop):
                part.append(piece)
                size += len(piece[0])
                if size >= _PART_BYTES:
                    yield part
                    part, size = [], 0
        except InvalidContent:
            yield part
            raise
        yield part

    def _pieces(self, stop: int) -> Iterator[_Piece]:
        while self.offset < stop:
            size = min(_CHUNK_BYTES, stop - self.offset)
            chunk = unpack.read_chunk(self._fd, self.offset, size)
            decompressor = self._decompressor or self._begin(chunk)
            for piece in decompressor.feed(chunk):
                yield piece, decompressor.stream_start
            self.offset += len(chunk)

    def _begin(self, chunk: bytes) -> Decompressor:
        self._decompressor = open_decompressor(chunk)
        self._chunks = ChunkMaker(chunk)
        return self._decompressor

    def _table(self) -> ChunkTable | None:
        """Return the table of the layer's chunks, None if it can only be read from its top."""
        return None if self._chunks is None else self._chunks.finish(self.offset)

    def _take(self, part: Sequence[_Piece]) -> None:
        try:
            for piece, stream_start in part:
                if self._chunks is not None:
                    self._chunks.take(stream_start, piece)
                for each in self._hashes.values():
                    each.update(piece)
                self._scanner.feed(piece)
        finally:  # what is before damage is good
            self._files.flush()
            self.position = self._scanner.offset
        self._on_progress()
