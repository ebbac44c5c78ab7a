"""Drafts as names in the mount: which name in which place is a draft, and what has been ordered.

Owns the step from a place and a name to the key of a draft, and the end of a draft that has become
an artifact: its name stands for that at once, and its files stay until no inode needs them. Knows
the store of drafts, and whoever commits them by a port; knows no nodes.
"""

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import trio

from orasfs.errors import Busy, OrasfsError, Unsupported
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import ANY, BlobReader, Expectation
from orasfs.staging.committer import TakeOver
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.staging.drafts import DraftStore
from orasfs.staging.identity import Identity
from orasfs.staging.namespaces import LocalNamespaces
from orasfs.staging.openfile import OpenStaged
from orasfs.staging.revise import Base
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.namespace import LAYOUT_PREFIX, Place
from orasfs.vfs.tagging import Tagging


class DraftCommitter(Protocol):
    """Who makes artifacts of drafts (`orasfs.staging.committer.Committer`)."""

    async def commit(
        self, draft: Draft, ticket: str = "", /, *, take_over: TakeOver
    ) -> Descriptor | None:
        """Push a draft; None if it has no tag, and only its blobs were sent."""
        ...

    async def publish(
        self, draft: Draft, tag: str, *, expected: Expectation = ANY, take_over: TakeOver
    ) -> Descriptor | None:
        """Put the manifest of a draft whose blobs were sent."""
        ...

    def cancel(self, draft: Draft) -> None:
        """Stop the commit of a draft, if one is under way."""
        ...

    def is_committing(self, draft: Draft) -> bool:
        """Tell whether a commit of the draft is under way."""
        ...


class LowerTree(Protocol):
    """What a draft has from its base without a copy (`orasfs.vfs.nodes.lower`)."""

    def is_pending(self, identity: Identity) -> bool:
        """Tell whether a directory has no entries yet."""
        ...

    def is_lower(self, identity: Identity) -> bool:
        """Tell whether a file's bytes are the base's."""
        ...

    on_filled: Callable[[Identity], None]  # told of a directory that has got its entries

    async def fill(self, directory: Identity) -> None:
        """Give a directory its entries, if it has none yet."""
        ...

    async def know(self, directory: Identity) -> None:
        """Give a directory that has no entries yet the base's mode and time."""
        ...

    async def open(self, identity: Identity, opened: OpenStaged) -> BlobReader:
        """Return a reader of a file that is the base's as long as nobody writes it."""
        ...

    async def copy_up(self, identity: Identity) -> None:
        """Give a file bytes of its own, if it has none."""
        ...

    def drop(self, identity: Identity) -> None:
        """Let a file that is truncated to nothing have nothing of the base."""
        ...

    async def settle(self) -> Base:
        """Return what a commit keeps; all else has bytes of its own then, or `read` has them."""
        ...

    async def read(self, mark: str) -> bytes:
        """Return all that a file has in the base, by its mark."""
        ...


# Makes known what has become of a draft, its key then and the manifest; returns its node
# (`orasfs.vfs.nodes.base.Node`), which is only handed on here.
Successor = Callable[[DraftKey, Descriptor], Any]
# Told of a draft that became an artifact; returns what is to be done before its files go.
Rest = Callable[[], Awaitable[None]]
Listener = Callable[[Draft, DraftKey, Descriptor, Any], Awaitable[Rest]]


@dataclass(slots=True)
class _Going:
    """A draft that has become the artifact `key`, until its files are gone."""

    key: DraftKey
    rest: Rest | None = None
    gone: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class Drafts:
    """The drafts of one mount.

    Attributes:
        store: which there are.
        namespaces: local directories in which no draft is yet.
        committer: who commits, None where nobody can.
        tagging: who puts and removes tags, None where nobody can.
        nursery: where commits go on that nobody waits for.
        lowers: what drafts have from their bases, by the draft's id.
        listener: told of each commit before the draft goes.
        successors: who makes known what a draft has become, by the draft's id.
        attached: what drafts that were attached in this mount have become.
    """

    store: DraftStore
    namespaces: LocalNamespaces
    committer: DraftCommitter | None = None
    tagging: Tagging | None = None
    nursery: trio.Nursery | None = None
    listener: Listener | None = None
    attached: dict[DraftKey, Descriptor] = field(default_factory=dict, repr=False)
    successors: dict[str, Successor] = field(default_factory=dict, repr=False)

    lowers: dict[str, LowerTree] = field(default_factory=dict, repr=False)
    _errors: dict[str, ErrorLog] = field(default_factory=dict, repr=False)
    _going: dict[str, _Going] = field(default_factory=dict, repr=False)

    def errors(self, draft: Draft) -> ErrorLog:
        """Return where the failures of a draft are remembered."""
        return self._errors.setdefault(draft.id, ErrorLog())

    def named(self, place: Place, name: str) -> Draft | None:
        """Return the draft that has this name in this place."""
        return self.store.find(draft_key(place, name))

    def names(self, place: Place) -> Sequence[tuple[str, Draft]]:
        """Return the drafts to list in a place, by name."""
        found = [
            (name, draft)
            for draft in self.store.drafts()
            if (name := name_in(place, draft.key)) is not None
        ]
        return sorted(found, key=lambda pair: pair[0])

    def hosts(self) -> AbstractSet[str]:
        """Return the registries that drafts are of; layouts have names of their own."""
        hosts = {draft.key.registry for draft in self.store.drafts()}
        return {host for host in hosts if not host.startswith(LAYOUT_PREFIX)}

    def directories(self, place: Place) -> Sequence[str]:
        """Return the names of directories in a place: local ones, and what leads to drafts."""
        found = set(self.namespaces.children(place.host, place.path))
        above = f"{place.path}/" if place.path else ""
        for draft in self.store.drafts():
            key, holder = draft.key, _holder(draft.key)
            if key.registry == place.host and holder.startswith(above) and not key.subject:
                found.add(holder.removeprefix(above).partition("/")[0])
        return sorted(found - {""})

    async def commit(self, draft: Draft, ticket: str = "") -> None:
        """Commit a draft; then it is the artifact.

        Raises:
            Unsupported: nobody can.
            OrasfsError: why it failed; the draft is as it was.
        """
        take_over = partial(self._take_over, draft, draft.key)
        await self._required().commit(draft, ticket, take_over=take_over)
        await self._let_go(draft)

    async def begin_commit(self, draft: Draft, ticket: str) -> None:
        """Begin to commit a draft; its report tells how it ends.

        Raises:
            Unsupported: nobody can.
            Busy: a commit of it is under way.
        """
        if self._required().is_committing(draft):
            raise Busy(f"{draft.key}: a commit is under way")
        if self.nursery is None:
            raise Unsupported("nobody can commit here")
        self.nursery.start_soon(self._commit_unwatched, draft, ticket)
        await trio.lowlevel.checkpoint()

    def cancel(self, draft: Draft) -> None:
        """Stop the commit of a draft, if one is under way.

        Raises:
            Unsupported: nobody can commit.
        """
        self._required().cancel(draft)

    async def publish(self, draft: Draft, key: DraftKey, *, expected: Expectation) -> None:
        """Let a draft whose blobs were sent be the artifact `key`.

        Raises:
            Busy: they were not.
            OrasfsError: why it failed; nothing has changed.
        """
        take_over = partial(self._take_over, draft, key)
        tag = key.tag or ""
        await self._required().publish(draft, tag, expected=expected, take_over=take_over)
        await self._let_go(draft)

    async def discard(self, draft: Draft) -> None:
        """Drop a draft with all that is in it, and let the kernel forget its name.

        Raises:
            Busy: it is being committed.
        """
        draft.check_writable()
        await self.drop(draft)
        if self.tagging is not None:
            place = Place(draft.key.registry, draft.key.repository)
            self.tagging.tell(place, draft.key.name)

    async def drop(self, draft: Draft) -> None:
        """Remove a draft and free its space."""
        self.store.remove(draft)
        self._errors.pop(draft.id, None)
        self.lowers.pop(draft.id, None)
        self.successors.pop(draft.id, None)
        await trio.to_thread.run_sync(self.store.empty_trash)

    async def wait_gone(self, key: DraftKey) -> None:
        """Wait until there is nothing left of drafts that have become the artifact `key`."""
        for going in [each for each in self._going.values() if each.key == key]:
            await going.gone.wait()

    async def _take_over(self, draft: Draft, key: DraftKey, descriptor: Descriptor) -> None:
        """Let all names stand for the artifact. Cannot be stopped: it has been pushed."""
        with trio.CancelScope(shield=True):
            going = self._going[draft.id] = _Going(key)
            self.store.withdraw(draft)
            node = self.successors[draft.id](key, descriptor)
            if self.listener is not None:
                going.rest = await self.listener(draft, key, descriptor, node)

    async def _let_go(self, draft: Draft) -> None:
        """Drop a draft that was taken over, when no inode needs its files any more."""
        going = self._going.get(draft.id)
        if going is None:
            return
        try:
            with trio.CancelScope(shield=True):
                if going.rest is not None:
                    await going.rest()
                await self.drop(draft)
        finally:
            del self._going[draft.id]
            going.gone.set()

    async def _commit_unwatched(self, draft: Draft, ticket: str) -> None:
        try:
            await self.commit(draft, ticket)
        except OrasfsError as error:
            self.errors(draft).record("commit", error)

    def _required(self) -> DraftCommitter:
        if self.committer is None:
            raise Unsupported("nobody can commit here")
        return self.committer


def draft_key(place: Place, name: str) -> DraftKey:
    """Return the key that a draft begun as `name` in `place` has."""
    repository, colon, tag = name.partition(":")
    if colon and repository:
        return DraftKey(place.host, place.child(repository).path, tag, colon=True)
    return DraftKey(place.host, place.path, name)


def _holder(key: DraftKey) -> str:
    """Return the path below its registry of the place that a draft is in."""
    return key.repository.rpartition("/")[0] if key.colon else key.repository


def name_in(place: Place, key: DraftKey) -> str | None:
    """Return the name of a draft in a place, None if it is elsewhere."""
    if key.registry != place.host or key.subject:
        return None
    if not key.colon:
        return key.name if key.repository == place.path else None
    above, _, last = key.repository.rpartition("/")
    return f"{last}:{key.name}" if above == place.path else None
