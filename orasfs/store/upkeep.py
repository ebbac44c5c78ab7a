"""Looking after a cache by hand: what is in it, what may go, whether it is right.

Owns the judgement of files that are there already. Needs no mount and no network, and is safe
beside running mounts: what they have open stays. Blocking; knows no trio.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orasfs.errors import InvalidName, StorageFailure
from orasfs.oci.digest import Digest
from orasfs.store import chunkmapfile, disk, leases, pointfile, unpack
from orasfs.store.chunks import ChunkMap
from orasfs.store.entries import Entry, Kind
from orasfs.store.ledger import Ledger
from orasfs.store.references import References
from orasfs.store.room import Room

DAMAGED = "orasfs/damaged"
_BUFFER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the cache, and what it is known to be of.

    Attributes:
        references: tags, as REGISTRY/REPOSITORY:TAG, and repositories that it was read from.
    """

    entry: Entry
    references: Sequence[str]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk: in all, by kind, by repository; a blob of several counts in each."""

    total: int
    kinds: Mapping[str, int]
    repositories: Mapping[str, int]
    limit: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that was wrong, and what was done about it."""

    path: str
    reason: str
    action: str


def listing(room: Room, references: References) -> Iterator[Listed]:
    """Yield all files, the least recently used first, indexes last."""
    origins = _origins(room.ledger, references)
    for entry in room.ledger.entries():
        yield Listed(entry, origins.get(entry.digest, ()))


def usage(room: Room, references: References) -> Usage:
    """Add it all up."""
    kinds: dict[str, int] = {}
    repositories: dict[str, int] = {}
    origins = _origins(room.ledger, references)
    for entry in room.ledger.entries():
        kinds[entry.kind.value] = kinds.get(entry.kind.value, 0) + entry.size
        for name in {_without_tag(each) for each in origins.get(entry.digest, ())}:
            repositories[name] = repositories.get(name, 0) + entry.size
    return Usage(sum(kinds.values()), kinds, repositories, room.limit)


def prune(room: Room, pinned: Iterable[str], is_old: Callable[[Entry], bool]) -> int:
    """Remove what is old and not in use, indexes too; return how many bytes that were."""
    kept = frozenset(pinned)
    before = room.ledger.total()
    room.remove(
        [entry for entry in room.ledger.entries() if entry.digest not in kept and is_old(entry)]
    )
    return before - room.ledger.total()


def verify(room: Room, on_checked: Callable[[Entry], None]) -> Iterator[Fault]:
    """Check all there is, and yield what was wrong; it is gone then, and will be fetched anew.

    A blob is moved to orasfs/damaged/, to be looked at, until there is need of its room.
    """
    for entry in list(room.ledger.entries()):
        fault = None
        if entry.kind is Kind.BLOB:
            fault = _check_blob(room, entry)
        elif entry.kind is Kind.PARTIAL:
            fault = _check_partial(room, entry)
        elif entry.kind is Kind.INDEX and entry.path.endswith("/index"):
            fault = _check_index(room, entry)
        elif entry.path.endswith(f"/{pointfile.NAME}"):
            fault = _check_points(room, entry)
        on_checked(entry)
        if fault is not None:
            yield fault


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


def _check_index(room: Room, entry: Entry) -> Fault | None:
    path = room.root / entry.path
    unpacked = unpack.open_unpacked(path.parent)
    if unpacked is not None:
        if unpacked.slab_fd >= 0:
            os.close(unpacked.slab_fd)
        return None
    return _remove(room, entry)


def _check_points(room: Room, entry: Entry) -> Fault | None:
    directory = (room.root / entry.path).parent
    if not pointfile.size_of(directory) or pointfile.open_points(directory) is not None:
        return None  # it is right, or there are none
    return _remove(room, entry)


def _remove(room: Room, entry: Entry) -> Fault:
    try:
        (room.root / entry.path).unlink(missing_ok=True)
    except OSError as error:
        return Fault(entry.path, "is damaged", f"cannot be removed: {error.strerror}")
    room.settle(entry.path)
    return Fault(entry.path, "is damaged", "removed")


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
            path.unlink(missing_ok=True)
            chunkmapfile.path_of(path).unlink(missing_ok=True)
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


def _origins(ledger: Ledger, references: References) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for digest, name in references.named():
        found.setdefault(digest, []).append(name)
    for digest, places in ledger.origins().items():
        names = found.setdefault(digest, [])
        known = {_without_tag(name) for name in names}
        full = [f"{registry}/{repository}" for registry, repository in places]
        names += [name for name in full if name not in known]
    return found


def _without_tag(name: str) -> str:
    head, slash, tail = name.rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"
