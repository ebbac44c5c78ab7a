"""Whether what is in a cache is right, and what becomes of what is not.

Owns the judgement of each kind of file: blobs by their digest, maps and indexes by what they say
of themselves, slabs by the blobs of their layers (`orasfs.store.packed.slabs`). Needs no mount and
no network, and is safe beside running mounts: what they have open stays. Blocking; knows no trio.
"""

import collections
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orasfs.errors import InvalidContent, InvalidName, StorageFailure
from orasfs.oci.digest import Digest
from orasfs.store.content.entries import Entry, Kind
from orasfs.store.content.room import Room
from orasfs.store.files import chunkmapfile, disk, leases
from orasfs.store.files.chunks import ChunkMap
from orasfs.store.packed import pointfile, slabs, unpack
from orasfs.tree.layerindex import LayerIndex

DAMAGED = "orasfs/damaged"
_NAMED_FILES = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that was wrong, and what was done about it.

    Attributes:
        files: of a slab, or of a blob that is a large file of layers, the paths in the layer of
            the files that are wrong; the first 100.
    """

    path: str
    reason: str
    action: str
    files: Sequence[str] = ()


def verify(
    room: Room, on_checked: Callable[[Entry], None], on_unsure: Callable[[Entry], None]
) -> Sequence[Fault]:
    """Check all there is, and return what was wrong; it is gone then, and will be fetched anew.

    A blob or a slab is moved to orasfs/damaged/, to be looked at, until there is need of its room.

    Args:
        room: the cache.
        on_checked: called with each file.
        on_unsure: called with each slab that fits its index, and has no blob to be compared with.
    """
    faults: dict[str, Fault] = {}
    # What is known of layers last: what it must be, the blobs say.
    for entry in sorted(room.ledger.entries(), key=_is_of_layer):
        fault = None
        if entry.kind is Kind.BLOB:
            fault = _check_blob(room, entry)
        elif entry.kind is Kind.PARTIAL:
            fault = _check_partial(room, entry)
        elif entry.kind is Kind.INDEX and entry.path.endswith("/index"):
            fault = _check_index(room, entry, faults)
        elif entry.path.endswith(f"/{pointfile.NAME}"):
            fault = _check_points(room, entry)
        elif entry.kind is Kind.LAYER and entry.path.endswith(f"/{unpack.SLAB_NAME}"):
            fault = _check_slab(room, entry, faults, on_unsure)
        on_checked(entry)
        if fault is not None:
            faults[fault.path] = fault
    return tuple(faults.values())


def _is_of_layer(entry: Entry) -> bool:
    return entry.kind in (Kind.LAYER, Kind.INDEX)


def _check_blob(room: Room, entry: Entry) -> Fault | None:
    path = room.root / entry.path
    try:
        digest = Digest.parse(entry.digest)
        with path.open("rb") as file:
            leases.hold(file.fileno())
            found = hashlib.file_digest(file, digest.algorithm).hexdigest()
    except InvalidName:
        return None  # nothing of ours, and nothing that is ever read
    except FileNotFoundError:
        return None
    except OSError as error:
        return _move_away(room, path, f"cannot be read: {error.strerror}")
    if found == digest.hex:
        return None
    return _move_away(room, path, f"its content is {digest.algorithm}:{found}")


def _move_away(room: Room, path: Path, reason: str) -> Fault:
    name = path.relative_to(room.root).as_posix()
    target = room.root / DAMAGED / f"{path.parent.name}-{path.name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    except OSError as error:
        return Fault(name, reason, f"cannot be moved: {error.strerror}")
    room.settle(name, target.relative_to(room.root).as_posix())
    return Fault(name, reason, f"moved to {target}")


def _check_index(room: Room, entry: Entry, faults: dict[str, Fault]) -> Fault | None:
    """Check an index, and name the files that are blobs found to be wrong."""
    unpacked = unpack.open_unpacked((room.root / entry.path).parent)
    if unpacked is None:
        return _remove(room, entry.path)
    if unpacked.slab_fd >= 0:
        os.close(unpacked.slab_fd)
    index = unpacked.index
    try:
        paths = {number: _blob_path(index.blob(number)) for number in range(index.blobs)}
        wrong = {number: path for number, path in paths.items() if path in faults}
        for number, path in wrong.items():
            names = (*faults[path].files, *slabs.paths_of(index, slabs.own(index, number)))
            faults[path] = dataclasses.replace(faults[path], files=names[:_NAMED_FILES])
    except InvalidContent:
        return _remove(room, entry.path)
    return None


def _check_slab(
    room: Room, entry: Entry, faults: Collection[str], on_unsure: Callable[[Entry], None]
) -> Fault | None:
    """Compare a slab with the layer's blob, unless that is wrong itself."""
    path = room.root / entry.path
    unpacked = unpack.open_unpacked(path.parent) if entry.digest else None
    if unpacked is None:
        return None  # nothing reads it
    index = unpacked.index
    if unpacked.slab_fd < 0:
        reason = f"is not the {index.slab_size} bytes that its index says"
        return _move_away(room, path, reason) if path.exists() else None
    name = _blob_path(Digest.parse(entry.digest))
    blob_fd = -1 if name in faults else _open(room.root / name)
    try:
        if blob_fd < 0:
            collections.deque(slabs.stored(index), maxlen=0)
            on_unsure(entry)
            return None
        found = slabs.differing(index, unpacked.slab_fd, unpack.read_tar(blob_fd))
        return _slab_fault(room, path, index, found)
    except StorageFailure as error:
        return _move_away(room, path, f"cannot be read: {error}")
    except InvalidContent:
        return _remove(room, f"{entry.path.removesuffix(unpack.SLAB_NAME)}index")
    finally:
        os.close(unpacked.slab_fd)
        if blob_fd >= 0:
            os.close(blob_fd)


def _slab_fault(room: Room, path: Path, index: LayerIndex, found: Iterator[int]) -> Fault | None:
    first = list(itertools.islice(found, _NAMED_FILES))
    if not first:
        return None
    count = len(first) + sum(1 for _ in found)
    fault = _move_away(room, path, f"{count} of its files are not what the layer has")
    return dataclasses.replace(fault, files=sorted(slabs.paths_of(index, first)))


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _open(path: Path) -> int:
    """Open a file for as long as it is compared; -1 if it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    leases.hold(fd)
    return fd


def _check_points(room: Room, entry: Entry) -> Fault | None:
    directory = (room.root / entry.path).parent
    if not pointfile.size_of(directory) or pointfile.open_points(directory) is not None:
        return None  # it is right, or there are none
    return _remove(room, entry.path)


def _remove(room: Room, name: str) -> Fault:
    try:
        (room.root / name).unlink(missing_ok=True)
    except OSError as error:
        return Fault(name, "is damaged", f"cannot be removed: {error.strerror}")
    room.settle(name)
    return Fault(name, "is damaged", "removed")


def _check_partial(room: Room, entry: Entry) -> Fault | None:
    path = room.root / entry.path
    try:
        fd = leases.take(path)
    except OSError:
        return None
    if fd is None:
        return None  # somebody is at it
    try:
        reason = _map_fault(path, os.fstat(fd).st_size)
        if reason is None:
            return None
        with disk.translated(f"remove {path}"):
            chunkmapfile.unlink_with_map(path)
    except StorageFailure as error:
        return Fault(entry.path, "its map does not fit", f"cannot be removed: {error}")
    finally:
        os.close(fd)
    room.settle(entry.path)
    return Fault(entry.path, reason, "removed")


def _map_fault(path: Path, size: int) -> str | None:
    """Return what is wrong with the map of a partial file; one without a map came in order."""
    length = chunkmapfile.blob_size_at_most(chunkmapfile.path_of(path))
    if length is None:
        return None
    if size > length:
        return f"{size} bytes, its map is of {length} at most"
    if chunkmapfile.load(chunkmapfile.path_of(path), ChunkMap(length), size) is False:
        return "its map does not fit"
    return None
