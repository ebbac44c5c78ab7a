"""What this mount knows of a registry's repositories, and how it finds out more.

Owns the proof that a path is a repository: a manifest, or a tag list that is not empty. Knows the
ports of a registry; asks as little as docs/SEMANTICS.md ("Registries that will not list")
needs.
"""

import logging
from collections.abc import Sequence
from weakref import WeakValueDictionary

from cachetools import LRUCache

from orasfs.errors import OrasfsError
from orasfs.oci.storage import Page
from orasfs.vfs.catalog import Catalog, RepositoryTree
from orasfs.vfs.denial import is_denial
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import Place
from orasfs.vfs.ports import Registry, Repository
from orasfs.vfs.tags import Tags

logger = logging.getLogger(__name__)

_RECENT_PATHS = 1024  # that are remembered though the kernel has forgotten them
CATALOG_WAIT_SECONDS = 3.0  # what a lookup or the first tags of a listing wait for a catalog


class RepositoryState:
    """What is known of one path: its tags, its last error, whether it is a repository."""

    def __init__(self, place: Place, repository: Repository, mount: Mount) -> None:
        self.place = place
        self.repository = repository
        self.tags = Tags(repository, mount.options, mount.clock, str(place))
        self.errors = ErrorLog()
        self.is_proven = False
        self._mount = mount
        self._absent_until: float | None = None

    def __repr__(self) -> str:
        return f"<RepositoryState {self.place}{' proven' if self.is_proven else ''}>"

    @property
    def was_absent(self) -> bool:
        """Whether the last probe or listing found no tags here."""
        return self._absent_until is not None and not self.is_proven

    def note_tags(self, page: Page) -> None:
        """Learn from the first page of the tag list."""
        if page.names:
            self.is_proven = True
        else:
            self.note_absent()

    def note_absent(self) -> None:
        """Remember that there is no such repository, for a while."""
        self._absent_until = self._mount.clock() + self._mount.options.tag_ttl_seconds

    async def probe(self) -> bool:
        """Tell whether this is a repository, asking for one tag if nothing is known.

        Raises:
            OrasfsError: asking failed with anything that is no denial.
        """
        if self.is_proven:
            return True
        if self._absent_until is not None and self._mount.clock() < self._absent_until:
            return False
        try:
            self.note_tags(await self.repository.list_tags(limit=1))
        except OrasfsError as error:
            if not is_denial(error):
                raise
            self.note_absent()
        return self.is_proven


class RegistryState:
    """What is known of one registry: its catalog and its paths."""

    def __init__(self, host: str, registry: Registry, mount: Mount) -> None:
        self.host = host
        self._registry = registry
        self._mount = mount
        # By path: those that nodes use, and the latest others.
        self._states: WeakValueDictionary[str, RepositoryState] = WeakValueDictionary()
        self._recent: LRUCache[str, RepositoryState] = LRUCache(_RECENT_PATHS)
        self._proven_below: dict[str, dict[str, None]] = {}
        self.catalog = Catalog(registry, mount.nursery, mount.clock, mount.options.catalog_seconds)

    def repository(self, place: Place) -> RepositoryState:
        """Return what is known of a place."""
        state = self._states.get(place.path)
        if state is None:
            repository = self._registry.repository(place.repository)
            state = self._states[place.path] = RepositoryState(place, repository, self._mount)
        self._recent[place.path] = state
        return state

    def prove(self, place: Place) -> None:
        """Note that a place is a repository, and so that the paths above it have children."""
        self.repository(place).is_proven = True
        path = place.path
        while path:
            parent, _, name = path.rpartition("/")
            self._proven_below.setdefault(parent, {})[name] = None
            path = parent

    def knows(self, place: Place) -> bool:
        """Tell without asking whether a repository is known at this place, or below it."""
        if self.catalog.contains(place.path):
            return True
        parent, _, name = place.path.rpartition("/")
        is_proven = name in self._proven_below.get(parent, ())
        return is_proven and not self._mount.options.catalog_complete

    def children(self, place: Place) -> Sequence[str]:
        """Return the names of all sub-repositories and namespaces known below a place."""
        if place.is_layout:
            return ()
        names = dict.fromkeys(self.catalog.children(place.path))
        if self.catalog.is_away:
            names.update(dict.fromkeys(self._remembered().children(place.path)))
        if not self._mount.options.catalog_complete:
            names.update(self._proven_below.get(place.path, {}))
        return list(names)

    async def is_below(self, place: Place) -> bool:
        """Tell whether there is a repository at this place, asking for its tags if need be.

        With `catalog_complete` the catalog alone is asked.

        Raises:
            OrasfsError: asking failed.
        """
        if self._mount.options.catalog_complete:
            return await self._catalog_says(place)
        if self.knows(place):
            return True
        if await self.repository(place).probe():
            self.prove(place)
            return True
        return False

    async def shadows(self, place: Place) -> bool:
        """Tell whether a sub-repository takes this name from a tag of the repository above.

        A catalog that has the repository above decides; if it has not, the sub-repository is
        asked for its tags. Where that fails, the tag, which is certain, keeps its name.
        """
        above = place.path.rpartition("/")[0]
        if self.knows(place):
            return True
        await self.catalog.finish(CATALOG_WAIT_SECONDS)
        if self.catalog.is_useful_for(above):
            return self.knows(place)
        try:
            return await self.is_below(place)
        except OrasfsError as error:
            logger.debug("no answer whether a repository shadows a tag: %s: %s", place, error)
            return False

    def remembers(self, place: Place) -> bool:
        """Tell whether a repository was seen before at this place or below it; asks nobody."""
        return place.path in self._remembered()

    async def is_remembered(self, place: Place) -> bool:
        """Tell whether a repository was seen at or below a place, or is; a failure is a no."""
        try:
            return self.remembers(place) or await self.is_below(place)
        except OrasfsError:
            return False

    def _remembered(self) -> RepositoryTree:
        tree = RepositoryTree()
        for name in self._registry.remembered():
            tree.add(name)
        return tree

    async def _catalog_says(self, place: Place) -> bool:
        reading = self.catalog.reading()
        await reading.finish()
        if self.catalog.contains(place.path):
            return True
        if reading.error is not None:
            raise reading.error
        return False
