"""What is whole and verified, and gets its final name once the disk has it.

Owns the time between: the bytes can be read from where they are, and one thread makes them
durable. What may wait does so until nobody has used the cache for a moment, so that the disk is
free for who copies out of the mount; but not for long, and only so much of it. What a process
leaves behind that dies meanwhile is not in the cache: a blob is resumed or fetched again, a layer
unpacked again. Knows no network and no trio; only `add` and `note_use` never block.

INVARIANT: a final name is given to durable bytes only (`orasfs.store.files.ingest`), here as
anywhere.
"""

import copy
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cachetools import LRUCache

from orasfs.errors import OrasfsError, StorageFailure
from orasfs.oci.digest import Digest

logger = logging.getLogger(__name__)

MAX_PENDING = 32  # whoever brings more waits for the disk
_BUSY_PENDING = 16  # from so many on, nothing waits any more
_BUSY_BYTES = 2**30  # neither from so many bytes on: the kernel would write them soon by itself
_ROOM_SECONDS = 60.0
_MAX_REFUSALS = 256
CLOSE_SECONDS = 60.0


class Unnamed(Protocol):
    """Files that have all their bytes, were verified, and are not written any more."""

    @property
    def size(self) -> int:
        """How many bytes the disk is to write."""
        ...

    @property
    def paths(self) -> Mapping[Digest, Path]:
        """Where blobs can be opened until they have their names."""
        ...

    def share(self) -> None:
        """Let others have the files open, too."""
        ...

    def publish(self) -> None:
        """Make them durable and give them their final names.

        Raises:
            StorageFull: the disk is full, which a disk may say as late as here.
        """
        ...

    def close(self, *, keep: bool) -> None:
        """Let go of them; what has no final name stays if `keep` and a later run can use it."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may wait does.

    Attributes:
        quiet_seconds: until the cache was not used for so long.
        most_seconds: at most. The kernel writes by itself what is 30 s old.
    """

    quiet_seconds: float = 0.0
    most_seconds: float = 0.0

    def seconds_left(self, now: float, since: float, used_at: float) -> float:
        """Return how long what came at `since` is to wait, from `now` on."""
        quiet_at = max(since, used_at) + self.quiet_seconds
        return max(0.0, min(quiet_at, since + self.most_seconds) - now)


@dataclass(slots=True, eq=False)
class _Job:
    unnamed: Unnamed
    paths: Mapping[Digest, Path]
    size: int
    since: float
    is_urgent: bool
    subject: Digest | None = None
    done: threading.Event = field(default_factory=threading.Event)


class PendingBlobs:
    """What of one store the disk is still to write. Thread-safe."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._changed = threading.Condition()  # around all below but `_used_at`
        self._paths: dict[Digest, Path] = {}
        self._jobs: list[_Job] = []  # the oldest first; the one that is being done as well
        self._thread: threading.Thread | None = None  # while there are jobs
        self._refusals: LRUCache[Digest, OrasfsError] = LRUCache(_MAX_REFUSALS)
        self._is_closed = False
        self._used_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<PendingBlobs {len(self._jobs)}>"

    def note_use(self) -> None:
        """Say that the cache is being used: what may wait does."""
        self._used_at = time.monotonic()

    def path_of(self, digest: Digest) -> Path | None:
        """Return where a blob that has no final name yet can be opened; it may be gone by then."""
        with self._changed:
            return self._paths.get(digest)

    def seconds_in_use(self, since: float) -> float:
        """Return how long work that is not urgent, of `since`, is to be put off; 0 if it is not.

        Args:
            since: in seconds of `time.monotonic`.
        """
        return self._patience.seconds_left(time.monotonic(), since, self._used_at)

    def add(
        self, unnamed: Unnamed, *, subject: Digest | None = None, may_wait: bool = False
    ) -> None:
        """Take verified files over: publish them soon, and close them.

        What the disk refuses is logged, and not kept: it can be had again.

        Args:
            unnamed: what is to be published.
            subject: the blob that it was made of, to find it by (`settle`).
            may_wait: whether until the cache is not in use.
        """
        unnamed.share()
        now = time.monotonic()
        job = _Job(unnamed, unnamed.paths, unnamed.size, now, not may_wait, subject)
        with self._changed:
            is_taken = not self._is_closed
            if is_taken:
                self._paths.update(job.paths)
                self._jobs.append(job)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._work, name="orasfs-publish", daemon=True
                    )
                    self._thread.start()
                self._changed.notify_all()
        if not is_taken:
            unnamed.close(keep=True)

    def wait_for_room(self) -> None:
        """Wait until the disk has caught up, for who is about to bring more; for a while."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._jobs) < MAX_PENDING, _ROOM_SECONDS)

    def settle(self, digest: Digest) -> None:
        """Have a blob, and what was made of it, published now if it is pending; wait for it.

        Raises:
            StorageFull: the disk was full when it was to be published, now or before.
            StorageFailure: it failed, or takes very long.
        """
        with self._changed:
            jobs = [job for job in self._jobs if digest in job.paths or digest == job.subject]
        self._hurry(jobs)
        if not all(job.done.wait(CLOSE_SECONDS) for job in jobs):
            raise StorageFailure(f"keep {digest}: the disk takes too long")
        with self._changed:
            refusal = self._refusals.get(digest)
        if refusal is not None:
            raise copy.copy(refusal) from refusal

    def settle_all(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Have all published now that is pending, and wait so long; tell whether that was done.

        It was not if there was nothing, nor where the one who asks is the one who does it.
        """
        if threading.current_thread() is self._thread:
            return False
        with self._changed:
            jobs = list(self._jobs)
        self._hurry(jobs)
        end = time.monotonic() + seconds
        waited = [job.done.wait(max(0.0, end - time.monotonic())) for job in jobs]
        return bool(waited) and all(waited)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Publish what was added, for so long at most, and take nothing more. Harmless twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._jobs, seconds):
                logger.warning("not kept, since the disk is slow: files=%d", len(self._jobs))

    def _hurry(self, jobs: list[_Job]) -> None:
        with self._changed:
            for job in jobs:
                job.is_urgent = True
            self._changed.notify_all()

    def _work(self) -> None:
        """Do what is due until there is nothing."""
        try:
            while (job := self._next()) is not None:
                try:
                    job.unnamed.publish()
                except OrasfsError as error:
                    logger.warning("not kept what=%s error=%s", job.unnamed, error)
                    self._note(job, error)
                else:
                    self._note(job, None)
                finally:
                    self._done(job)
        except BaseException:
            with self._changed:
                self._thread = None  # another one goes on with the next that comes
            raise

    def _next(self) -> _Job | None:
        """Wait for the next job; None, and this thread is not the worker any more, without any."""
        with self._changed:
            while self._jobs:
                urgent = next((job for job in self._jobs if job.is_urgent), None)
                seconds = 0.0 if urgent is not None else self._seconds_left(self._jobs[0])
                if not seconds:
                    return urgent or self._jobs[0]
                self._changed.wait(seconds)
            self._thread = None
            return None

    def _note(self, job: _Job, error: OrasfsError | None) -> None:
        """Remember what the disk refused, until it takes it."""
        with self._changed:
            for digest in filter(None, (*job.paths, job.subject)):
                self._refusals.pop(digest, None)
                if error is not None:
                    self._refusals[digest] = error

    def _seconds_left(self, job: _Job) -> float:
        size = sum(each.size for each in self._jobs)
        if self._is_closed or len(self._jobs) >= _BUSY_PENDING or size > _BUSY_BYTES:
            return 0.0
        return self.seconds_in_use(job.since)

    def _done(self, job: _Job) -> None:
        with self._changed:
            for digest, path in job.paths.items():
                if self._paths.get(digest) == path:
                    del self._paths[digest]
        try:
            job.unnamed.close(keep=False)
        except OrasfsError as error:
            logger.warning("left behind what=%s error=%s", job.unnamed, error)
        finally:
            with self._changed:
                self._jobs.remove(job)
                job.done.set()
                self._changed.notify_all()
