"""What can be chosen about the cache, and what it says about itself; frozen values."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from orasfs.oci.digest import Digest
from orasfs.store.content.budget import Budget
from orasfs.store.files.pending import Patience


class Verify(Enum):
    """When bytes of a blob over `CacheOptions.lazy_bytes` may be served."""

    LAZY = "lazy"  # as they arrive, if the source is trusted
    STRICT = "strict"  # after the digest of the whole blob was checked


@dataclass(frozen=True, slots=True)
class PointOptions:
    """For which layers of gzip seek points are made, and when.

    Attributes:
        least_bytes: of the blob; one that is smaller is soon passed again.
        pause_seconds: how long whoever has just opened the layer is left alone.
    """

    least_bytes: int = 16 * 1024 * 1024
    pause_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """How the cache works.

    Attributes:
        verify: whether large blobs may be served before they are verified.
        lazy_bytes: blobs up to this size are verified before a byte is served, and are fetched
            to their end even if no one reads them any more.
        downloads: how many blobs up to `lazy_bytes` are fetched at once, and how many larger ones
            that are verified before a byte is served.
        streams: how many streams of large blobs there are at once.
        streams_per_blob: how many of them of one blob.
        streams_ahead: how many of them bring what is read in order, over a long way.
        idle_seconds: how long a stream waits for its reader before its connection is closed.
        open_seconds: how long opening a blob waits for its first bytes; a read waits for what it
            needs, and unlike an open it can be interrupted.
        grace_seconds: how long a larger blob is kept at hand without a reader. Nothing is fetched
            meanwhile if it comes in pieces; one that comes in order goes on.
        failure_seconds: how long a failed download is answered by the same failure.
        patience_seconds: how long a source is waited for where its last answer is known.
        budget: how large the cache may be, None for as large as the disk.
        pinned: tells the digests that are never evicted, as `algorithm:hex`; blocks.
        uses_published: whether indexes that are published beside layers are looked for.
        points: for which layers seek points are made.
        patience: how long what is whole waits for the disk while the cache is in use.
    """

    verify: Verify = Verify.LAZY
    lazy_bytes: int = 64 * 1024 * 1024
    downloads: int = 4
    streams: int = 12
    streams_per_blob: int = 6
    streams_ahead: int = 4
    idle_seconds: float = 5.0
    open_seconds: float = 5.0
    grace_seconds: float = 5.0
    failure_seconds: float = 1.0
    patience_seconds: float = 5.0
    budget: Budget | None = None
    pinned: Callable[[], Iterable[str]] = tuple
    uses_published: bool = True
    points: PointOptions = PointOptions()
    patience: Patience = field(default_factory=Patience)


class TransferState(Enum):
    """What is being done with a blob."""

    QUEUED = "queued"
    RUNNING = "running"
    KEEPING = "keeping"  # verified, and on its way to the disk


@dataclass(frozen=True, slots=True)
class Transfer:
    """A blob that is being fetched or verified; sizes are bytes."""

    digest: Digest
    size: int
    received: int
    state: TransferState


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the cache has done since it was made."""

    hits: int = 0
    misses: int = 0
    downloads_completed: int = 0
    downloads_failed: int = 0
    bytes_received: int = 0
    mismatches: int = 0
    layers_unpacked: int = 0
