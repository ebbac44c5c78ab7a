"""The places where one registry is read, and what was found out about them.

Owns who is to blame for wrong content, and what of the places' failures is worth a word. Knows no
HTTP; thread-safe.
"""

import logging
import threading
from dataclasses import dataclass

import cachetools

from orasfs.errors import (
    ContentMismatch,
    InvalidInput,
    NotFound,
    OrasfsError,
    RegistryError,
    Unreachable,
    Unsupported,
)
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from orasfs.registry.hosts import Capability

logger = logging.getLogger(__name__)

_MAX_DISTRUSTED = 4096

# What another place may be asked after.
PASSED_OVER = (
    ContentMismatch,
    InvalidInput,
    NotFound,
    RegistryError,
    Unreachable,
    Unsupported,
)


@dataclass(frozen=True, slots=True, eq=False)
class ReadingPlace:
    """One place to read a registry at.

    Attributes:
        registry: its client.
        capabilities: what it may be asked.
        is_final: whether its word counts: the registry itself, or what stands in for it.
    """

    registry: RemoteRegistry
    capabilities: frozenset[Capability]
    is_final: bool = False


class MirrorNotes:
    """What was found out about the places; shared by all repositories of a registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: cachetools.LRUCache[Digest, frozenset[str]] = cachetools.LRUCache(
            _MAX_DISTRUSTED
        )
        self._distrusted: cachetools.LRUCache[Digest, frozenset[str]] = cachetools.LRUCache(
            _MAX_DISTRUSTED
        )
        self._failing: set[str] = set()

    def is_distrusted(self, digest: Digest, host: str) -> bool:
        """Tell whether a place served other content under that digest."""
        with self._lock:
            return host in self._distrusted.get(digest, ())

    def serves(self, digest: Digest, host: str) -> None:
        """Note that a mirror serves a blob."""
        with self._lock:
            self._served[digest] = self._served.get(digest, frozenset()) | {host}

    def distrust(self, digest: Digest, host: str = "") -> frozenset[str]:
        """Note that content was wrong; return which places are to blame, by default who served."""
        with self._lock:
            guilty = frozenset({host}) if host else self._served.pop(digest, frozenset())
            self._distrusted[digest] = self._distrusted.get(digest, frozenset()) | guilty
        for name in sorted(guilty):
            logger.warning("mirror served wrong content host=%s digest=%s", name, digest)
        return guilty

    def failed(self, host: str, error: OrasfsError) -> None:
        """Say that a mirror was passed over; once, until it is of use again."""
        with self._lock:
            is_news = host not in self._failing
            self._failing.add(host)
        level = logging.WARNING if is_news and _is_fault(error) else logging.DEBUG
        logger.log(level, "mirror passed over host=%s reason=%s", host, error)

    def answered(self, host: str) -> None:
        """Note that a mirror is of use."""
        with self._lock:
            self._failing.discard(host)


@dataclass(frozen=True, slots=True, eq=False)
class RepositoryCopy:
    """The repository at one place."""

    place: ReadingPlace
    repository: RemoteRepository

    @property
    def host(self) -> str:
        """Of the place."""
        return self.place.registry.host


def _is_fault(error: OrasfsError) -> bool:
    """Tell whether a person should hear of it: not that a mirror lacks something."""
    return not isinstance(error, NotFound | Unsupported)
