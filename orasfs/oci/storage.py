"""The ports of a source: what the filesystem and the cache ask of whoever has the content.

A *source* (a remote registry, a local image layout) implements the raw ports: `Resolver`,
`ManifestFetcher`, `TagLister`, `ReferrerLister`, `RepositoryLister` and `BlobStreamer`. The cache
(store/) stands in front of a source and offers `BlobOpener` to the filesystem, which knows no
other way to a blob's bytes. A *target* (the same two) implements the pushing ports: `BlobPusher`,
`ManifestPusher` and `TagRemover`. All but `RepositoryLister` are bound to one repository.

Every method may raise the `RegistryError`, `Unreachable` and `Storage…` branches of
`orasfs.errors`; "Raises" below lists what is particular. Every call ends within a deadline of its
implementation.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, Protocol, runtime_checkable

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing. `next_token` asks for the following one; None after the last.

    The token is opaque: for a registry it is the Link header's target as given.
    """

    names: Sequence[str]
    next_token: str | None = None


class Resolver(Protocol):
    """Turns a tag or a digest into a descriptor."""

    async def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor (media type, digest, size) of the manifest that is so named.

        Args:
            reference: a tag, or a digest as `algorithm:hex`.

        Raises:
            NotFound: the source has no such manifest.
        """
        ...


class ManifestFetcher(Protocol):
    """Fetches manifests, which are small."""

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest's bytes, of which size and digest have been verified.

        Raises:
            NotFound: the source does not have it.
            ContentMismatch: it served something else.
            InvalidContent: it is over 4 MiB.
        """
        ...


class TagLister(Protocol):
    """Lists the tags of the repository."""

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        """Return the page that `token` asks for, the first by default.

        Args:
            token: the previous page's `next_token`.
            limit: at most so many names, as a wish (`n=`); only of the first page.

        Raises:
            NotFound: the source has no such repository.
        """
        ...


class ReferrerLister(Protocol):
    """Lists what refers to a manifest by its subject."""

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Return the descriptors of the referrers, with their annotations and artifact types."""
        ...


class RepositoryLister(Protocol):
    """Lists the repositories of a registry, as far as it will say."""

    async def list_repositories(self, token: str | None = None) -> Page:
        """Return the page that `token` asks for, the first by default.

        Raises:
            Unsupported: the registry has no catalog (404, 405) or will not show it (401, 403).
        """
        ...


class BlobStream(Protocol):
    """Bytes of a blob, in order. Used from one worker thread at a time; blocking."""

    @property
    def offset(self) -> int:
        """The blob's offset of the next byte.

        If a range was asked and ignored it is 0 at first, and the stream goes to the blob's end.
        """
        ...

    def readinto(self, buffer: memoryview) -> int:
        """Fill a part of `buffer`; return the number of bytes, 0 at the end of the stream.

        A connection that breaks is resumed inside, as far as retries allow.

        Raises:
            Unreachable: it could not be resumed, or nothing came within the deadline.
        """
        ...

    def close(self) -> None:
        """Give up the connection. Harmless twice, and from another thread."""
        ...


class BlobStreamer(Protocol):
    """The bulk path: opens streams of blobs, blocking, in worker threads."""

    @property
    def is_trusted(self) -> bool:
        """Whether unverified bytes of large blobs may be served: the origin by TLS or loopback."""
        ...

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> BlobStream:
        """Open the blob's bytes [start, stop), to the end by default.

        Raises:
            NotFound: the source does not have the blob.
        """
        ...


@runtime_checkable
class Alternatives(Protocol):
    """A source that may have a blob from more than one place."""

    def reject(self, descriptor: Descriptor) -> bool:
        """Hear that what was served is not what the descriptor says; may be called in any thread.

        Returns:
            Whether it is worth asking again: what served it will not serve it again.
        """
        ...


def reject(source: object, descriptor: Descriptor) -> bool:
    """Tell a source that it served something else; return whether it has another place."""
    return isinstance(source, Alternatives) and source.reject(descriptor)


class Source(Resolver, ManifestFetcher, TagLister, ReferrerLister, BlobStreamer, Protocol):
    """All raw ports of one repository: what a registry client or a layout implements."""


class SourceRegistry(RepositoryLister, Protocol):
    """All repositories of one registry, raw."""

    def repository(self, name: str) -> Source:
        """Return the repository of that full name; makes no request."""
        ...


class BlobReader(Protocol):
    """An open blob, or a member of an unpacked layer: random access to `size` bytes."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    @property
    def is_verified(self) -> bool:
        """Whether the bytes have been checked against the digest."""
        ...

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if they can be had without waiting for network or disk, else None."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end of the blob.

        Raises:
            ContentMismatch: the blob turned out to be another than its descriptor says.
        """
        ...

    def close(self) -> None:
        """Release it. Harmless twice."""
        ...


class BlobOpener(Protocol):
    """Opens blobs for random access, through the cache."""

    async def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open the blob. Returns before all of it is local, if what is not may be read lazily.

        Raises:
            NotFound: the source does not have it.
            ContentMismatch: the source served something else.
            StorageFull: the cache's disk is full.
        """
        ...


class Anything(enum.Enum):
    """The type of `ANY`."""

    ANY = enum.auto()


ANY: Final = Anything.ANY

# What a tag must name at the moment it is moved: that digest, nothing (None: no such tag exists),
# or whatever it is (ANY).
Expectation = Digest | Literal[Anything.ANY] | None


class BlobContent(Protocol):
    """The bytes of a blob that is to be pushed."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    def open(self) -> BinaryIO:
        """Open them at the beginning, once more for each attempt; called in a worker thread."""
        ...


class GrowingContent(Protocol):
    """The bytes of a blob that is still being written, from its beginning on."""

    def wait(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        """Return how many bytes there are once a request is worth sending, or no more will come.

        Blocking. INVARIANT: bytes that were counted do not change, or else `Aborted` is raised
        by the next call.

        Args:
            offset: how many have been sent.
            is_cancelled: asked every now and then.

        Raises:
            Aborted: it is cancelled, nobody has written for a while, or not only at the end.
        """
        ...

    def flow(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        """Return how many bytes there are as soon as there is a piece of a body that is under way.

        Blocking; the same as `wait`, but for less, and not for long.

        Returns:
            `offset`, if no more will come, or none has come for so long that the body shall end.

        Raises:
            Aborted: as `wait`.
        """
        ...

    def digest_now(self) -> Digest | None:
        """Return the digest of all of it, None as long as more may come."""
        ...

    def open(self) -> BinaryIO:
        """Open what there is at the beginning; called in a worker thread."""
        ...


class BlobPusher(Protocol):
    """Brings blobs into the repository."""

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Tell whether the repository has the blob (HEAD), with the descriptor's size."""
        ...

    async def mount_blob(self, descriptor: Descriptor, from_repository: str) -> bool:
        """Take the blob over from another repository of the same registry, moving no bytes.

        Returns:
            False if that cannot be done, for whatever reason the registry has: push it instead.
        """
        ...

    def push_blob(
        self,
        descriptor: Descriptor,
        content: BlobContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Send a blob, with bounded memory. Blocking, for a worker thread; retried inside.

        Args:
            descriptor: size and digest of the content, which the target verifies.
            content: the bytes.
            on_progress: gets the number of bytes that have been sent, after each piece; it goes
                back when an attempt begins anew.
            is_cancelled: asked at each piece, and while it waits for the next attempt.

        Raises:
            Aborted: `is_cancelled` said so.
            ContentMismatch: the content is not what the descriptor says.
            TooLarge: the target does not take so much at once, in any way that is known.
            QuotaExceeded: the target has no room.
        """
        ...

    def follow_blob(
        self,
        content: GrowingContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Send a blob while it is written; return when the target has all of it. Blocking.

        Raises:
            Aborted: `is_cancelled` said so, or the content is not to be followed any more.
            Unsupported: the target takes whole blobs only.
            OrasfsError: as `push_blob`.
        """
        ...


class ManifestPusher(Protocol):
    """Puts manifests, with or without a tag."""

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation = ANY
    ) -> None:
        """Put a manifest, whose blobs and children are there, under a tag or its digest.

        The referrers of its subject know of it when this returns.

        Args:
            raw: the manifest's bytes.
            media_type: the same as the one in it.
            reference: a tag, or the manifest's digest as `algorithm:hex`.
            expected: what the tag must name beforehand. A layout sees to it exactly; a registry is
                asked just before, and again after.

        Raises:
            TagMoved: it names something else.
            TagImmutable: the registry lets nobody move that tag.
            TooLarge: the registry takes no manifest of this size.
        """
        ...


class TagRemover(Protocol):
    """Removes what a reference names."""

    async def delete_manifest(self, digest: Digest) -> None:
        """Remove a manifest, and all tags on it.

        Raises:
            NotFound: there is none.
            Unsupported: the registry deletes nothing.
        """
        ...

    async def delete_tag(self, tag: str) -> None:
        """Remove one tag, and never another one on the same manifest.

        Raises:
            NotFound: there is none.
            Unsupported: the registry deletes nothing; the tag is what it was.
            Busy: the tag was changed, and can neither be removed nor put back.
        """
        ...


class Target(Resolver, ManifestFetcher, BlobPusher, ManifestPusher, TagRemover, Protocol):
    """What a commit writes to: one repository of a registry, or a layout."""
