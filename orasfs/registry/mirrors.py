"""Reading one registry at several places: mirrors in their order, and the registry itself.

Owns who is asked for what, in which order, and whose word counts. Knows no HTTP and no file: the
places are clients already (`orasfs.registry.client`), made of what `orasfs.registry.hosts` read.

INVARIANT: what a tag names is asked only of places that may say so. What content is, its digest
says, whoever serves it: what a mirror serves is never given out before it is verified, so
`is_trusted` is false as long as there is a mirror; and a place that served something else is not
asked for that content again.
INVARIANT: the registry's own word is final: that something is not there is believed of nobody
else, and what it fails with is what the caller hears. Nothing is ever pushed to a mirror.
"""

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from orasfs.errors import ContentMismatch, NotFound, OrasfsError, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStream, Page
from orasfs.registry.circuit import CircuitStatus
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from orasfs.registry.fallback import FallbackStream
from orasfs.registry.hosts import Capability
from orasfs.registry.readingplaces import (
    PASSED_OVER,
    MirrorNotes,
    ReadingPlace,
    RepositoryCopy,
)

T = TypeVar("T")


class MirroredRegistry:
    """A registry that is read at several places, and written to at its own.

    Args:
        origin: the registry itself.
        places: where it is read, in order. The origin need not be among them; the last one is
            final if it is not.
    """

    def __init__(self, origin: RemoteRegistry, places: Sequence[ReadingPlace]) -> None:
        self.host = origin.host
        self._origin = origin
        self._places = tuple(places)
        self._notes = MirrorNotes()

    def __repr__(self) -> str:
        return f"MirroredRegistry({', '.join(place.registry.host for place in self._places)})"

    @property
    def reader(self) -> "MirrorReader":
        """The registry as it is read."""
        return MirrorReader(self._places, self._notes)

    def repository(self, name: str) -> RemoteRepository:
        """Return a repository at the registry itself, for writing; makes no request.

        Raises:
            InvalidName: no repository can be called so.
        """
        return self._origin.repository(name)

    async def list_repositories(self, token: str | None = None) -> Page:
        """See `RepositoryLister.list_repositories`."""
        return await self._origin.list_repositories(token)

    async def ping(self) -> None:
        """Ask whether the registry itself will speak with us; see `RemoteRegistry.ping`."""
        await self._origin.ping()

    def insist(self) -> None:
        """Have the registry itself asked again, even if it is left alone for now."""
        self._origin.insist()

    @property
    def circuits(self) -> Mapping[str, CircuitStatus]:
        """The circuits of all places, by host."""
        registries = [self._origin, *(place.registry for place in self._places)]
        return {host: status for each in registries for host, status in each.circuits.items()}

    async def aclose(self) -> None:
        """Close all connections; streams that are open fail. Harmless twice."""
        for registry in {self._origin, *(place.registry for place in self._places)}:
            await registry.aclose()


class MirrorReader:
    """All repositories of a registry, read at several places; implements `SourceRegistry`."""

    def __init__(self, places: Sequence[ReadingPlace], notes: MirrorNotes) -> None:
        self._places = tuple(places)
        self._notes = notes

    def repository(self, name: str) -> "MirroredSource":
        """Return the repository of that full name; makes no request.

        Raises:
            InvalidName: no repository can be called so.
        """
        return MirroredSource(name, self._places, self._notes)

    async def list_repositories(self, token: str | None = None) -> Page:
        """See `RepositoryLister.list_repositories`: a mirror knows only what it was asked for."""
        final = next(place for place in self._places if place.is_final)
        return await final.registry.list_repositories(token)


class MirroredSource:
    """One repository, read at several places; implements `Source` and `Alternatives`."""

    def __init__(self, name: str, places: Sequence[ReadingPlace], notes: MirrorNotes) -> None:
        self.name = name
        self._copies = tuple(
            RepositoryCopy(each, each.registry.repository(name)) for each in places
        )
        self._notes = notes

    def __repr__(self) -> str:
        return f"MirroredSource({self.name}, {', '.join(copy.host for copy in self._copies)})"

    async def resolve(self, reference: str) -> Descriptor:
        """See `Resolver.resolve`. A digest may be asked of every place that has content."""
        is_digest = ":" in reference
        wanted = Capability.PULL if is_digest else Capability.RESOLVE
        return await self._first(wanted, lambda source: source.resolve(reference))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """See `ManifestFetcher.fetch_manifest`; each place's answer is verified by itself."""
        return await self._first(
            Capability.PULL, lambda source: source.fetch_manifest(descriptor), descriptor.digest
        )

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        """See `TagLister.list_tags`; a mirror's list may lack what nobody asked it for.

        So one is asked only while the registry itself cannot be.
        """
        if token is not None:
            host = next((c for c in self._copies if token.startswith(f"{c.host} ")), None)
            if host is not None:
                return _page_of(host, await host.repository.list_tags(token.partition(" ")[2]))
        try:
            return await self._final.repository.list_tags(token, limit=limit)
        except Unreachable as error:
            if token is not None:
                raise
            failure = error
        for each in self._able(Capability.RESOLVE):
            try:
                return _page_of(each, await each.repository.list_tags(limit=limit))
            except PASSED_OVER as error:
                self._notes.failed(each.host, error)
        raise copy.copy(failure) from failure

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """See `ReferrerLister.list_referrers`; a mirror may lack some: see `list_tags`."""
        try:
            return await self._final.repository.list_referrers(subject)
        except Unreachable as error:
            failure = error
        for each in self._able(Capability.RESOLVE):
            try:
                return await each.repository.list_referrers(subject)
            except PASSED_OVER as error:
                self._notes.failed(each.host, error)
        raise copy.copy(failure) from failure

    @property
    def is_trusted(self) -> bool:
        """See `BlobStreamer.is_trusted`: what a mirror serves is verified first."""
        return len(self._copies) == 1 and self._copies[0].repository.is_trusted

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> BlobStream:
        """See `BlobStreamer.open_stream`. Blocking: for worker threads."""
        candidates = [
            each
            for each in self._copies
            if Capability.PULL in each.place.capabilities or each.place.is_final
        ]
        candidates = [
            each
            for each in candidates
            if each.place.is_final or not self._notes.is_distrusted(descriptor.digest, each.host)
        ]
        stream = FallbackStream(candidates, self._notes, descriptor, start, stop)
        stream.open()
        return stream

    def reject(self, descriptor: Descriptor) -> bool:
        """See `Alternatives.reject`."""
        return bool(self._notes.distrust(descriptor.digest))

    @property
    def _final(self) -> RepositoryCopy:
        return next(each for each in self._copies if each.place.is_final)

    def _able(self, capability: Capability) -> list[RepositoryCopy]:
        """Return the places other than the final one that may be asked."""
        return [
            each
            for each in self._copies
            if not each.place.is_final and capability in each.place.capabilities
        ]

    async def _first(
        self,
        capability: Capability,
        work: Callable[[RemoteRepository], Awaitable[T]],
        digest: Digest | None = None,
    ) -> T:
        """Return the first answer of the places that may be asked.

        Raises:
            OrasfsError: of the final place.
        """
        failure: OrasfsError | None = None
        for each in self._copies:
            is_final = each.place.is_final
            if not is_final and capability not in each.place.capabilities:
                continue
            if not is_final and digest and self._notes.is_distrusted(digest, each.host):
                continue
            try:
                found = await work(each.repository)
            except PASSED_OVER as error:
                if is_final and (isinstance(error, NotFound) or each is self._copies[-1]):
                    raise
                failure = error if is_final else failure
                if not is_final:
                    self._pass_over(each, error, digest)
            else:
                self._notes.answered(each.host)
                return found
        raise failure or NotFound(f"{self.name}: no place to read it at")

    def _pass_over(self, each: RepositoryCopy, error: OrasfsError, digest: Digest | None) -> None:
        if digest is not None and isinstance(error, ContentMismatch):
            self._notes.distrust(digest, each.host)
        else:
            self._notes.failed(each.host, error)


def _page_of(each: RepositoryCopy, page: Page) -> Page:
    """Return a mirror's page; what asks for the next one says of whom."""
    token = page.next_token
    return Page(page.names, f"{each.host} {token}" if token is not None else None)
