"""What can be begun, moved and removed in a place: drafts and local namespaces.

Owns the meaning of mkdir, rmdir and rename outside of drafts (docs/SEMANTICS.md, "Beginning a
draft"). INVARIANT: nothing that is committed is changed by them, but by publishing a draft.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import trio

from orasfs.errors import (
    AlreadyExists,
    CrossDevice,
    InvalidInput,
    InvalidName,
    NotEmpty,
    NotPermitted,
    ReadOnly,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import is_tag
from orasfs.staging.changes import AttrChanges
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import BaseReference, DraftKey
from orasfs.staging.localdisk import RENAME_EXCHANGE, RENAME_NOREPLACE
from orasfs.vfs.drafts import Drafts, draft_key
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import Metadata, Place, Plain, Targeted, interpret
from orasfs.vfs.nodes.base import Found, Listed
from orasfs.vfs.nodes.bases import Bases, States
from orasfs.vfs.nodes.drafttop import DraftPlace
from orasfs.vfs.nodes.place_begin import is_new_repository
from orasfs.vfs.repositories import RegistryState, RepositoryState


@dataclass(frozen=True, slots=True)
class PlaceDrafts:
    """The drafts and local namespaces of one place.

    Attributes:
        place: where.
        states: returns what is known of a registry; makes no request.
        mount: what the nodes of the mount share.
        directory: makes the node of a directory below the place.
        node: the place's own node.
    """

    place: Place
    states: States = field(repr=False)
    mount: Mount = field(repr=False)
    directory: Callable[[str], Found] = field(repr=False)
    node: DraftPlace = field(repr=False)

    @property
    def registry(self) -> RegistryState:
        """What is known of its registry."""
        return self.states(self.place.host)

    @property
    def bases(self) -> Bases:
        """What drafts have from the artifacts that they began from."""
        return Bases(self.states, self.mount)

    def find(self, name: str) -> Found | None:
        """Return the draft or local namespace of that name."""
        drafts = self.mount.drafts
        if drafts is None:
            return None
        draft = drafts.named(self.place, name)
        if draft is not None:
            return self._found(draft, drafts)
        is_local = (self.place.host, self.place.child(name).path) in drafts.namespaces
        return self.directory(name) if is_local else None

    def has(self, name: str) -> bool:
        """Tell whether a draft has that name."""
        drafts = self.mount.drafts
        return drafts is not None and drafts.named(self.place, name) is not None

    def listed(self) -> Sequence[Listed]:
        """Return the drafts to list, local namespaces, and what leads to other drafts."""
        drafts = self.mount.drafts
        if drafts is None:
            return ()
        found = [
            Listed(name, self._found(draft, drafts)) for name, draft in drafts.names(self.place)
        ]
        names = {each.name for each in found}
        local = [name for name in drafts.directories(self.place) if name not in names]
        return found + [Listed(name, self.directory(name)) for name in local]

    async def make_directory(self, name: str, mode: int) -> Found:
        """Begin a draft, or make a local namespace.

        Raises:
            AlreadyExists: a tag of that name is committed.
            InvalidName: neither can have that name.
            OrasfsError: the registry could not say what is there.
        """
        drafts = self._drafts()
        meaning = interpret(self.place, name)
        if isinstance(meaning, Metadata):
            raise AlreadyExists(f"{name} is the metadata directory")
        if isinstance(meaning, Targeted) and meaning.target.digest is None:
            state = self.registry.repository(meaning.place)
            return await self._begin(drafts, name, mode, state)
        if ":" in name or "@" in name:
            raise InvalidName(f"{name}: a draft is begun as REPOSITORY:TAG")
        if await self._is_repository():
            state = self.registry.repository(self.place)
            return await self._begin(drafts, name, mode, state)
        if not isinstance(meaning, Plain) or not meaning.may_be_repository:
            raise InvalidName(f"{name}: no part of a repository's name")
        drafts.namespaces.add(self.place.host, self.place.child(name).path)
        return self.directory(name)

    async def _is_repository(self) -> bool:
        """Tell whether drafts can be begun here by any name."""
        if self.place.is_layout:
            return True
        if self.place.may_be_repository and await self.registry.repository(self.place).probe():
            return True
        return await self.is_of_new_repository()

    async def is_of_new_repository(self) -> bool:
        """Tell whether the mount is of a repository that is to be."""
        return await is_new_repository(self.place, self.node.key, self.registry, self.mount)

    async def remove_directory(self, name: str) -> None:
        """Drop an empty draft or a local namespace.

        Raises:
            NotEmpty: something is in it; always of what is committed.
        """
        drafts = self._drafts()
        draft = drafts.named(self.place, name)
        below = self.place.child(name)
        if draft is not None:
            draft.check_writable()
            if not draft.is_empty:
                raise NotEmpty(f"{name}: the draft is not empty; `orasfs discard` drops it")
            await drafts.drop(draft)
        elif (below.host, below.path) in drafts.namespaces:
            if drafts.names(below) or drafts.directories(below):
                raise NotEmpty(f"{name}: not empty")
            drafts.namespaces.remove(below.host, below.path)
        else:
            await trio.lowlevel.checkpoint()
            raise NotEmpty(f"{name}: what is committed is removed by `orasfs rm` only")

    async def rename(self, name: str, target: "PlaceDrafts", new_name: str, flags: int) -> None:
        """Give a draft another name, or publish it by the name of a tag.

        Raises:
            CrossDevice: to another repository.
            NotPermitted: it is no draft.
            NotEmpty: what has the new name cannot be replaced.
        """
        drafts = self._drafts()
        draft = drafts.named(self.place, name)
        if draft is None:
            raise NotPermitted(f"{name}: only drafts can be renamed")
        if flags & RENAME_EXCHANGE:
            raise InvalidInput("a draft cannot be exchanged")
        key = draft_key(target.place, new_name)
        if (key.registry, key.repository) != (draft.key.registry, draft.key.repository):
            raise CrossDevice(f"{name}: a draft stays in its repository")
        draft.check_writable()
        if key.tag is None and not _may_be_nameless(new_name):
            raise InvalidName(f"{new_name}: not the name of a tag or a draft")
        await self._clear(drafts, key, flags)
        expected = await self._expected(key)
        if key.tag is not None and draft.key.tag is None:
            is_fresh = bool(flags & RENAME_NOREPLACE)
            await drafts.publish(draft, key, expected=None if is_fresh else expected)
            return
        if expected is not None:
            raise NotEmpty(f"{new_name}: a tag that is committed is not replaced by a draft")
        drafts.store.rename(draft, key)

    async def _clear(self, drafts: Drafts, key: DraftKey, flags: int) -> None:
        """Drop an empty draft that has the name already."""
        present = drafts.store.find(key)
        if present is None:
            return
        if flags & RENAME_NOREPLACE:
            raise AlreadyExists(f"{key} is a draft already")
        present.check_writable()
        if not present.is_empty:
            raise NotEmpty(f"{key}: a draft that is not empty is not replaced")
        await drafts.drop(present)

    async def rebase(self, draft: Draft, base: BaseReference) -> None:
        """Give an empty draft the content of another artifact; see `Bases.rebase`."""
        await self.bases.rebase(draft, base, self._drafts())

    async def _expected(self, key: DraftKey) -> Digest | None:
        """Return what the tag of a key names now."""
        if key.tag is None:
            return None
        state = self.registry.repository(Place(key.registry, key.repository))
        resolution = await state.tags.resolve(key.tag)
        return resolution.descriptor.digest if resolution else None

    async def _begin(self, drafts: Drafts, name: str, mode: int, state: RepositoryState) -> Found:
        key = draft_key(self.place, name)
        if key.tag is None and not _may_be_nameless(name):
            raise InvalidName(f"{name}: not the name of a tag or a draft")
        if key.tag is not None and await state.tags.resolve(key.tag) is not None:
            raise AlreadyExists(f"{key} is committed")
        draft = drafts.store.create(key)
        draft.tree.change(draft.tree.top, AttrChanges(mode=mode))
        return self._found(draft, drafts)

    def _found(self, draft: Draft, drafts: Drafts) -> Found:
        node = self.bases.node(draft, drafts, self.node)
        # Not for ever: by this name the kernel later finds the tag, which may move.
        return Found(node, self.mount.options.tag_ttl_seconds)

    async def edit(self, name: str, descriptor: Descriptor) -> Found:
        """Make what is committed under a name a draft on top of itself, unless it is one.

        Raises:
            Unsupported: it is an index, or a container image's merged filesystem.
            AlreadyExists: the name is another draft's.
        """
        drafts = self._drafts()
        key = draft_key(self.place, name)
        base = BaseReference(key.registry, key.repository, descriptor)
        present = drafts.store.find(key)
        if present is not None and present.base == base:
            return self._found(present, drafts)
        await self.bases.check_editable(base)
        await drafts.wait_gone(key)
        draft = drafts.store.create(key, base, descriptor.digest)
        await self.bases.fill(draft, drafts)
        if drafts.tagging is not None:
            drafts.tagging.tell(Place(key.registry, key.repository), key.tag or key.name)
        return self._found(draft, drafts)

    async def refer(self, name: str, base: BaseReference) -> None:
        """Begin a draft that is an artifact from elsewhere, as it is.

        Raises:
            AlreadyExists: the tag, or a draft of the name, exists.
            CrossDevice: no draft can be here.
            InvalidName: nor one of that name.
        """
        drafts = self._drafts()
        key = draft_key(self.place, name)
        if key.tag is None and not _may_be_nameless(name):
            raise InvalidName(f"{name}: not the name of a tag or a draft")
        if not key.colon and not await self._is_repository():
            raise CrossDevice(f"{name}: not in a repository: name it REPOSITORY:TAG")
        if await self._expected(key) is not None:
            raise AlreadyExists(f"{key} is committed; `orasfs tag` replaces it")
        drafts.store.create(key, replace(base, is_whole=True))

    def _drafts(self) -> Drafts:
        if self.mount.drafts is None:
            raise ReadOnly("mounted read-only")
        return self.mount.drafts


def _may_be_nameless(name: str) -> bool:
    """Tell whether a name that is no tag is one for a draft: nothing else could mean it."""
    return not is_tag(name) and ":" not in name and "@" not in name
