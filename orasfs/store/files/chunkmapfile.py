"""The chunk map of a partial file on disk, beside it: `<algorithm>-<hex>.chunks`.

Owns its format and the judgement whether it may be believed. A header of 64 bytes (magic, size of
a chunk, boot) is followed by the levels of all chunks. Blocking; whoever calls holds the lock on
the partial file.

INVARIANT: a level is written after the bytes it counts. A process that is killed leaves both in
the page cache, so within one boot the map is right. A machine that goes down may have kept a level
and lost its bytes; so a map of an earlier boot is believed only if both were flushed.
"""

import os
import struct
from pathlib import Path

from orasfs.store.files import disk
from orasfs.store.files.chunks import CHUNK_BYTES, LEVEL_BYTES, ChunkMap

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HEADER = struct.Struct("<16sI36s8x")
_MAGIC = b"orasfs chunks 1\n"
_ANY_BOOT = b"*" * 36
SUFFIX = ".chunks"


def path_of(partial: Path) -> Path:
    """Return where the map of a partial file is."""
    return partial.with_suffix(SUFFIX)


def unlink_with_map(partial: Path) -> None:
    """Remove a partial file and its map, if they are there; the `OSError` is the caller's.

    In this order: a map without its file is recognized, a file with holes is not.
    """
    partial.unlink(missing_ok=True)
    path_of(partial).unlink(missing_ok=True)


def load(path: Path, chunks: ChunkMap, size: int) -> bool | None:
    """Fill in what is there of a partial file that has `size` bytes.

    Returns:
        None if there is no map; False, and nothing is filled in, if it is not to be believed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) < _HEADER.size:
        return False
    magic, chunk_bytes, boot = _HEADER.unpack_from(content)
    if (magic, chunk_bytes) != (_MAGIC, CHUNK_BYTES) or boot not in (_ANY_BOOT, _this_boot()):
        return False
    if chunks.load(content[_HEADER.size :]) and chunks.end() <= size:
        return True
    chunks.clear()
    return False


def blob_size_at_most(path: Path) -> int | None:
    """Return how large a blob with such a map can be, None if there is no map."""
    try:
        length = path.stat().st_size
    except OSError:
        return None
    return max(0, length - _HEADER.size) // LEVEL_BYTES * CHUNK_BYTES


def create(path: Path, chunks: ChunkMap) -> int:
    """Write the map for this boot, in place of an older one; return it open."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        # Not truncated first: a process killed in between would have lost what was there.
        content = _HEADER.pack(_MAGIC, CHUNK_BYTES, _this_boot()) + chunks.packed()
        disk.write_fully(fd, content, 0)
        os.ftruncate(fd, len(content))
    except BaseException:
        os.close(fd)
        raise
    return fd


def update(fd: int, chunks: ChunkMap, start: int, stop: int) -> None:
    """Write the levels of the chunks of bytes [start, stop)."""
    first, last = start // CHUNK_BYTES, -(-stop // CHUNK_BYTES)
    disk.write_fully(fd, chunks.packed(first, last), _HEADER.size + LEVEL_BYTES * first)


def flush(fd: int) -> None:
    """Make the map durable, whose bytes are: it holds beyond this boot."""
    os.fsync(fd)
    disk.write_fully(fd, _HEADER.pack(_MAGIC, CHUNK_BYTES, _ANY_BOOT), 0)
    os.fsync(fd)


def flatten(fd: int, partial: Path, size: int) -> None:
    """Make a partial file of a blob of `size` bytes one without holes, and without a map."""
    chunks = ChunkMap(size)
    path = path_of(partial)
    is_right = load(path, chunks, os.fstat(fd).st_size)
    if is_right is None:
        return
    gap = chunks.gap(0, size)
    os.ftruncate(fd, size if gap is None else gap)
    path.unlink(missing_ok=True)


def _this_boot() -> bytes:
    try:
        return _BOOT_ID.read_bytes().strip()[:36].ljust(36)
    except OSError:
        return b" " * 36
