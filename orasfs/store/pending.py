"""Blobs that are whole and verified, and get their final names once the disk has them.

Owns the time between: the blob can be read from where it is, and one thread makes it durable. A
blob whose process dies meanwhile is not in the cache, and is fetched again when it is read.
Knows no network and no trio; `add` and `close` may block.

INVARIANT: a final name is given to durable bytes only (`orasfs.store.ingest`), here as anywhere.
"""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orasfs.errors import OrasfsError
from orasfs.oci.digest import Digest
from orasfs.store.ingest import Ingest

logger = logging.getLogger(__name__)

MAX_PENDING = 32  # open files; whoever brings more waits for the disk


class PendingBlobs:
    """The blobs of one store that the disk is still to write. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[Digest, Path] = {}
        self._room = threading.BoundedSemaphore(MAX_PENDING)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="orasfs-publish")

    def __repr__(self) -> str:
        return f"<PendingBlobs {len(self._paths)}>"

    def path_of(self, digest: Digest) -> Path | None:
        """Return where a blob that has no final name yet can be opened; it may be gone by then."""
        with self._lock:
            return self._paths.get(digest)

    def add(self, incoming: Ingest) -> None:
        """Take a verified ingest over: publish it soon, and close it.

        Waits if many others are to be published before. What the disk refuses is logged, and not
        kept: these are blobs that are somewhere else, too.
        """
        self._room.acquire()
        with self._lock:
            self._paths[incoming.digest] = incoming.path
        try:
            self._executor.submit(self._publish, incoming)
        except RuntimeError:  # closed
            self._done(incoming)

    def close(self) -> None:
        """Publish what was added, and take nothing more. Harmless twice."""
        self._executor.shutdown(wait=True)

    def _publish(self, incoming: Ingest) -> None:
        try:
            incoming.publish()
        except OrasfsError as error:
            logger.warning("blob not kept digest=%s error=%s", incoming.digest, error)
        finally:
            self._done(incoming)

    def _done(self, incoming: Ingest) -> None:
        with self._lock:
            self._paths.pop(incoming.digest, None)
        incoming.close(keep=False)
        self._room.release()
