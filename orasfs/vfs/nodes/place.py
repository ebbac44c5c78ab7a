"""A path below a registry: the registry itself, a namespace, a repository, or both at once.

Owns the order in which a name is looked for (docs/SEMANTICS.md, "Registries that will not
list"). What a name can mean at all says `orasfs.vfs.namespace`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from orasfs.errors import CrossDevice, Forbidden, NotFound, NotPermitted, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.reference import Target
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.drafts import name_in
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.links import Links
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import (
    NEVER_VALID_SECONDS,
    Metadata,
    Place,
    Plain,
    Targeted,
    interpret,
)
from orasfs.vfs.nodes.artifact import ArtifactNode, TagNodes, make_artifact
from orasfs.vfs.nodes.base import Answer, Found, Missing, Node
from orasfs.vfs.nodes.bases import States
from orasfs.vfs.nodes.place_begin import give_way
from orasfs.vfs.nodes.place_drafts import PlaceDrafts
from orasfs.vfs.nodes.place_listing import PlaceListing
from orasfs.vfs.nodes.place_tags import PlaceTags
from orasfs.vfs.nodes.repository import repository_metadata
from orasfs.vfs.repositories import RegistryState, RepositoryState


@dataclass(frozen=True, slots=True)
class Below:
    """What the nodes below one registry share."""

    registry: RegistryState
    mount: Mount
    tag_nodes: TagNodes = field(repr=False)
    states: States = field(repr=False)
    links: Callable[[Place], Links] = field(repr=False)


class PlaceNode(Node):
    """A directory below a registry (or the registry) that is not inside an artifact."""

    __slots__ = ("_below", "_place", "_state")

    def __init__(self, key: Key, place: Place, below: Below) -> None:
        state = below.registry.repository(place)
        super().__init__(key, state.errors)
        self._place = place
        self._below = below
        self._state = state

    def __repr__(self) -> str:
        return f"<PlaceNode {self._place}>"

    @property
    def drafts(self) -> PlaceDrafts:
        """The drafts and local namespaces here."""
        below = self._below
        return PlaceDrafts(self._place, below.states, below.mount, self._directory, self)

    @property
    def place(self) -> Place:
        """Which directory it is."""
        return self._place

    @property
    def tags(self) -> PlaceTags:
        """The tags here, for changing."""
        below = self._below
        return PlaceTags(self._place, below.registry, below.mount, self.key, make_artifact)

    def lookup_now(self, name: str) -> Answer | None:
        """Find a name that no request can say more of; a draft goes before all else."""
        staged = self.drafts.find(name) or self.tags.find(name)
        if staged is not None:
            return staged
        meaning = interpret(self._place, name)
        if meaning is None:
            return Missing(NEVER_VALID_SECONDS)
        if isinstance(meaning, Metadata):
            key = derive(self.key, name)
            return Found(repository_metadata(key, self._state, self._below.mount))
        if isinstance(meaning, Plain):
            answer = self._plain_now(meaning)
            return self._noted(name, answer) if isinstance(answer, Found) else answer
        return None

    async def lookup(self, name: str) -> Answer:
        """Find a repository, a tag, a digest or a namespace.

        Raises:
            OrasfsError: the registry could not say.
        """
        answer = await self._lookup(name)
        return self._noted(name, answer) if isinstance(answer, Found) else answer

    async def _lookup(self, name: str) -> Answer:
        staged = self.drafts.find(name)
        if staged is not None:
            return staged
        meaning = interpret(self._place, name)
        if isinstance(meaning, Targeted):
            return await self._targeted(derive(self.key, name), meaning)
        if isinstance(meaning, Plain):
            return await self._plain(meaning)
        return self.lookup_now(name) or Missing()

    def listing_now(self) -> "PlaceListing":
        """Begin to list drafts, sub-repositories and tags."""
        staged = self.drafts.listed()
        return PlaceListing(
            self._place, self._below.registry, self._directory, self._tag_node, staged
        )

    def committed(self, key: DraftKey, descriptor: Descriptor) -> Node:
        """Learn what the name of a draft stands for now, and return its node."""
        tag = key.tag or ""
        place = Place(key.registry, key.repository)
        state = self._below.registry.repository(place)
        state.tags.learn(tag, descriptor)
        self._below.registry.prove(place)
        name = name_in(self._place, key) or tag
        node = self._below.tag_nodes.resolved(derive(self.key, name), tag, state, descriptor)
        return self._noted(name, Found(node)).node  # so that it can be edited next

    def check_changeable(self) -> None:
        """Refuse what is no draft and no directory.

        Raises:
            NotPermitted: a place holds nothing else.
        """
        if self._below.mount.drafts is None:
            super().check_changeable()
        raise NotPermitted("files are written into a draft: mkdir REPOSITORY:TAG begins one")

    async def edit(self, name: str, descriptor: Descriptor) -> Node:
        """Make a draft of what a name stands for, on top of it."""
        return (await self.drafts.edit(name, descriptor)).node

    async def rebase(self, draft: Draft, text: str) -> None:
        """Give an empty draft the content of another artifact."""
        links = self._below.links(Place(draft.key.registry, draft.key.repository))
        await self.drafts.rebase(draft, await links.find(text))

    def _noted(self, name: str, found: Found) -> Found:
        """Let the node of a tag know where it has its name."""
        if isinstance(found.node, ArtifactNode) and found.node.origin is None:
            found.node.origin = (self, name)
        return found

    async def make_directory(self, name: str, mode: int) -> Found:
        """Begin a draft, or make a local namespace."""
        return await self.drafts.make_directory(name, mode)

    async def give_way(self, draft: Draft, name: str) -> Node | None:
        """Let the directory of an empty draft be a namespace, if `name` shows that it is one."""
        gives_way = await give_way(self._place, draft, name, self._below.mount)
        return self._directory(draft.key.name).node if gives_way else None

    async def remove_directory(self, name: str) -> None:
        """Drop an empty draft, a local namespace, or the alias of a tag."""
        if not self.tags.remove_alias(name):
            await self.drafts.remove_directory(name)

    async def make_symlink(self, name: str, target: str) -> Found:
        """Let a tag name what another one does, or begin a draft that refers to it."""
        source = await self._below.links(self._place).find(target)
        if self.tags.repository_of(name) == Place(source.registry, source.repository):
            return await self.tags.make_symlink(name, target, source.descriptor)
        await self.drafts.refer(name, source)
        return self.tags.link(target)

    async def rename(self, name: str, target: Node, new_name: str, flags: int) -> None:
        """Rename a draft or publish it, or move a tag.

        Raises:
            CrossDevice: to where no draft can be.
        """
        if not isinstance(target, PlaceNode):
            raise CrossDevice(f"{name}: stays in its repository")
        if not self.drafts.has(name) and await self.tags.rename(
            name, target.tags, new_name, flags
        ):
            return
        await self.drafts.rename(name, target.drafts, new_name, flags)

    def _plain_now(self, plain: Plain) -> Answer | None:
        child = self._place.child(plain.name)
        registry = self._below.registry
        if plain.may_be_repository and registry.knows(child):
            return self._directory(plain.name)
        is_open = plain.may_be_namespace and not self._below.mount.options.catalog_complete
        if is_open and not plain.may_be_tag:  # below the registry itself: a directory either way
            return self._directory(plain.name)
        if not plain.may_be_tag:
            return None
        return self._listed(derive(self.key, plain.name), self._state, plain.name)

    async def _plain(self, plain: Plain) -> Answer:
        """Look for the tag, then for the sub-repository, then for a namespace."""
        found = self._plain_now(plain)
        if found is None and plain.may_be_tag:
            found = await self._tag_or_known_repository(plain)
            if isinstance(found, Found) and await self._is_shadowed(plain):
                return self._directory(plain.name)
        if isinstance(found, Found):
            return found
        is_directory = plain.may_be_repository and await self._is_directory(plain)
        return self._directory(plain.name) if is_directory else Missing(self._ttl_seconds)

    async def _tag_or_known_repository(self, plain: Plain) -> Answer:
        """Look for the tag; if the registry is away, the cache may know a repository instead."""
        try:
            return await self._tag(derive(self.key, plain.name), self._state, plain.name)
        except OrasfsError as error:
            failure = error
        # Behind the handler: a cancellation while waiting in it would lose the failure.
        child = self._place.child(plain.name)
        if plain.may_be_repository and await self._below.registry.is_remembered(child):
            return self._directory(plain.name)
        raise failure

    async def _is_shadowed(self, plain: Plain) -> bool:
        """Tell whether a tag's name is that of a sub-repository, which wins."""
        child = self._place.child(plain.name)
        return plain.may_be_repository and await self._below.registry.shadows(child)

    async def _is_directory(self, plain: Plain) -> bool:
        """Tell whether a name that is no tag is a repository, or may be a namespace."""
        registry = self._below.registry
        may_be_open = plain.may_be_namespace and not self._below.mount.options.catalog_complete
        # One component alone may well be a namespace, even if nothing shows it.
        if (
            may_be_open
            and not await self._state.probe()
            and (self._place.levels < 2 or not await self.drafts.is_of_new_repository())
        ):
            return True
        return await registry.is_below(self._place.child(plain.name))

    async def _tag(self, name_key: Key, state: RepositoryState, tag: str) -> Answer:
        resolution = await state.tags.resolve(tag)
        if resolution is None:
            return Missing(self._ttl_seconds)
        self._below.registry.prove(state.place)
        node = self._below.tag_nodes.resolved(name_key, tag, state, resolution.descriptor)
        return Found(node, resolution.seconds)

    async def _targeted(self, key: Key, meaning: Targeted) -> Answer:
        state = self._below.registry.repository(meaning.place)
        target = meaning.target
        if target.digest is not None:
            return await self._digest(key, state, target)
        tag = target.tag or ""
        return self._listed(key, state, tag) or await self._tag(key, state, tag)

    async def _digest(self, key: Key, state: RepositoryState, target: Target) -> Answer:
        try:
            descriptor = await state.repository.resolve(str(target.digest))
        except (NotFound, Forbidden):
            return Missing(self._ttl_seconds)
        # No proof of a repository: the cache answers for a digest, whoever it came from.
        artifact = Artifact(state, descriptor, self._below.mount, target.tag)
        return Found(make_artifact(key, artifact))

    def _tag_node(self, name: str, tag: str) -> Found:
        found = self._below.tag_nodes.listed(derive(self.key, name), tag, self._state)
        return self._noted(name, found)

    def _directory(self, name: str) -> Found:
        node = PlaceNode(derive(self.key, name), self._place.child(name), self._below)
        return Found(node, self._ttl_seconds)

    def _listed(self, key: Key, state: RepositoryState, tag: str) -> Found | None:
        """Answer from a listing, if one has shown the tag within the time to live."""
        seconds = state.tags.listed_seconds(tag)
        if not seconds:
            return None
        found = self._below.tag_nodes.listed(key, tag, state)
        # With no time left its digest must be asked again, whatever listings show.
        return Found(found.node, min(found.name_seconds, seconds)) if found.name_seconds else None

    @property
    def _ttl_seconds(self) -> float:
        return self._below.mount.options.tag_ttl_seconds
