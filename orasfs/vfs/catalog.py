"""The repositories that a registry says it has, read page by page and shared by all who ask.

Owns what a catalog tells: names, never their absence (docs/SEMANTICS.md, "Registries that
will not list"). Knows one registry's lister and a clock.

INVARIANT: names are only appended to a `Reading`, so that listings can follow it by position.
"""

import logging
from collections.abc import Callable, Sequence

import trio

from orasfs.aio import SingleFlight
from orasfs.errors import OrasfsError
from orasfs.oci.reference import is_repository
from orasfs.oci.storage import RepositoryLister
from orasfs.vfs.denial import is_denial
from orasfs.vfs.options import SHORT_SECONDS

logger = logging.getLogger(__name__)


class RepositoryTree:
    """Repository names as a tree of paths; the children of a path in the order they came."""

    def __init__(self) -> None:
        self._children: dict[str, dict[str, None]] = {}

    def add(self, repository: str) -> None:
        """Add a repository and the namespaces above it."""
        path = repository
        while path:
            parent, _, name = path.rpartition("/")
            siblings = self._children.setdefault(parent, {})
            if name in siblings:
                return
            siblings[name] = None
            path = parent

    def children(self, path: str) -> Sequence[str]:
        """Return the names directly below a path."""
        return list(self._children.get(path, ()))

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        parent, _, name = path.rpartition("/")
        return name in self._children.get(parent, ())

    def __bool__(self) -> bool:
        return bool(self._children)


class Reading:
    """One reading of the catalog, as far as it has come."""

    def __init__(self, lister: RepositoryLister, nursery: trio.Nursery, begun: float) -> None:
        self._lister = lister
        self._flights: SingleFlight[None] = SingleFlight(nursery)
        self._token: str | None = None
        self.begun = begun
        self.tree = RepositoryTree()
        self.is_done = False
        self.error: OrasfsError | None = None

    @property
    def fault(self) -> OrasfsError | None:
        """The passing fault that has ended it, if one has; a denial is an answer."""
        return None if self.error is None or is_denial(self.error) else self.error

    async def grow(self) -> None:
        """Read one more page, or wait for the one under way. A failure ends the reading."""
        if not self.is_done:
            await self._flights.run("page", self._read_page)

    async def finish(self) -> None:
        """Read to the end."""
        while not self.is_done:
            await self.grow()

    async def _read_page(self) -> None:
        try:
            page = await self._lister.list_repositories(self._token)
        except OrasfsError as error:
            logger.info("no catalog: %s", error)
            self.error = error
            self.is_done = True
            return
        for name in page.names:
            if is_repository(name):
                self.tree.add(name)
        self._token = page.next_token
        self.is_done = page.next_token is None


class Catalog:
    """The catalog of one registry: the reading under way or the last, and the one before it."""

    def __init__(
        self,
        lister: RepositoryLister,
        nursery: trio.Nursery,
        clock: Callable[[], float],
        ttl_seconds: float,
    ) -> None:
        self._lister = lister
        self._nursery = nursery
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._reading: Reading | None = None
        self._last_good: Reading | None = None

    def reading(self) -> Reading:
        """Return the reading that holds now; a new one, if the last is too old."""
        current = self._reading
        if current is not None and self._clock() - current.begun < self._seconds_of(current):
            return current
        if current is not None and current.is_done and current.error is None:
            self._last_good = current
        self._reading = Reading(self._lister, self._nursery, self._clock())
        return self._reading

    def retry(self) -> None:
        """Read again if a passing fault has ended the last reading."""
        if self.is_away:
            self._reading = None

    def contains(self, path: str) -> bool:
        """Tell whether a repository has this path, or one below it, as far as is known."""
        return any(path in reading.tree for reading in self._readings())

    def children(self, path: str) -> Sequence[str]:
        """Return the names known directly below a path."""
        names: dict[str, None] = {}
        for reading in self._readings():
            names.update(dict.fromkeys(reading.tree.children(path)))
        return list(names)

    @property
    def is_away(self) -> bool:
        """Whether a passing fault has ended the last reading."""
        return self._reading is not None and self._reading.fault is not None

    def is_useful_for(self, path: str) -> bool:
        """Tell whether the catalog has been read to its end and knows this path."""
        reading = self.reading()
        if not reading.is_done or reading.error is not None:
            return False
        return path in reading.tree if path else bool(reading.tree)

    async def finish(self, seconds: float) -> Reading:
        """Read to the end, but wait for it only so long; return the reading."""
        reading = self.reading()
        with trio.move_on_after(seconds):
            await reading.finish()
        return reading

    def _seconds_of(self, reading: Reading) -> float:
        """Return how long a reading holds: one that a passing fault ended, not long."""
        return min(self._ttl_seconds, SHORT_SECONDS) if reading.fault else self._ttl_seconds

    def _readings(self) -> Sequence[Reading]:
        """Return what there is to look into: an earlier reading until a later one replaces it."""
        current = self.reading()
        if current.is_done and current.error is None:
            return (current,)
        return (current, self._last_good) if self._last_good else (current,)
