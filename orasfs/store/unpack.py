"""Unpacking a layer: the blob becomes a *slab* (its tar, uncompressed) and an index of members.

Owns orasfs/layers/<algorithm>/<hex>/ in the cache: `slab`, where runs of zeros are holes, so that
a gigabyte of zeros costs nearly nothing; `summary`, which tells what the other two must be; and
`index`, whose rename is the commit. Blocking; knows no trio and no network.

INVARIANT: where `index` is what `summary` says, the slab was written completely before it. Any
part that is missing or damaged means that the layer is unpacked again.
"""

import hashlib
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from orasfs.errors import InvalidContent, InvalidName
from orasfs.oci.digest import Digest
from orasfs.store import disk, ingest, leases
from orasfs.tree.compression import open_decompressor
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.tar import TarScanner

_CHUNK_BYTES = 1024 * 1024
_BLOCK_BYTES = 4096
_ZEROS = bytes(_BLOCK_BYTES)


class _Summary(msgspec.Struct, frozen=True):
    """What an unpacked layer must be."""

    tar: str  # digest of the uncompressed tar, sha256
    index: str  # digest of the index, sha256
    slab_size: int


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An unpacked layer that is open. `index` reads from a mapped file as long as it lives."""

    index: LayerIndex
    slab_fd: int
    tar_digest: Digest


def unpack(
    blob_fd: int,
    directory: Path,
    ingest_directory: Path,
    check_stop: Callable[[], None],
) -> None:
    """Unpack the verified blob `blob_fd` into `directory`.

    Args:
        blob_fd: an open file, read to its end.
        directory: made if missing.
        ingest_directory: where the files are until they are complete.
        check_stop: called for each chunk; raises to stop the work.

    Raises:
        InvalidContent: the blob is no tar, or its compression is damaged or unknown.
        StorageFull: the disk is full; nothing is left behind.
    """
    with disk.translated(f"unpack into {directory}"):
        fd, path = ingest.open_private(ingest_directory)
    try:
        slab = _Slab(fd)
        index, tar = _scan(blob_fd, slab, check_stop)
        summary = _Summary(str(tar), str(Digest.of(index)), slab.size)
        with disk.translated(f"unpack into {directory}"):
            os.ftruncate(fd, slab.size)
            os.fsync(fd)
            directory.mkdir(parents=True, exist_ok=True)
            path.rename(directory / "slab")
            _write(directory / "summary", msgspec.json.encode(summary), ingest_directory)
            _write(directory / "index", index, ingest_directory)
            disk.sync_directory(directory)
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def open_unpacked(directory: Path, *, max_index_bytes: int | None = None) -> Unpacked | None:
    """Open what `unpack` made; None if it is not there, not whole, or its index is larger.

    The caller closes the slab.
    """
    try:
        summary = msgspec.json.decode((directory / "summary").read_bytes(), type=_Summary)
        buffer = _map(directory / "index", max_index_bytes)
        if buffer is None or str(Digest.of(buffer)) != summary.index:  # type: ignore[arg-type] # any buffer can be hashed
            return None
        index = LayerIndex(buffer)
        tar_digest = Digest.parse(summary.tar)
        fd = os.open(directory / "slab", os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError, msgspec.MsgspecError, InvalidContent, InvalidName):
        return None
    if os.fstat(fd).st_size == summary.slab_size == index.tar_size:
        leases.hold(fd)
        return Unpacked(index, fd, tar_digest)
    os.close(fd)
    return None


def hash_slab(fd: int, algorithm: str) -> Digest:
    """Compute the digest of a slab by another algorithm than the summary's."""
    with disk.translated("read a slab"), os.fdopen(os.dup(fd), "rb") as slab:
        slab.seek(0)
        return Digest(algorithm, hashlib.file_digest(slab, algorithm).hexdigest())


class _Slab:
    """Writes the tar, leaving out blocks of zeros."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = 0

    def append(self, piece: memoryview) -> None:
        """Write the next bytes; a run of blocks that are not zero is one write."""
        run = 0
        position = 0
        while position < len(piece):
            # Blocks are counted from the slab's beginning, as the disk counts them.
            end = position + _BLOCK_BYTES - (self.size + position) % _BLOCK_BYTES
            block = piece[position:end]
            # The first byte decides most often, without a copy; views compare byte by byte.
            if block[0] == 0 and bytes(block) == _ZEROS[: len(block)]:
                self._write(piece[run:position], run)
                run = position + len(block)
            position += len(block)
        self._write(piece[run:], run)
        self.size += len(piece)

    def _write(self, content: memoryview, position: int) -> None:
        with disk.translated("write a slab"):
            disk.write_fully(self._fd, content, self.size + position)


def _scan(blob_fd: int, slab: _Slab, check_stop: Callable[[], None]) -> tuple[bytes, Digest]:
    """Decompress the blob into the slab; return the index and the digest of the tar."""
    chunk = _read(blob_fd, 0)
    decompressor = open_decompressor(chunk)
    scanner = TarScanner()
    sha256 = hashlib.sha256()
    offset = 0
    while chunk:
        for piece in decompressor.feed(chunk):
            check_stop()
            sha256.update(piece)
            scanner.feed(piece)
            slab.append(memoryview(piece))
        offset += len(chunk)
        chunk = _read(blob_fd, offset)
    decompressor.finish()
    return scanner.finish(), Digest("sha256", sha256.hexdigest())


def _read(fd: int, offset: int) -> bytes:
    with disk.translated("read a layer"):
        return os.pread(fd, _CHUNK_BYTES, offset)


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


def _map(path: Path, max_bytes: int | None) -> memoryview | None:
    """Map a file; None if it is larger than wanted. A mapping costs no memory of ours."""
    with path.open("rb") as file:
        if max_bytes is not None and os.fstat(file.fileno()).st_size > max_bytes:
            return None
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
