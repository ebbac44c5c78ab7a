"""The bytes of blobs that a commit has: staged files, spooled tars, and small ones in memory.

Owns how layers become blobs on local disk: a file is hashed, a directory is packed into the spool.
Blocking, for worker threads of trio; a cancelled commit ends them at the next piece.
"""

import hashlib
import io
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio

from orasfs.errors import StorageFailure
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.filestate import FileState
from orasfs.oci.storage import BlobContent, BlobStream, BlobStreamer
from orasfs.staging.layerblob import KnownBlock, know_no_block, write_layer
from orasfs.staging.layers import DirectoryLayer, FileLayer
from orasfs.staging.localdisk import translated
from orasfs.staging.tree import ContentKey

HASH_BYTES = 1024 * 1024
SPOOL = "spool"  # of a commit, below its draft's directory
EARLY_SPOOL = "early"  # of what is packed ahead of one

OpenContent = Callable[[ContentKey], BinaryIO]
KnownDigest = Callable[[os.stat_result], str | None]


@dataclass(frozen=True, slots=True)
class BytesContent:
    """A small blob in memory."""

    content: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.content)

    def open(self) -> BinaryIO:
        """Open them at the beginning."""
        return io.BytesIO(self.content)


@dataclass(frozen=True, slots=True)
class FileContent:
    """A local file.

    Attributes:
        open_file: opens it at its beginning.
        size: in bytes.
        spooled: its path, if it is a commit's own and nobody else's: it may be moved away.
        state: of the file when its digest was found, if it is a file.
    """

    open_file: Callable[[], BinaryIO] = field(repr=False)
    size: int
    spooled: Path | None = None
    state: FileState | None = None

    def open(self) -> BinaryIO:
        """Open it at the beginning."""
        return self.open_file()


@dataclass(frozen=True, slots=True)
class StreamContent:
    """A blob of another repository, read from there while it is sent; the target verifies it."""

    streamer: BlobStreamer
    descriptor: Descriptor

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.descriptor.size

    def open(self) -> BinaryIO:
        """Open it at its beginning; nothing is asked for before it is read or sought."""
        return io.BufferedReader(_Stream(self.streamer, self.descriptor), HASH_BYTES)


class _Stream(io.RawIOBase):
    """A blob that is streamed, as a file: another place in it is another stream."""

    def __init__(self, streamer: BlobStreamer, descriptor: Descriptor) -> None:
        super().__init__()
        self._streamer = streamer
        self._descriptor = descriptor
        self._stream: BlobStream | None = None
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET:
            offset += self._position if whence == io.SEEK_CUR else self._descriptor.size
        if offset != self._position:
            self._drop()
        self._position = offset
        return offset

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # all that BufferedReader gives
        if self._position >= self._descriptor.size:
            return 0
        stream = self._stream or self._open()
        count = stream.readinto(memoryview(buffer))
        self._position += count
        return count

    def close(self) -> None:
        self._drop()
        super().close()

    def _open(self) -> BlobStream:
        self._stream = stream = self._streamer.open_stream(self._descriptor, self._position)
        with memoryview(bytearray(HASH_BYTES)) as skipped:
            while stream.offset < self._position:  # the source took no notice of the range
                left = self._position - stream.offset
                if not stream.readinto(skipped[: min(left, HASH_BYTES)]):
                    break
        return stream

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


@dataclass(frozen=True, slots=True)
class LocalBlob:
    """A blob that is at hand."""

    descriptor: Descriptor
    content: BlobContent


def small_blob(descriptor: Descriptor, content: bytes) -> LocalBlob:
    """Return a blob in memory."""
    return LocalBlob(descriptor, BytesContent(content))


def know_nothing(_status: os.stat_result) -> None:
    """Know no file's digest."""


def hash_file(
    layer: FileLayer, open_content: OpenContent, known: KnownDigest = know_nothing
) -> LocalBlob:
    """Return the blob that a staged file is.

    Args:
        layer: which.
        open_content: opens it.
        known: returns a file's SHA-256 where that is known from writing it.

    Raises:
        StorageFailure: it is not of the size that was staged.
        LocalFailure: it cannot be read.
    """
    with translated(f"read {layer.title!r}"), open_content(layer.content) as content:
        status = _status(content)
        digest = known(status) if status is not None else None
        size = status.st_size if status is not None and digest is not None else 0
        if digest is None:
            digest, size = _hash(content)
    if size != layer.size:
        raise StorageFailure(f"{layer.title!r} was changed while it was committed")
    found = FileContent(
        partial(open_content, layer.content), size, state=FileState.of(status) if status else None
    )
    return LocalBlob(layer.descriptor(Digest("sha256", digest)), found)


def _hash(content: BinaryIO) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    while chunk := content.read(HASH_BYTES):
        trio.from_thread.check_cancelled()
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _status(content: BinaryIO) -> os.stat_result | None:
    try:
        return os.fstat(content.fileno())
    except OSError:  # not a file of the operating system (io.UnsupportedOperation)
        return None


def pack_directory(
    layer: DirectoryLayer,
    open_content: OpenContent,
    spool: Path,
    executor: Executor | None = None,
    known: KnownBlock = know_no_block,
) -> LocalBlob:
    """Pack a staged directory into a new file in `spool`, a directory that exists.

    Args:
        layer: what.
        open_content: opens a file by its key.
        spool: where to.
        executor: compresses side by side; by default this thread does all.
        known: tells blocks that were compressed ahead.

    Raises:
        StorageFull: the disk of the spool is full.
        StorageFailure: a file was changed meanwhile.
        LocalFailure: one cannot be read.
    """
    path = spool / f"{secrets.token_hex(8)}.layer"
    with translated(f"pack {layer.title!r}"), path.open("xb") as output:
        blob = write_layer(
            layer.pieces(), layer.compression, _Checked(output), open_content, executor, known
        )
        output.flush()
        state = FileState.of(os.fstat(output.fileno()))
    content = FileContent(partial(_open_file, path), blob.size, spooled=path, state=state)
    return LocalBlob(layer.descriptor(blob), content)


class _Checked:
    """Writes through, and lets a cancelled commit end the packing."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def write(self, data: bytes, /) -> None:
        trio.from_thread.check_cancelled()
        self._output.write(data)


def _open_file(path: Path) -> BinaryIO:
    # A caller closes it.
    return path.open("rb", buffering=0)


def make_spool(path: Path) -> None:
    """Make the spool's directory, empty of what an earlier commit left.

    Raises:
        LocalFailure: the disk refuses.
    """
    with translated(f"prepare {path}"):
        path.mkdir(parents=True, exist_ok=True)
        empty_spool(path)


def empty_spool(path: Path) -> None:
    """Remove all that is spooled; the `OSError` is the caller's."""
    for left in path.glob("*.layer"):
        left.unlink(missing_ok=True)


def threads() -> int:
    """Return how many threads compress side by side."""
    return min(os.cpu_count() or 1, 4)
