"""The ports of a source: what the filesystem and the cache ask of whoever has the content.

A *source* (a remote registry, a local image layout) implements the raw ports: `Resolver`,
`ManifestFetcher`, `TagLister`, `ReferrerLister`, `RepositoryLister` and `BlobStreamer`. The cache
(store/) stands in front of a source and offers `BlobOpener` to the filesystem, which knows no
other way to a blob's bytes. All but `RepositoryLister` are bound to one repository.

Every method may raise the `RegistryError`, `Unreachable` and `Storage…` branches of
`orasfs.errors`; "Raises" below lists what is particular. Every call ends within a deadline of its
implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
        """The blob's offset of the next byte; 0 at first if a range was asked and ignored."""
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
