"""Unpacked layers on disk: what is there, and how it is found whole or not at all.

Owns orasfs/layers/<algorithm>/<hex>/ in the cache: `slab`, the bytes of the layer's small files
one after the other; `index.chunks`, if the blob can be read from several places; `summary`, which
tells what the others must be; and `index`, whose rename is the commit. Files from a mebibyte on
are blobs of their own below blobs/, named by the index.
Runs of zeros are holes, so that a gigabyte of zeros costs nearly nothing. Blocking; knows no trio
and no network. What is written here is made by `orasfs.store.packed.unpacker`.

INVARIANT: where `index` is what `summary` says, all that it names was written before it. A slab or
a blob that is gone (evicted) is made again from the layer, and so is an index that is missing or
damaged; the same layer always gives the same files.
"""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from orasfs.errors import InvalidContent, InvalidName
from orasfs.oci.digest import Digest
from orasfs.store.files import disk, ingest, leases
from orasfs.store.packed import pointfile
from orasfs.tree.chunktable import ChunkTable
from orasfs.tree.compression import open_decompressor
from orasfs.tree.layerindex import LayerIndex

SLAB_NAME = "slab"
CHUNKS_NAME = "index.chunks"
_CHUNK_BYTES = 1024 * 1024


def directory_of(root: Path, digest: Digest) -> Path:
    """Return where an unpacked layer is in the cache at `root`."""
    return root / "orasfs" / "layers" / digest.algorithm / digest.hex


class _Summary(msgspec.Struct, frozen=True):
    """What an unpacked layer must be."""

    tars: tuple[str, ...]  # digests of the uncompressed tar, each of another algorithm
    index: str  # digest of the index, sha256
    slab_size: int
    chunks: str = ""  # digest of the table of chunks, "" if there is none


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An unpacked layer that is open. `index` reads from a mapped file as long as it lives.

    Attributes:
        slab_fd: the open slab, -1 if it is not there.
        tar_digests: of the uncompressed tar, those that are known.
        chunks: of the tar, for reading it by ranges of the blob, if that can be done.
    """

    index: LayerIndex
    slab_fd: int
    tar_digests: tuple[Digest, ...]
    chunks: ChunkTable | None = None


def open_unpacked(directory: Path, *, max_index_bytes: int | None = None) -> Unpacked | None:
    """Open what `Draft.publish` left; None if there is no whole index, or a larger one.

    The caller closes the slab.
    """
    try:
        summary = msgspec.json.decode((directory / "summary").read_bytes(), type=_Summary)
        buffer = _map(directory / "index", summary.index, max_index_bytes)
        if buffer is None:
            return None
        index = LayerIndex(buffer)
        digests = tuple(map(Digest.parse, summary.tars))
    except (OSError, ValueError, msgspec.MsgspecError, InvalidContent, InvalidName):
        return None
    if index.slab_size != summary.slab_size:
        return None
    if summary.chunks:
        chunks = _read_chunks(directory / CHUNKS_NAME, summary.chunks)
    else:
        if max_index_bytes is not None and (pointfile.size_of(directory) or 0) > max_index_bytes:
            return None
        chunks = pointfile.open_points(directory)
    return Unpacked(index, open_slab(directory, index), digests, chunks)


def open_slab(directory: Path, index: LayerIndex) -> int:
    """Open the slab that belongs to an index; -1 if it is not there whole."""
    try:
        fd = os.open(directory / SLAB_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    if os.fstat(fd).st_size == index.slab_size:
        leases.hold(fd)
        return fd
    os.close(fd)
    return -1


class Draft:
    """The index of a layer, complete, under a temporary name.

    Args:
        sections: the index, in parts.
        slab_size: in bytes.
        tar_digests: of the uncompressed tar.
        ingest_directory: where files are until they have their names.
        chunks: the table of the layer's chunks, if it has one.

    Raises (on construction, and by `publish`):
        OSError: the disk failed, which is the caller's to translate.
    """

    def __init__(
        self,
        sections: Iterable[bytes | bytearray],
        slab_size: int,
        tar_digests: Iterable[Digest],
        ingest_directory: Path,
        chunks: ChunkTable | None = None,
    ) -> None:
        self._slab_size = slab_size
        self._tar_digests = tuple(tar_digests)
        self._ingest_directory = ingest_directory
        self._chunks = chunks
        self._fd, self._path = ingest.open_private(ingest_directory)
        try:
            self._index = f"sha256:{_write_sections(self._fd, sections)}"
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Draft {self._index}>"

    def open(self, slab_fd: int) -> Unpacked:
        """Open the layer with this slab, which the caller closes as that of `open_unpacked`."""
        buffer = memoryview(mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ))
        return Unpacked(LayerIndex(buffer), slab_fd, self._tar_digests, self._chunks)

    def publish(self, directory: Path, slab: Path) -> None:
        """Give a slab that is on disk its final name below `directory`, and the rest theirs."""
        os.fsync(self._fd)
        table = b"" if self._chunks is None else self._chunks.to_bytes()
        of_table = str(Digest.of(table)) if table else ""
        tars = tuple(map(str, self._tar_digests))
        summary = _Summary(tars, self._index, self._slab_size, of_table)
        directory.mkdir(parents=True, exist_ok=True)
        slab.rename(directory / SLAB_NAME)
        if table:
            _write(directory / CHUNKS_NAME, table, self._ingest_directory)
        _write(directory / "summary", msgspec.json.encode(summary), self._ingest_directory)
        self._path.rename(directory / "index")
        disk.sync_directory(directory)

    def close(self) -> None:
        """Remove what has no final name."""
        ingest.unlink_if_same(self._fd, self._path)
        os.close(self._fd)


def _write_sections(fd: int, sections: Iterable[bytes | bytearray]) -> str:
    """Write the parts of an index; return their sha256 in hex."""
    sha256 = hashlib.sha256()
    offset = 0
    for section in sections:
        disk.write_fully(fd, section, offset)
        sha256.update(section)
        offset += len(section)
    return sha256.hexdigest()


def hash_tar(blob_fd: int, algorithm: str, check_stop: Callable[[], None]) -> Digest:
    """Compute a digest of the uncompressed tar of a layer that is in `blob_fd`.

    Raises:
        InvalidContent: its compression is damaged.
        StorageFailure: it cannot be read.
    """
    hasher = hashlib.new(algorithm)
    for piece in read_tar(blob_fd):
        check_stop()
        hasher.update(piece)
    return Digest(algorithm, hasher.hexdigest())


def read_tar(blob_fd: int) -> Iterator[bytes | memoryview]:
    """Yield the uncompressed tar of a layer that is in `blob_fd`, in parts; raises as `hash_tar`.

    A part is good until the next one is asked for.
    """
    chunk = read_chunk(blob_fd, 0, _CHUNK_BYTES)
    decompressor = open_decompressor(chunk)
    offset = 0
    while chunk:
        yield from decompressor.feed(chunk)
        offset += len(chunk)
        chunk = read_chunk(blob_fd, offset, _CHUNK_BYTES)
    decompressor.finish()


def read_chunk(fd: int, offset: int, size: int) -> bytes:
    """Read a part of a layer's blob; fewer bytes at its end.

    Raises:
        StorageFailure: it cannot be read.
    """
    with disk.translated("read a layer"):
        return os.pread(fd, size, offset)


def _write(target: Path, content: bytes, ingest_directory: Path) -> None:
    """Give a file its new content whole or not at all; the `OSError` is the caller's."""
    fd, path = ingest.open_private(ingest_directory)
    try:
        disk.write_fully(fd, content, 0)
        os.fsync(fd)
        path.rename(target)
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _read_chunks(path: Path, digest: str) -> ChunkTable | None:
    """Read a table of chunks; None if it is not what it was: then the layer is passed again."""
    try:
        content = path.read_bytes()
        return ChunkTable.from_bytes(content) if str(Digest.of(content)) == digest else None
    except (OSError, InvalidContent):
        return None


def _map(path: Path, digest: str, max_bytes: int | None) -> memoryview | None:
    """Map an index; None if it is larger than wanted, or another one.

    A mapping costs no memory of ours; the digest is read through a small buffer.
    """
    with path.open("rb") as file:
        if max_bytes is not None and os.fstat(file.fileno()).st_size > max_bytes:
            return None
        if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" != digest:
            return None
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
