"""The listing of a place: sub-repositories and tags, page by page as they come.

Owns the order and what is left out (docs/SEMANTICS.md, "Listings stream"). INVARIANT: no
name comes twice, and no tag is resolved.
"""

from collections.abc import Awaitable, Callable, Sequence

import trio

from orasfs.errors import OrasfsError, RegistryError
from orasfs.oci.storage import Page
from orasfs.vfs.denial import is_denial
from orasfs.vfs.namespace import Place, interpret, is_listed_tag, shadowed
from orasfs.vfs.nodes.base import Found, Listed
from orasfs.vfs.repositories import CATALOG_WAIT_SECONDS, RegistryState

MakeDirectory = Callable[[str], Found]
MakeTag = Callable[[str, str], Found]  # of the name in the listing, and the tag


class PlaceListing:
    """A listing in stages: what is known below, the tags, what the catalog says later."""

    def __init__(
        self,
        place: Place,
        registry: RegistryState,
        make_directory: MakeDirectory,
        make_tag: MakeTag,
        staged: Sequence[Listed] = (),
    ) -> None:
        self._place = place
        self._registry = registry
        self._state = registry.repository(place)
        self._make_directory = make_directory
        self._make_tag = make_tag
        self._staged = staged
        self._seen: set[str] = {listed.name for listed in staged}
        self._is_first = True
        self._token: str | None = None
        self._stages: list[Callable[[], Awaitable[Sequence[Listed] | None]]] = []
        if staged:
            self._stages.append(self._first)
        if not place.is_layout:
            self._stages.append(self._known)
        if place.may_be_repository:
            self._stages.append(self._tags)
        if not place.is_layout:
            self._stages.append(self._catalog)

    def more_now(self) -> None:
        """Say that names come from a registry."""

    async def more(self) -> Sequence[Listed]:
        """Return the next names, none at the end.

        Raises:
            OrasfsError: the registry could not say; what is known has been listed before.
        """
        while self._stages:
            names = await self._stages[0]()
            if names is None:
                self._stages.pop(0)
            elif names:
                return names
        return ()

    async def _first(self) -> Sequence[Listed] | None:
        """List what is local, and goes before all else of the same name."""
        self._stages.pop(0)
        await trio.lowlevel.checkpoint()
        return self._staged

    async def _known(self) -> Sequence[Listed] | None:
        """List what is known below; a tag can only be seen to be shadowed after it."""
        if self._place.path:
            await self._registry.catalog.finish(CATALOG_WAIT_SECONDS)
        else:
            self._registry.catalog.retry()
        self._stages.pop(0)
        return self._directories()

    async def _tags(self) -> Sequence[Listed] | None:
        """List a page of tags."""
        try:
            page = await self._state.repository.list_tags(self._token)
        except OrasfsError as error:
            if not self._is_first or not self._stands_for_none(error):
                raise
            return None
        if self._is_first:
            self._is_first = False
            self._learn(page)
        tags = [tag for tag in page.names if is_listed_tag(tag)]
        self._state.tags.note_listed(tags)
        listed = [found for found in map(self._tag, tags) if found is not None]
        self._token = page.next_token
        if page.next_token is None:
            self._stages.pop(0)
        return listed

    async def _catalog(self) -> Sequence[Listed] | None:
        """List what a catalog that is still being read adds."""
        reading = self._registry.catalog.reading()
        if not reading.is_done:
            await reading.grow()
            return self._directories()
        found = self._directories()
        # Of a registry that is away nothing is known; below it the tags have answered.
        is_unanswered = not self._place.path and not self._seen
        if reading.fault is not None and is_unanswered:
            raise reading.fault
        self._stages.pop(0)
        return found

    def _directories(self) -> Sequence[Listed]:
        names = [
            name
            for name in self._registry.children(self._place)
            if name not in self._seen and interpret(self._place, name) is not None
        ]
        self._seen.update(names)
        return [Listed(name, self._make_directory(name)) for name in names]

    def _tag(self, tag: str) -> Listed | None:
        name = shadowed(tag) if tag in self._seen else tag
        if name in self._seen:  # a registry that repeats itself from page to page
            return None
        self._seen.add(name)
        return Listed(name, self._make_tag(name, tag))

    def _learn(self, page: Page) -> None:
        self._state.note_tags(page)
        if self._state.is_proven:
            self._registry.prove(self._place)

    def _stands_for_none(self, error: OrasfsError) -> bool:
        """Tell whether a failed tag list means that there are no tags here."""
        if self._state.is_proven and isinstance(error, RegistryError):
            return False  # it is there, and its tags are kept from us: not the same as none
        if is_denial(error):
            self._state.note_absent()
            return True
        if self._state.was_absent:  # a namespace, which has no tags while the registry is away
            return True
        # Nor has what is known only because the cache remembers repositories below it.
        is_remembered = bool(self._seen) and not self._registry.catalog.contains(self._place.path)
        return is_remembered and not self._state.is_proven
