"""Registries of a mount that never asks the network (`-o offline`).

Owns the sources and targets that stand in for clients: they make no request, and refuse at once
with the same words. What is in the cache is found before they are asked.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import trio

from orasfs.errors import Offline
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import ANY, BlobContent, BlobStream, Expectation, GrowingContent, Page
from orasfs.registry.circuit import CircuitStatus


class OfflineRepository:
    """A repository that nobody asks; implements `Source` and `Target`."""

    def __init__(self, host: str, name: str) -> None:
        self._place = f"{host}/{name}"

    def __repr__(self) -> str:
        return f"<OfflineRepository {self._place}>"

    @property
    def is_trusted(self) -> bool:
        """See `BlobStreamer.is_trusted`: nothing comes from here."""
        return False

    async def resolve(self, reference: str) -> Descriptor:
        """Refuse."""
        return await self._refuse(reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Refuse."""
        return await self._refuse(str(descriptor.digest))

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:  # noqa: ARG002 - the port's
        """Refuse."""
        return await self._refuse("its tags")

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Refuse."""
        return await self._refuse(f"the referrers of {subject}")

    def open_stream(
        self,
        descriptor: Descriptor,
        start: int = 0,  # noqa: ARG002 - the port's
        stop: int | None = None,  # noqa: ARG002 - the port's
    ) -> BlobStream:
        """Refuse."""
        raise self._refusal(str(descriptor.digest))

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Refuse."""
        return await self._refuse(str(descriptor.digest))

    async def mount_blob(self, descriptor: Descriptor, from_repository: str) -> bool:  # noqa: ARG002 - the port's
        """Refuse."""
        return await self._refuse(str(descriptor.digest))

    def push_blob(
        self,
        descriptor: Descriptor,
        content: BlobContent,  # noqa: ARG002 - the port's
        on_progress: Callable[[int], None],  # noqa: ARG002 - the port's
        is_cancelled: Callable[[], bool],  # noqa: ARG002 - the port's
    ) -> None:
        """Refuse."""
        raise self._refusal(str(descriptor.digest))

    def follow_blob(
        self,
        content: GrowingContent,  # noqa: ARG002 - the port's
        on_progress: Callable[[int], None],  # noqa: ARG002 - the port's
        is_cancelled: Callable[[], bool],  # noqa: ARG002 - the port's
    ) -> None:
        """Refuse."""
        raise self._refusal("a blob")

    async def push_manifest(
        self,
        raw: bytes,  # noqa: ARG002 - the port's
        media_type: str,  # noqa: ARG002 - the port's
        reference: str,
        *,
        expected: Expectation = ANY,  # noqa: ARG002 - the port's
    ) -> None:
        """Refuse."""
        await self._refuse(reference)

    async def delete_manifest(self, digest: Digest) -> None:
        """Refuse."""
        await self._refuse(str(digest))

    async def delete_tag(self, tag: str) -> None:
        """Refuse."""
        await self._refuse(tag)

    def _refuse(self, what: str) -> Awaitable[NoReturn]:
        return refuse(f"{self._place}: {what}")

    def _refusal(self, what: str) -> Offline:
        return refusal(f"{self._place}: {what}")


class OfflineRegistry:
    """A registry that nobody asks; stands where a client would."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __repr__(self) -> str:
        return f"<OfflineRegistry {self._host}>"

    @property
    def reader(self) -> "OfflineRegistry":
        """There is nothing else to read from."""
        return self

    @property
    def circuits(self) -> Mapping[str, CircuitStatus]:
        """There is none that could be broken."""
        return {}

    def insist(self) -> None:
        """Leave it at that: there is no host that could be tried again."""

    def repository(self, name: str) -> OfflineRepository:
        """Return the repository of that name."""
        return OfflineRepository(self._host, name)

    async def list_repositories(self, token: str | None = None) -> Page:  # noqa: ARG002 - the port's
        """Refuse."""
        return await refuse(f"{self._host}: its repositories")

    async def aclose(self) -> None:
        """Have nothing to close."""
        await trio.lowlevel.checkpoint()


async def refuse(what: str) -> NoReturn:
    """Refuse, as a request that fails does.

    Raises:
        Offline: always.
    """
    await trio.lowlevel.checkpoint()
    raise refusal(what)


def refusal(what: str) -> Offline:
    """Return the failure."""
    return Offline(f"{what}: offline: the mount asks no registry (-o offline)")
