"""How far a commit is: phases, blobs and bytes, for people and for `.orasfs`.

Owns the numbers of one commit. Knows nothing of who shows them.
INVARIANT: a blob's numbers are set by one task or its worker thread at a time, each by a single
assignment; readers take what is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from orasfs.oci.digest import Digest


class Phase(Enum):
    """What a commit is doing, or how it ended."""

    WAITING = "waiting"  # for files that are open for writing
    PUSHING = "pushing"  # packs and pushes side by side
    TAGGING = "tagging"  # all blobs are there; the manifest is put
    KEEPING = "keeping"  # pushed; the cache takes the content over
    INDEXING = "indexing"  # pushed; indexes of packed directories are published beside it
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing comes after it."""
        return self in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)


class BlobState(Enum):
    """What happens, or happened, to a blob."""

    PACKING = "packing"  # being hashed or packed: digest, and of a directory size, are not known
    ASKING = "asking"  # whether the target has it
    SENDING = "sending"
    SENT = "sent"
    PRESENT = "present"  # the target had it
    MOUNTED = "mounted"  # the target had it in another repository


_AT_THE_TARGET = frozenset({BlobState.SENT, BlobState.PRESENT, BlobState.MOUNTED})


@dataclass(slots=True)
class BlobProgress:
    """One blob; sizes in bytes, of a directory that is not packed yet the size of its files."""

    name: str
    size: int
    state: BlobState = BlobState.PACKING
    digest: Digest | None = None
    sent: int = 0

    @property
    def is_there(self) -> bool:
        """Whether the target has it now."""
        return self.state in _AT_THE_TARGET


@dataclass(frozen=True, slots=True)
class Totals:
    """The sum of a commit: counts of blobs, and bytes.

    Attributes:
        blobs: known so far.
        there: of them at the target.
        skipped: of them there before, or mounted.
        size: bytes of all.
        sent: bytes that went to the target.
        skipped_size: bytes that did not need to.
    """

    blobs: int
    there: int
    skipped: int
    size: int
    sent: int
    skipped_size: int


@dataclass(slots=True)
class Progress:
    """One commit under way."""

    phase: Phase = Phase.PUSHING
    blobs: list[BlobProgress] = field(default_factory=list)
    warnings: tuple[str, ...] = ()

    def add(self, name: str, size: int, state: BlobState = BlobState.PACKING) -> BlobProgress:
        """Begin to tell of a blob."""
        blob = BlobProgress(name, size, state)
        self.blobs.append(blob)
        return blob

    def active(self) -> Iterator[BlobProgress]:
        """Yield the blobs that are being sent."""
        return (blob for blob in self.blobs if blob.state is BlobState.SENDING)

    def totals(self) -> Totals:
        """Sum up."""
        skipped = [blob for blob in self.blobs if blob.is_there and blob.state != BlobState.SENT]
        return Totals(
            blobs=len(self.blobs),
            there=sum(blob.is_there for blob in self.blobs),
            skipped=len(skipped),
            size=sum(blob.size for blob in self.blobs),
            sent=sum(blob.sent for blob in self.blobs),
            skipped_size=sum(blob.size for blob in skipped),
        )
