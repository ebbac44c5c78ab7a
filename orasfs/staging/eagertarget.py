"""A target that waits for a blob that is on its way before it says whether it has it.

Owns nothing but that: everything else is the target's.
"""

from collections.abc import Awaitable, Callable

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import ANY, BlobContent, Expectation, GrowingContent, Target


class WaitingTarget:
    """Implements `orasfs.oci.storage.Target` by another one.

    Args:
        target: the other one.
        wait: returns when a blob is not on its way.
    """

    def __init__(self, target: Target, wait: Callable[[Digest], Awaitable[None]]) -> None:
        self._target = target
        self._wait = wait

    def __repr__(self) -> str:
        return f"<WaitingTarget {self._target!r}>"

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """See `BlobPusher.has_blob`."""
        await self._wait(descriptor.digest)
        return await self._target.has_blob(descriptor)

    async def resolve(self, reference: str) -> Descriptor:
        """See `Resolver.resolve`."""
        return await self._target.resolve(reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """See `ManifestFetcher.fetch_manifest`."""
        return await self._target.fetch_manifest(descriptor)

    async def mount_blob(self, descriptor: Descriptor, from_repository: str) -> bool:
        """See `BlobPusher.mount_blob`."""
        return await self._target.mount_blob(descriptor, from_repository)

    def push_blob(
        self,
        descriptor: Descriptor,
        content: BlobContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """See `BlobPusher.push_blob`."""
        self._target.push_blob(descriptor, content, on_progress, is_cancelled)

    def follow_blob(
        self,
        content: GrowingContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """See `BlobPusher.follow_blob`."""
        self._target.follow_blob(content, on_progress, is_cancelled)

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation = ANY
    ) -> None:
        """See `ManifestPusher.push_manifest`."""
        await self._target.push_manifest(raw, media_type, reference, expected=expected)

    async def delete_manifest(self, digest: Digest) -> None:
        """See `TagRemover.delete_manifest`."""
        await self._target.delete_manifest(digest)

    async def delete_tag(self, tag: str) -> None:
        """See `TagRemover.delete_tag`."""
        await self._target.delete_tag(tag)
