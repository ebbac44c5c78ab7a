"""A process of its own that makes the seek points of one layer, and ends.

Owns the finding of points by rapidgzip, which is imported in this process only: it may take memory
and abort at its end as it likes. It is out of everybody's way (idle, of little memory), and ends
with the daemon that began it: at the end of its standard input.

INVARIANT: all chunks were decoded from the blob as a reader will decode them, and together are the
tar whose digest is known from the pass. So the digest of each is that of right bytes, whatever a
library took for a place or a window.
"""

import contextlib
import hashlib
import itertools
import os
import select
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import rapidgzip

from orasfs.errors import ContentMismatch, InvalidContent
from orasfs.store.files import disk
from orasfs.store.packed import pointfile
from orasfs.tree import seekpoints
from orasfs.tree.chunktable import ChunkTable, Form
from orasfs.tree.gzidx import Point, read_points

SPACINGS_BYTES = (1 << 20, 2 << 20, 4 << 20)  # of the tar
_MIN_CHUNKS = 2
_MEMORY_BYTES = 512 * 1024 * 1024
_NICENESS = 19
_LOOK_SECONDS = 0.25


def main(arguments: Sequence[str]) -> None:
    """Write the file of points; an empty one if the layer has none. Ends the process.

    Args:
        arguments: descriptors of the blob and of what is to be written, a directory for what is
            temporary, the sha256 of the tar in hex, and how many bytes may be written.
    """
    blob, output, directory, tar_digest, most = arguments
    blob_fd = int(blob)
    threading.Thread(target=_end_with_reason, args=(blob_fd,), daemon=True).start()
    _stand_back()
    with contextlib.suppress(InvalidContent, ContentMismatch):
        table = make_small_table(blob_fd, directory, tar_digest, int(most))
        disk.write_fully(int(output), pointfile.seal(table), 0)
    os._exit(0)  # nothing of a library is to run any more


def make_small_table(blob_fd: int, directory: str, tar_digest: str, most: int) -> bytes:
    """Return the least coarse table of `most` bytes; see `make_table`."""
    for spacing_bytes in SPACINGS_BYTES:
        with tempfile.TemporaryFile(dir=directory) as scratch:
            table = make_table(blob_fd, scratch, tar_digest, spacing_bytes).to_bytes()
        if len(table) <= most:
            return table
    raise InvalidContent("layer: its seek points would take too much room")


def make_table(blob_fd: int, scratch: BinaryIO, tar_digest: str, spacing_bytes: int) -> ChunkTable:
    """Return the chunks between the seek points of a gzip blob.

    Args:
        blob_fd: the blob, whole and verified.
        scratch: an empty file.
        tar_digest: sha256 in hex of what the blob makes.
        spacing_bytes: between points, about.

    Raises:
        InvalidContent: it has no points that are of use.
        ContentMismatch: what is made from the points is not the tar.
    """
    _find(blob_fd, scratch, spacing_bytes)
    scratch.seek(0)
    size, points = read_points(scratch)
    blob_size = os.fstat(blob_fd).st_size
    table, whole = ChunkTable(Form.WINDOWS), hashlib.sha256()
    for point, stop, blob_stop in _bounded(points, size, blob_size):
        begin = point.bit // 8
        compressed = disk.read_fully(blob_fd, begin, blob_stop - begin)
        digest = hashlib.sha256()
        for piece in _exactly(stop - point.start, compressed, point):
            digest.update(piece)
            whole.update(piece)
        table.add_point(stop - point.start, point.bit, digest.digest(), point.window)
    if len(table) < _MIN_CHUNKS:
        raise InvalidContent("layer: it has no seek points")
    if whole.hexdigest() != tar_digest:
        raise ContentMismatch("layer: what its seek points make is not its tar")
    table.close(blob_size, is_exact=True)
    return table


def _find(blob_fd: int, scratch: BinaryIO, spacing_bytes: int) -> None:
    path = f"/proc/self/fd/{blob_fd}"
    try:
        # Closed before the interpreter ends: else it aborts.
        with rapidgzip.RapidgzipFile(path, parallelization=1, chunk_size=spacing_bytes) as file:
            file.seek(0, os.SEEK_END)
            file.export_index(scratch)
    except (RuntimeError, ValueError) as error:
        raise InvalidContent(f"layer: no seek points: {error}") from error


def _bounded(
    points: Iterator[Point], size: int, blob_size: int
) -> Iterator[tuple[Point, int, int]]:
    """Yield points that make something, and where that ends in the tar and in the blob."""
    making = (point for point in points if point.start < size)
    end = Point(size, 8 * blob_size, b"")
    for point, following in itertools.pairwise(itertools.chain(making, (end,))):
        yield point, following.start, -(-following.bit // 8)


def _exactly(length: int, compressed: bytes, point: Point) -> Iterator[bytes | memoryview]:
    """Yield so many bytes that a point makes, of which there may be more."""
    for piece in seekpoints.inflate(memoryview(compressed), point.bit % 8, point.window):
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return
    raise InvalidContent(f"layer: nothing is made from bit {point.bit} on")


def _stand_back() -> None:
    """Take of the processor what nobody else wants."""
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # not everywhere allowed
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _end_with_reason(blob_fd: int) -> None:
    """End the process when the daemon is gone, the blob was evicted, or too much memory is taken.

    A limit of the system would be of no use: a library reserves many times of what it takes.
    """
    stdin = sys.stdin.fileno()
    while os.fstat(blob_fd).st_nlink and _resident_bytes() < _MEMORY_BYTES:
        if select.select([stdin], [], [], _LOOK_SECONDS)[0] and not os.read(stdin, 1):
            break
    os._exit(1)


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - four times a second
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
