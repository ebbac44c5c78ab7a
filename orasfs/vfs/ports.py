"""The ports the filesystem looks through: registries, repositories and their content.

Owned by the user, implemented structurally by whoever wires (`orasfs.daemon`): the filesystem
imports neither the registry client nor the cache.
"""

from collections.abc import Sequence
from typing import Protocol

from orasfs.oci.storage import (
    BlobOpener,
    ManifestFetcher,
    ReferrerLister,
    RepositoryLister,
    Resolver,
    TagLister,
)
from orasfs.tree.layers import LayerOpener


class Repository(
    Resolver, ManifestFetcher, TagLister, ReferrerLister, BlobOpener, LayerOpener, Protocol
):
    """One repository behind the cache."""


class Registry(RepositoryLister, Protocol):
    """One registry behind the cache."""

    def repository(self, name: str) -> Repository:
        """Return the repository of that full name; makes no request."""
        ...

    def remembered(self) -> Sequence[str]:
        """Return the repositories that were seen before, to list while the registry is away."""
        ...


class Registries(Protocol):
    """All registries that a mount may reach."""

    def registry(self, host: str) -> Registry:
        """Return the registry `HOST[:PORT]` (lower case); makes no request."""
        ...

    def known(self) -> Sequence[str]:
        """Return the hosts to list: those configured, and those used so far that answered."""
        ...

    async def begin_layout(self, name: str) -> None:
        """Make an empty layout among the embedded repositories; harmless if it is there.

        Raises:
            NotPermitted: the mount is of something else.
            StorageFailure: it cannot be made.
        """
        ...

    async def drop_layout(self, name: str) -> None:
        """Remove a layout in which nothing is.

        Raises:
            NotEmpty: something is in it.
        """
        ...

    async def exists(self, host: str) -> bool:
        """Tell whether the host's name resolves; a `no` is remembered for a while."""
        ...
