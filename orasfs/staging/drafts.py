"""The drafts of this user: which there are, and whose they are at the moment.

Owns `DRAFTS/<id>/`: `draft.json` (key and base), `tree/` (the content), `metadata/` (its `.oras`),
`lock`. A draft is there once its `draft.json` is, which is written last and replaced whole. What a
process that was killed has left of its own work is removed: spools, the trash, a draft that was
never begun.

INVARIANT: a draft belongs to one process at a time, which holds its lock; others do not show it.
INVARIANT: nothing is deleted but by `remove`: what cannot be read is reported and left alone.
"""

import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import time

from orasfs.errors import AlreadyExists, Busy, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging import localdisk
from orasfs.staging.contents import EARLY_SPOOL, SPOOL, empty_spool
from orasfs.staging.draft import COMMITTED, METADATA, TREE, Draft, Watcher
from orasfs.staging.draftrecord import (
    RECORD,
    BaseReference,
    DraftKey,
    DraftRecord,
    read_record,
    write_record,
)
from orasfs.staging.localdisk import translated
from orasfs.staging.workspace import PENDING

logger = logging.getLogger(__name__)

_LOCK = "lock"
_TRASH = "trash"
_BEGIN_SECONDS = 60.0  # within which whoever begins a draft has done so, or was killed


class DraftStore:
    """The drafts below `root` that are ours, less those that another process holds.

    Args:
        root: the directory of all drafts of this user.
        is_ours: whether a draft of that name has a place in this mount; others are left alone.
        now: seconds since the epoch.
        watcher: is told of what is written into them.

    Raises:
        StorageFull: the disk is full.
        LocalFailure: the directory cannot be used.
    """

    def __init__(
        self,
        root: Path,
        *,
        is_ours: Callable[[DraftKey], bool] = lambda _: True,
        now: Callable[[], float] = time,
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher
        self._root = root
        self._is_ours = is_ours
        self._now = now
        self._drafts: dict[DraftKey, Draft] = {}
        self._problems: dict[str, str] = {}
        with translated(str(root)):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            (root / _TRASH).mkdir(exist_ok=True)
            found = sorted(path for path in root.iterdir() if path.name != _TRASH)
        for path in found:
            if _is_unbegun(path, now()):
                shutil.rmtree(path, ignore_errors=True)
        opened = [draft for path in found if path.is_dir() and (draft := self._load(path))]
        for draft in sorted(opened, key=lambda each: each.created, reverse=True):
            if draft.key in self._drafts:
                self._problems[draft.id] = f"{draft.key} is hidden by a later draft of that name"
                draft.close()
            else:
                self._drafts[draft.key] = draft

    def __repr__(self) -> str:
        return f"<DraftStore {self._root}: {len(self._drafts)}>"

    def drafts(self) -> Sequence[Draft]:
        """Return the drafts that this process shows."""
        return list(self._drafts.values())

    def problems(self) -> Mapping[str, str]:
        """Return what is not shown, by id, and why."""
        return dict(self._problems)

    def find(self, key: DraftKey) -> Draft | None:
        """Return the draft of that name."""
        return self._drafts.get(key)

    def create(
        self,
        key: DraftKey,
        base: BaseReference | None = None,
        expected: Digest | None = None,
        subject: Descriptor | None = None,
    ) -> Draft:
        """Begin an empty draft, durably; `subject` is what its key says that it is attached to.

        Raises:
            AlreadyExists: there is one of that name.
            StorageFull: the disk is full.
        """
        if key in self._drafts:
            raise AlreadyExists(f"{key} is a draft already")
        directory = self._root / secrets.token_hex(8)
        with translated("begin a draft"):
            directory.mkdir(mode=0o700)
            lock = _lock(directory)
            (directory / TREE).mkdir(mode=0o755)
            (directory / TREE).chmod(0o755)
            (directory / METADATA).mkdir(mode=0o755)
            if base is not None:  # so that it is never empty, whenever we are killed
                os.setxattr(directory / TREE, PENDING, b"")
        if lock is None:  # pragma: no cover - nobody else can know the new directory
            raise Busy(f"{key} cannot be locked")
        record = DraftRecord(key, base, expected, self._now(), subject)
        try:
            write_record(directory, record)
            with translated("begin a draft"):
                localdisk.sync_directory(self._root)
            draft = Draft(directory, record, lock, self._watcher)
        except OrasfsError:
            os.close(lock)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._drafts[key] = draft
        logger.info("draft begun id=%s key=%s", draft.id, key)
        return draft

    def rename(self, draft: Draft, key: DraftKey) -> None:
        """Give a draft another name, durably.

        Raises:
            AlreadyExists: there is one of that name.
        """
        if key in self._drafts:
            raise AlreadyExists(f"{key} is a draft already")
        old = draft.key
        draft.rename(key)
        del self._drafts[old]
        self._drafts[key] = draft

    def withdraw(self, draft: Draft) -> None:
        """Let a draft have no name any more; its files stay until `remove`."""
        del self._drafts[draft.key]

    def remove(self, draft: Draft) -> None:
        """Drop a draft and all that is in it; `empty_trash` then frees the space."""
        with translated("drop a draft"):
            draft.directory.rename(self._root / _TRASH / draft.id)
            localdisk.sync_directory(self._root)
        if self._drafts.get(draft.key) is draft:
            del self._drafts[draft.key]
        draft.watcher.dropped(draft)
        draft.close()
        logger.info("draft dropped id=%s key=%s", draft.id, draft.key)

    def empty_trash(self) -> None:
        """Free the space of removed drafts. Blocks; what fails is tried again the next time."""
        with translated("empty the trash"):
            # The directory itself stays: another mount may be about to move something into it.
            for path in (self._root / _TRASH).iterdir():
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Let other processes have the drafts."""
        for draft in self._drafts.values():
            draft.close()

    def _load(self, directory: Path) -> Draft | None:
        try:
            # Not locked if it is not ours: the mount that has a place for it must get it.
            if not self._is_ours(read_record(directory).key):
                return None
            lock = _lock(directory)
            if lock is None:
                self._problems[directory.name] = "in use by another mount"
                return None
            try:
                if (directory / COMMITTED).exists():  # pushed, and then there was a crash
                    directory.rename(self._root / _TRASH / directory.name)
                    os.close(lock)
                    return None
                for spool in (SPOOL, EARLY_SPOOL):
                    empty_spool(directory / spool)
                return Draft(directory, read_record(directory), lock, self._watcher)
            except (OrasfsError, OSError):
                os.close(lock)
                raise
        except (OrasfsError, OSError) as error:
            self._problems[directory.name] = str(error)
            logger.warning("draft cannot be shown id=%s error=%s", directory.name, error)
            return None


def _lock(directory: Path) -> int | None:
    """Return a descriptor that holds the draft's lock, None if another process has it."""
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


def _is_unbegun(directory: Path, now: float) -> bool:
    """Tell whether a process was killed before it had begun the draft that this was to be.

    Nobody has seen it then, so nothing was written into it.
    """
    try:
        if (directory / RECORD).exists() or now - directory.stat().st_mtime < _BEGIN_SECONDS:
            return False
        places = [directory / name for name in (TREE, METADATA)]
        return not any(any(place.iterdir()) for place in places if place.exists())
    except OSError:
        return False
