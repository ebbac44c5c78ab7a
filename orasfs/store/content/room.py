"""Room in the cache: it is claimed before anything is written, and made by evicting.

Owns the rule of what goes: the least recently used, never what a process has open or writes
(`orasfs.store.files.leases`), never what is pinned; of an unpacked layer the bytes before the
index. All mounts of one cache keep one ledger, so they stay within one budget together; if theirs
differ, each sees to its own. Blocking, for worker threads; knows no trio and no network.

INVARIANT: a claim is in the ledger before the bytes are on the disk, and is settled by what is on
the disk afterwards; so a killed process leaves too large a sum, which `recover` mends, never too
small a one.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orasfs.errors import StorageFull
from orasfs.store.content import scan
from orasfs.store.content.budget import Budget, shortage
from orasfs.store.content.entries import Entry, Kind, kind_of
from orasfs.store.content.ledger import Ledger
from orasfs.store.content.listed import unlist
from orasfs.store.files import chunkmapfile, ingest, leases

logger = logging.getLogger(__name__)

_BATCH = 64
_ROUNDS = 8
_STEP_BYTES = 16 * 2**20
_SCAN_SECONDS = 24 * 3600
_SHORTAGE_SECONDS = 10.0


class Room:
    """The room in the cache at `root`.

    Args:
        root: the directory.
        ledger: what is in it.
        budget: how much it may come to; None if that is not to be limited.
        pinned: tells the digests that are not to go, as `algorithm:hex`.
    """

    def __init__(
        self,
        root: Path,
        ledger: Ledger,
        budget: Budget | None = None,
        pinned: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.root = root
        self.ledger = ledger
        self._budget = budget
        self._pinned = pinned
        self._before_eviction: list[Callable[[], None]] = []
        self._on_shortage: list[Callable[[float], bool]] = []

    def __repr__(self) -> str:
        return f"<Room {self.root}>"

    def on_pressure(self, relax: Callable[[], None]) -> None:
        """Have `relax` called in a worker thread before anything is evicted.

        It is to let go of what is open only because it may be of use again.
        """
        self._before_eviction.append(relax)

    def on_shortage(self, settle: Callable[[float], bool]) -> None:
        """Have `settle` called in a worker thread when nothing more can be evicted.

        It is to bring about, within so many seconds, that more can; it tells whether it has.
        """
        self._on_shortage.append(settle)

    @property
    def limit(self) -> int:
        """How many bytes the cache may come to."""
        return 2**63 - 1 if self._budget is None else self._budget.limit(self.root)

    def claim(self, path: Path, size: int, target: Path | None = None) -> "Claim":
        """Have room for `size` bytes at `path`, which becomes `target`; settle it in the end.

        Raises:
            StorageFull: there is none, even with all evicted that may go.
        """
        claim = Claim(self, self._name(path), self._name(target) if target else "")
        claim.cover(size)
        return claim

    def check(self, size: int) -> None:
        """Refuse at once what there can never be room for.

        Raises:
            StorageFull: it is that large.
        """
        if size > self.limit:
            raise StorageFull(f"{size} bytes are more than the cache may have: {self.limit}")

    def has(self, size: int) -> bool:
        """Tell whether there is so much without evicting anything."""
        is_within = self.ledger.total() + size <= self.limit
        return is_within and not shortage(self.root, size)

    def reserve(self, entry: Entry) -> None:
        """Enter what is about to be written, making room for it; see `claim`."""
        self.check(entry.size)
        self.flush()
        if self.ledger.is_lost:
            self.scan()
        limit = self.limit
        for _ in range(_ROUNDS):
            missing = shortage(self.root, entry.size)
            if not missing and self.ledger.reserve(entry, limit):
                return
            missing = max(missing, self.ledger.total() + entry.size - limit, 1)
            if not self.evict(missing) and not self._settle_all():
                break
        raise StorageFull(f"{entry.path}: no room for {entry.size} bytes: all else is in use")

    def _settle_all(self) -> bool:
        """Have what is on its way to its name get there; tell whether anything did."""
        settled = [settle(_SHORTAGE_SECONDS) for settle in self._on_shortage]
        return any(settled)

    def settle(self, *names: str) -> None:
        """Enter files, or all in a directory, as they are on the disk now, or are not."""
        found = [(name, self.look(name)) for name in self._files(names)]
        present = [entry for _, entry in found if entry is not None]
        self.ledger.put(present, [name for name, entry in found if entry is None])

    def _files(self, names: Iterable[str]) -> Iterator[str]:
        """Yield the names, and in place of a directory's those of all files below it."""
        for name in filter(None, names):
            path = self.root / name
            if path.is_dir():
                found = ((place, file) for place, _, files in os.walk(path) for file in files)
                yield from (self._name(Path(place, file)) for place, file in found)
            yield name

    def trim(self) -> None:
        """Evict as much as the cache is too large, if it is."""
        excess = self.ledger.total() - self.limit
        if excess > 0:
            self.evict(excess)

    def touch(self, path: Path) -> None:
        """Note a use, in memory; does not block."""
        self.ledger.touch(self._name(path))

    def flush(self) -> None:
        """Write down the uses, and adopt used files that somebody else has put there."""
        unknown = self.ledger.flush()
        if unknown:
            self.settle(*unknown)

    def look(self, name: str) -> Entry | None:
        """Return a file as it is on the disk; None if it is not there or not to be counted."""
        return scan.look(self.root, name, self.ledger.now())

    def evict(self, wanted: int) -> int:
        """Evict at least `wanted` bytes if so much may go; return how many did."""
        for relax in self._before_eviction:
            relax()
        pinned = frozenset(self._pinned())
        freed, last = 0, None
        while freed < wanted and (batch := self.ledger.oldest(_BATCH, last)):
            missing = wanted - freed
            chosen: list[Entry] = []
            for entry in batch:
                if missing <= 0:
                    break
                last = entry
                if entry.digest not in pinned:
                    chosen.append(entry)
                    missing -= entry.size
            freed += self.remove(chosen)
        logger.debug("evicted: wanted_bytes=%d freed_bytes=%d", wanted, freed)
        return freed

    def remove(self, entries: Iterable[Entry]) -> int:
        """Remove files that nobody has open; return how many bytes they were."""
        entries = list(entries)
        unlist(self.root, {entry.digest for entry in entries if entry.kind is Kind.BLOB})
        self.ledger.mark(entry.path for entry in entries)
        gone = {entry for entry in entries if self._unlink(entry)}
        self.ledger.put(entry for entry in entries if entry not in gone)  # as they were
        # Looked at again: somebody may have begun to fetch one anew.
        self.settle(*(entry.path for entry in gone))
        return sum(entry.size for entry in gone)

    def recover(self, *, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Mend what killed processes left; compare all files with the ledger once a day."""
        ingest.sweep(self.root / "ingest")
        self.settle(*(entry.path for entry in self.ledger.marked()))
        names = {entry.path: entry for entry in self.ledger.below("ingest/")}
        for path in (self.root / "ingest").glob("*.partial"):
            names.setdefault(self._name(path), Entry(self._name(path), Kind.PARTIAL, 0, 0))
        for entry in names.values():
            if not self._is_written(entry):
                self.settle(entry.path, entry.target)
        if self.ledger.now() - self.ledger.scanned() >= _SCAN_SECONDS:
            self.scan(is_stopped=is_stopped)

    def scan(self, *, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Compare all files with the ledger, and mend it."""
        self.ledger.is_lost = False
        for batch in scan.files(self.root):
            if is_stopped():
                return
            self.ledger.put(batch)
        for batch in scan.missing(self.root, self.ledger.entries()):
            if is_stopped():
                return
            self.ledger.put((), [entry.path for entry in batch])
        self.ledger.note_scanned()
        self.trim()

    def _is_written(self, entry: Entry) -> bool:
        """Tell whether a living process is at a file, which knows best itself."""
        try:
            fd = leases.take(self.root / entry.path)
        except OSError:
            return False
        if fd is None:
            return True
        os.close(fd)
        return False

    def _unlink(self, entry: Entry) -> bool:
        """Remove a file unless somebody has it open; tell whether it is gone."""
        path = self.root / entry.path
        try:
            fd = leases.take(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            logger.info("not evicted: path=%s reason=%s", entry.path, error.strerror)
            return False
        if fd is None:
            return False
        try:
            if entry.kind is Kind.PARTIAL:
                chunkmapfile.unlink_with_map(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            logger.info("not evicted: path=%s reason=%s", entry.path, error.strerror)
            return False
        finally:
            os.close(fd)
        return True

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class Claim:
    """Room for one file that is being written; may be used by several threads."""

    def __init__(self, room: Room, name: str, target: str) -> None:
        self._room = room
        self._name = name
        self._target = target
        self._lock = threading.Lock()  # around what is claimed; that of the ledger is inside it
        self._size = 0
        self._used = 0
        self._is_settled = False

    def __repr__(self) -> str:
        return f"<Claim {self._name} {self._size}>"

    def cover(self, size: int) -> None:
        """Have room for `size` bytes in all.

        Raises:
            StorageFull: there is not so much.
        """
        with self._lock:
            self._cover(size)

    def use(self, size: int, most: int) -> None:
        """Have room for `size` bytes more, of `most` in all; claimed some at a time.

        Raises:
            StorageFull: there is not so much.
        """
        with self._lock:
            self._used += size
            if self._used > self._size:
                self._cover(min(max(self._used, self._size + _STEP_BYTES), max(most, self._used)))

    def settle(self) -> None:
        """Enter what has become of the file. Harmless twice."""
        with self._lock:
            if not self._is_settled:
                self._is_settled = True
                self._room.settle(self._name, self._target)
                self._room.trim()  # a disk gives whole blocks

    def _cover(self, size: int) -> None:
        kind = kind_of(self._name) or Kind.TEMPORARY
        now = self._room.ledger.now()
        self._room.reserve(Entry(self._name, kind, size, now, self._target))
        self._size = size


def open_room(
    root: Path, budget: Budget | None = None, pinned: Callable[[], Iterable[str]] = tuple
) -> Room:
    """Return the room of the cache at `root`, whose ledger is opened when it is needed."""
    return Room(root, Ledger(root / "orasfs" / "ledger.sqlite"), budget, pinned)
