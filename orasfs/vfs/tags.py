"""What the tags of one repository point to, for as long as the mount may believe it.

Owns the time to live of a tag's digest (docs/SEMANTICS.md, "Only tag → digest changes").
Knows one repository and a clock.

INVARIANT: an age counts from before the request, so that a moved tag is seen within the time.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from orasfs.errors import Forbidden, NotFound, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import Resolver
from orasfs.vfs.operations import FOREVER_SECONDS
from orasfs.vfs.options import FilesystemOptions

logger = logging.getLogger(__name__)

# What is remembered of one repository; what falls out is asked for again.
_RESOLVED = 8192
_LISTED = 65_536


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a tag points to, and for how many seconds that may be believed (0: ask again)."""

    descriptor: Descriptor
    seconds: float


@dataclass(slots=True)
class _Record:
    descriptor: Descriptor
    until: float
    is_doubtful: bool = False  # asking again has failed, and that has been said


class Tags:
    """The tags of one repository, as far as this mount has seen them."""

    def __init__(
        self,
        repository: Resolver,
        options: FilesystemOptions,
        clock: Callable[[], float],
        label: str,
    ) -> None:
        self._repository = repository
        self._options = options
        self._clock = clock
        self._label = label
        # A mount that pins what it has seen forgets nothing of it.
        bound = math.inf if options.pin else _RESOLVED
        self._records: LRUCache[str, _Record] = LRUCache(bound)
        # Tags that a listing showed, and until when that counts.
        self._listed: LRUCache[str, float] = LRUCache(_LISTED)

    def __repr__(self) -> str:
        return f"<Tags of {self._label}: {len(self._records)} resolved>"

    def known(self, tag: str) -> Resolution | None:
        """Return the last resolution, however old, without asking."""
        record = self._records.get(tag)
        if record is None:
            return None
        return Resolution(record.descriptor, self._remaining(record.until))

    def note_listed(self, tags: Iterable[str]) -> None:
        """Remember that a listing shows these tags now."""
        until = self._clock() + self._options.tag_ttl_seconds
        self._listed.update(dict.fromkeys(tags, until))

    def listed_seconds(self, tag: str) -> float:
        """Return for how many seconds a listing still vouches for the tag, 0 if none does."""
        return self._remaining(self._listed.get(tag, -math.inf))

    def learn(self, tag: str, descriptor: Descriptor) -> None:
        """Note what a tag names since now, because this mount has put it there."""
        self._records[tag] = _Record(descriptor, self._clock() + self._ttl_seconds)

    def forget(self, tag: str) -> None:
        """Note that a tag is gone, because this mount has removed it."""
        self._records.pop(tag, None)
        self._listed.pop(tag, None)

    def naming(self, digest: Digest) -> Sequence[str]:
        """Return the tags that were last seen to name a digest."""
        return [tag for tag, found in self._records.items() if found.descriptor.digest == digest]

    async def resolve(self, tag: str) -> Resolution | None:
        """Return what the tag points to, asking if the last answer is too old; None if nothing.

        Raises:
            OrasfsError: asking failed, and there is no last answer to stand in.
        """
        known = self.known(tag)
        if known is not None and known.seconds > 0:
            return known
        asked_at = self._clock()
        try:
            descriptor = await self._repository.resolve(tag)
        except NotFound:
            self._records.pop(tag, None)
            self._listed.pop(tag, None)
            return None
        except OrasfsError as error:
            return self._stand_in(tag, error)
        record = self._keep(tag, _Record(descriptor, asked_at + self._ttl_seconds))
        # Not 0, which would mean that nobody has asked.
        return Resolution(record.descriptor, max(self._remaining(record.until), 1e-3))

    def _keep(self, tag: str, record: _Record) -> _Record:
        """Keep an answer, unless one that was asked for later has come first."""
        last = self._records.get(tag)
        if last is not None and not last.is_doubtful and last.until > record.until:
            return last
        self._records[tag] = record
        return record

    def _stand_in(self, tag: str, error: OrasfsError) -> Resolution | None:
        """Let the last answer stand where asking failed with anything but "no such tag"."""
        record = self._records.get(tag)
        if record is None:
            if isinstance(error, Forbidden):  # registries say so of what does not exist
                return None
            raise error
        if not record.is_doubtful:
            record.is_doubtful = True
            logger.warning(
                "tag keeps its last digest tag=%s:%s digest=%s error=%s",
                self._label,
                tag,
                record.descriptor.digest,
                error,
            )
        record.until = self._clock() + self._options.short_seconds
        return Resolution(record.descriptor, self._options.short_seconds)

    @property
    def _ttl_seconds(self) -> float:
        return FOREVER_SECONDS if self._options.pin else self._options.tag_ttl_seconds

    def _remaining(self, until: float) -> float:
        return max(until - self._clock(), 0.0)
