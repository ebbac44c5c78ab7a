"""How the registries behave: the last outcome of each, for `status.json` and the metrics.

Owns the notes and the sources that take them. A source here delegates every call and changes
nothing. INVARIANT: `Health` may be told from any thread; it only replaces values.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from orasfs.errors import OrasfsError, RegistryFailure, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStream, Page, Source, SourceRegistry, reject
from orasfs.registry.circuit import CircuitStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegistryHealth:
    """What is known of one registry.

    Attributes:
        reachable: whether it answered last; None before it was asked.
        requests: operations asked of it, by name of the port's method.
        failures: how many of them it did not answer.
        last_error: in words, "" if there was none.
        last_error_time: seconds since the epoch, 0 if there was none.
        circuits: whether its host, and those of its mirrors, are left alone for now.
    """

    reachable: bool | None = None
    requests: Mapping[str, int] = field(default_factory=dict)
    failures: int = 0
    last_error: str = ""
    last_error_time: float = 0.0
    circuits: Mapping[str, CircuitStatus] = field(default_factory=dict)


class Health:
    """Notes the outcome of operations on one registry."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._clock = wall_clock
        self.current = RegistryHealth()

    def note(self, operation: str, error: OrasfsError | None = None) -> None:
        """Note an outcome. A registry that says no has answered."""
        now = self.current
        requests = {**now.requests, operation: now.requests.get(operation, 0) + 1}
        if not isinstance(error, Unreachable | RegistryFailure):
            self.current = replace(now, reachable=True, requests=requests)
            return
        self.current = RegistryHealth(
            reachable=False,
            requests=requests,
            failures=now.failures + 1,
            last_error=str(error),
            last_error_time=self._clock(),
        )

    async def watch(self, operation: str, work: Awaitable[T]) -> T:
        """Await `work` and note how it ends."""
        try:
            result = await work
        except OrasfsError as error:
            self.note(operation, error)
            raise
        self.note(operation)
        return result


class WatchedSource:
    """A repository whose outcomes are noted; implements `Source`."""

    def __init__(self, source: Source, health: Health) -> None:
        self._source = source
        self._health = health

    @property
    def is_trusted(self) -> bool:
        """See `BlobStreamer.is_trusted`."""
        return self._source.is_trusted

    async def resolve(self, reference: str) -> Descriptor:
        """See `Resolver.resolve`."""
        return await self._health.watch("resolve", self._source.resolve(reference))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """See `ManifestFetcher.fetch_manifest`."""
        return await self._health.watch("fetch_manifest", self._source.fetch_manifest(descriptor))

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        """See `TagLister.list_tags`."""
        return await self._health.watch("list_tags", self._source.list_tags(token, limit=limit))

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """See `ReferrerLister.list_referrers`."""
        return await self._health.watch("list_referrers", self._source.list_referrers(subject))

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> BlobStream:
        """See `BlobStreamer.open_stream`."""
        try:
            stream = self._source.open_stream(descriptor, start, stop)
        except OrasfsError as error:
            self._health.note("open_stream", error)
            raise
        self._health.note("open_stream")
        return stream

    def reject(self, descriptor: Descriptor) -> bool:
        """See `Alternatives.reject`."""
        return reject(self._source, descriptor)


class WatchedRegistry:
    """A registry whose outcomes are noted; implements `SourceRegistry`."""

    def __init__(self, registry: SourceRegistry, health: Health) -> None:
        self._registry = registry
        self.health = health

    def repository(self, name: str) -> Source:
        """See `SourceRegistry.repository`."""
        return WatchedSource(self._registry.repository(name), self.health)

    async def list_repositories(self, token: str | None = None) -> Page:
        """See `RepositoryLister.list_repositories`."""
        return await self.health.watch(
            "list_repositories", self._registry.list_repositories(token)
        )
