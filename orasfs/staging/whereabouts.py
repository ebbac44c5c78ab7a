"""Where blobs have been seen: in which repositories of a registry one may be mounted from.

Owns the port, and a memory for one mount. What it says is a guess; a wrong one costs a request.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from cachetools import LRUCache

from orasfs.oci.digest import Digest

MAX_REMEMBERED = 100_000  # digests


class Whereabouts(Protocol):
    """Who remembers where blobs were seen."""

    def note(self, registry: str, repository: str, digests: Iterable[Digest]) -> None:
        """Remember that a repository has blobs. Returns at once."""
        ...

    def repositories(self, registry: str, digest: Digest) -> Sequence[str]:
        """Return some repositories that had a blob. Blocks, in a worker thread."""
        ...


class Remembered:
    """Remembers what it was told, as long as it lives; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: LRUCache[tuple[str, Digest], dict[str, None]] = LRUCache(MAX_REMEMBERED)

    def __repr__(self) -> str:
        return f"<Remembered {len(self._seen)} blobs>"

    def note(self, registry: str, repository: str, digests: Iterable[Digest]) -> None:
        """Remember that a repository has blobs."""
        with self._lock:
            for digest in digests:
                self._seen.setdefault((registry, digest), {})[repository] = None

    def repositories(self, registry: str, digest: Digest) -> Sequence[str]:
        """Return the repositories that had a blob."""
        with self._lock:
            return list(self._seen.get((registry, digest), ()))
