"""All registries that a mount may reach, behind the cache (vfs.ports.Registries).

Owns which source stands behind a host's name, which hosts are known, and whether one exists. The
filesystem sees the ports only; the clients are made here, at the first use of a host.
"""

import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import cachetools
import trio

from orasfs.daemon.health import Health, RegistryHealth, WatchedRegistry
from orasfs.daemon.norepository import NoRepository
from orasfs.daemon.source import LAYOUT_PREFIX, MountSource, find_layouts
from orasfs.errors import HostUnreachable, InvalidName, NotFound, NotPermitted, TimedOut
from orasfs.oci.storage import Page, Source, SourceRegistry, Target
from orasfs.registry.circuit import CircuitStatus
from orasfs.store.layout import LayoutRegistry, LayoutSource
from orasfs.store.layoutwriter import LayoutTarget, create_layout, remove_empty_layout
from orasfs.vfs.ports import Registry, Repository

RESOLVE_SECONDS = 5.0  # for a host's name
RESOLVED_SECONDS = 60.0  # how long an answer holds, a `no` too
MAX_HOSTS = 4096
# getaddrinfo(3): the name is not there, which is an answer; all else is a failure to ask.
_ABSENT = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Endpoint(Source, Target, Protocol):
    """One repository, for reading and writing."""


class ClosableRegistry(SourceRegistry, Protocol):
    """A source and target that holds connections."""

    @property
    def reader(self) -> SourceRegistry:
        """The registry as it is read, perhaps at other places than it is written to."""
        ...

    def insist(self) -> None:
        """Have its host asked again, even if it is left alone for now."""
        ...

    @property
    def circuits(self) -> Mapping[str, CircuitStatus]:
        """Whether its host, and those of its mirrors, are left alone for now."""
        ...

    def repository(self, name: str) -> Endpoint:
        """Return the repository of that full name; makes no request."""
        ...

    async def aclose(self) -> None:
        """Close them. Harmless twice."""
        ...


CacheRepository = Callable[[Source, str, str], Repository]  # (source, registry, name)
Remembered = Callable[[str], Sequence[str]]  # the repositories of a registry seen before


class CachedRegistry:
    """One registry behind the cache; implements `vfs.ports.Registry`."""

    def __init__(
        self, host: str, source: SourceRegistry, cached: CacheRepository, remembered: Remembered
    ) -> None:
        self._host = host
        self._source = source
        self._cached = cached
        self._remembered = remembered
        self._repositories: cachetools.LRUCache[str, Repository] = cachetools.LRUCache(10_000)

    def __repr__(self) -> str:
        return f"CachedRegistry({self._host})"

    def repository(self, name: str) -> Repository:
        """Return the repository of that full name; makes no request."""
        found = self._repositories.get(name)
        if found is None:
            found = self._repositories[name] = self._open(name)
        return found

    def _open(self, name: str) -> Repository:
        try:
            source = self._source.repository(name)
        except InvalidName:
            return NoRepository(self._host, name)
        return self._cached(source, self._host, name)

    async def list_repositories(self, token: str | None = None) -> Page:
        """See `RepositoryLister.list_repositories`."""
        return await self._source.list_repositories(token)

    def remembered(self) -> Sequence[str]:
        """Return the repositories that the cache has seen."""
        return self._remembered(self._host)


class MountRegistries:
    """The registries of one mount; implements `vfs.ports.Registries`.

    Args:
        source: what is mounted: local layouts are part of it.
        hosts: those to list besides the ones that answered.
        connect: makes the client of a host; makes no request.
        cached: puts the cache in front of a repository.
        remembered: tells the repositories of a registry that the cache has seen.
        resolves: tells whether there is a host; by default the system's resolver.
    """

    def __init__(
        self,
        source: MountSource,
        hosts: Iterable[str],
        connect: Callable[[str], ClosableRegistry],
        cached: CacheRepository,
        remembered: Remembered,
        resolves: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._resolves = resolves or _resolves
        self._source = source
        self._remembered = remembered
        self._hosts = frozenset(hosts)
        self._connect = connect
        self._cached = cached
        self._registries: dict[str, CachedRegistry] = {}
        self._clients: dict[str, ClosableRegistry] = {}
        self._health: dict[str, Health] = {}
        self._exists: cachetools.TTLCache[str, bool] = cachetools.TTLCache(
            MAX_HOSTS, RESOLVED_SECONDS, timer=trio.current_time
        )

    def registry(self, host: str) -> Registry:
        """Return the registry of that name, or the layout `oci:LABEL`; makes no request.

        Raises:
            NotFound: there is no such layout.
        """
        found = self._registries.get(host)
        if found is None:
            found = CachedRegistry(host, self._open(host), self._cached, self._remembered)
            self._registries[host] = found
        return found

    def source(self, host: str, name: str) -> Source:
        """Return a repository for reading, past the cache; makes no request.

        Raises:
            NotFound: there is no such layout.
            InvalidName: no repository can be called so.
        """
        if host.startswith(LAYOUT_PREFIX):
            return LayoutSource(self._layout(host.removeprefix(LAYOUT_PREFIX)))
        return self._endpoint(host, name)

    def target(self, host: str, name: str) -> Target:
        """Return a repository for writing, past the cache; makes no request.

        Raises:
            NotFound: there is no such layout.
            InvalidName: no repository can be called so.
        """
        if host.startswith(LAYOUT_PREFIX):
            return LayoutTarget(self._layout(host.removeprefix(LAYOUT_PREFIX)))
        endpoint = self._endpoint(host, name)
        self._clients[host].insist()  # a commit is worth a try
        return endpoint

    def _endpoint(self, host: str, name: str) -> Endpoint:
        self.registry(host)  # makes the client at the host's first use
        return self._clients[host].repository(name)

    def known(self) -> Sequence[str]:
        """Return the names to list: hosts, or of a mount of layouts the names of those."""
        if self._source.local is not None:
            return tuple(find_layouts(self._source.local))
        answered = {host for host, health in self._health.items() if health.current.reachable}
        return tuple(sorted(self._hosts | answered))

    async def begin_layout(self, name: str) -> None:
        """Make an empty layout among the embedded repositories; see `vfs.ports.Registries`."""
        if self._source.local is None:
            raise NotPermitted(f"{name}: not a mount of embedded repositories")
        await trio.to_thread.run_sync(create_layout, self._source.local / name)

    async def drop_layout(self, name: str) -> None:
        """Remove a layout in which nothing is; see `vfs.ports.Registries`."""
        path = self._layout(name)
        await trio.to_thread.run_sync(remove_empty_layout, path)
        self._registries.pop(f"{LAYOUT_PREFIX}{name}", None)

    async def exists(self, host: str) -> bool:
        """Tell whether the cache knows the host or its name resolves; kept for a minute.

        So what was seen is there while the resolver is not.

        Raises:
            TimedOut: no answer came in time.
            HostUnreachable: the resolver failed.
        """
        answer = self._exists.get(host)
        if answer is None:
            is_seen = bool(self._remembered(host))
            answer = self._exists[host] = is_seen or await self._resolves(host)
        return answer

    def health(self) -> Mapping[str, RegistryHealth]:
        """Return what is known of the registries used so far, by host."""
        return {
            host: replace(health.current, circuits=self._clients[host].circuits)
            for host, health in sorted(self._health.items())
        }

    async def aclose(self) -> None:
        """Close all clients."""
        for client in self._clients.values():
            await client.aclose()

    def _open(self, host: str) -> SourceRegistry:
        if host.startswith(LAYOUT_PREFIX):
            label = host.removeprefix(LAYOUT_PREFIX)
            is_shown = label in self._source.layouts or not label.startswith("/")
            # A draft outlives the layout that it was to be copied from.
            return LayoutRegistry(self._layout(label), must_exist=is_shown)
        client = self._connect(host)
        self._clients[host] = client
        self._health[host] = Health(time.time)
        return WatchedRegistry(client.reader, self._health[host])

    def _layout(self, label: str) -> Path:
        if label in self._source.layouts:
            return self._source.layouts[label]
        if label.startswith("/"):
            return Path(label)  # what is copied may come from any layout
        layouts = find_layouts(self._source.local) if self._source.local is not None else {}
        if label not in layouts:
            raise NotFound(f"{LAYOUT_PREFIX}{label}: no such local layout")
        return layouts[label]


async def _resolves(host: str) -> bool:
    name = host.removeprefix("[").partition("]")[0] if host.startswith("[") else host
    with trio.move_on_after(RESOLVE_SECONDS) as scope:
        try:
            await trio.socket.getaddrinfo(name.partition(":")[0], None)
        except socket.gaierror as error:
            if error.errno in _ABSENT:
                return False
            raise HostUnreachable(f"{host}: {error.strerror}") from error
        except UnicodeError:
            return False  # a label that DNS cannot carry
    if scope.cancelled_caught:
        raise TimedOut(f"{host}: the name was not resolved within {RESOLVE_SECONDS:g} seconds")
    return True
