"""What an upload is made of: the blob with who watches it, and the requests that carry it.

Owns how the content becomes the pieces of a body. Knows neither the order of requests nor what
their answers mean (`orasfs.registry.upload`), nor how they are sent (`orasfs.registry.bulk`).

INVARIANT: one piece is in memory at a time, whatever the blob's size.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from orasfs.errors import Aborted, ContentMismatch, StorageFailure
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobContent, GrowingContent
from orasfs.registry.protocol import Answer

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """One request of an upload.

    Attributes:
        method: POST, PUT, PATCH, GET, HEAD or DELETE.
        target: a path, or an absolute URL of the registry's own origin.
        subject: what it is about, in words that begin every message.
        headers: beside those of all requests.
        open_pieces: begins the body; once more for each sending.
        length: of the body in bytes; None if it is not known yet.
        is_final: whether the answer may take as long as the registry needs to keep the blob.
    """

    method: str
    target: str
    subject: str
    headers: Mapping[str, str] = field(default_factory=dict)
    open_pieces: Callable[[], Iterable[bytes]] = tuple
    length: int | None = 0
    is_final: bool = False


# Sends one request, following nothing; any status; raises Unreachable.
Sender = Callable[[UploadRequest], Answer]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be sent, and who wants to know; see `BlobPusher.push_blob`.

    Attributes:
        repository: where it goes.
        subject: what it is, in words that begin every message.
        on_progress: gets the number of bytes that have been sent.
        is_cancelled: tells whether to give up.
        content: the bytes.
    """

    repository: str
    subject: str
    on_progress: Callable[[int], None]
    is_cancelled: Callable[[], bool]
    content: BlobContent | GrowingContent

    def check_cancelled(self) -> None:
        """Go on unless the job was cancelled.

        Raises:
            Aborted: it was.
        """
        if self.is_cancelled():
            raise Aborted(f"{self.subject}: the upload was given up")

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield bytes [start, stop) of the content; tell of each piece when it has been sent.

        Raises:
            Aborted: the job was cancelled.
            ContentMismatch: the content ends before `stop`.
            StorageFailure: it cannot be read.
        """
        if start == stop:
            return
        with self._open() as file:
            file.seek(start)
            while start < stop:
                self.check_cancelled()
                try:
                    piece = file.read(min(_READ_BYTES, stop - start))
                except OSError as error:  # not to be taken for one of the network
                    raise StorageFailure(
                        f"{self.subject}: reading it failed: {error.strerror}"
                    ) from error
                if not piece:
                    raise ContentMismatch(f"{self.subject}: ends at byte {start} of {stop}")
                yield piece
                start += len(piece)
                self.on_progress(start)

    def _open(self) -> BinaryIO:
        try:
            return self.content.open()
        except OSError as error:
            raise StorageFailure(
                f"{self.subject}: it cannot be opened: {error.strerror}"
            ) from error


@dataclass(frozen=True, slots=True)
class WholeJob(Job):
    """A blob that is all there."""

    content: BlobContent
    descriptor: Descriptor
    is_growing = False
    is_open = False

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.descriptor.size

    @property
    def digest(self) -> Digest:
        """The blob's."""
        return self.descriptor.digest

    def check(self) -> None:
        """Compare the content's size with the descriptor's.

        Raises:
            ContentMismatch: it is another one.
        """
        if self.content.size != self.size:
            raise ContentMismatch(
                f"{self.subject}: the content has {self.content.size} bytes, not {self.size}"
            )

    def flow(self, start: int) -> Iterator[bytes]:
        """Yield the bytes from `start` on."""
        return self.pieces(start, self.size)

    def wait(self, offset: int) -> int:  # noqa: ARG002 - all is there
        """Return how many bytes there are."""
        return self.size


@dataclass(slots=True)
class _Extent:
    """How far a growing blob is known to reach."""

    stop: int = 0


@dataclass(frozen=True, slots=True)
class GrowingJob(Job):
    """A blob that is still being written."""

    content: GrowingContent
    extent: _Extent = field(default_factory=_Extent)
    is_growing = True

    @property
    def size(self) -> int:
        """The number of bytes that were there when `wait` was asked last."""
        return self.extent.stop

    @property
    def digest(self) -> Digest:
        """The blob's.

        Raises:
            Aborted: more of it may come.
        """
        digest = self.content.digest_now()
        if digest is None:
            raise Aborted(f"{self.subject}: it is still being written")
        return digest

    @property
    def is_open(self) -> bool:
        """Whether more of it may come."""
        return self.content.digest_now() is None

    def check(self) -> None:
        """Find nothing to check yet."""

    def flow(self, start: int) -> Iterator[bytes]:
        """Yield the bytes from `start` on as they are written, until no more come.

        Raises:
            Aborted: the job was cancelled, or the content is not to be followed any more.
            StorageFailure: it cannot be read.
        """
        while (stop := self.content.flow(start, self.is_cancelled)) > start:
            self.extent.stop = stop
            yield from self.pieces(start, stop)
            start = stop

    def wait(self, offset: int) -> int:
        """Return how many bytes there are, once it is worth while or no more will come.

        Raises:
            Aborted: the job was cancelled, or the content is not to be followed any more.
        """
        self.extent.stop = self.content.wait(offset, self.is_cancelled)
        return self.extent.stop
