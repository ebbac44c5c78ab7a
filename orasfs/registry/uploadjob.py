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
from orasfs.oci.storage import BlobContent
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
        open_pieces: begins the body, whose length is `length` bytes; once more for each sending.
        is_final: whether the answer may take as long as the registry needs to keep the blob.
    """

    method: str
    target: str
    subject: str
    headers: Mapping[str, str] = field(default_factory=dict)
    open_pieces: Callable[[], Iterable[bytes]] = tuple
    length: int = 0
    is_final: bool = False


# Sends one request, following nothing; any status; raises Unreachable.
Sender = Callable[[UploadRequest], Answer]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be sent, and who wants to know; see `BlobPusher.push_blob`."""

    repository: str
    subject: str
    descriptor: Descriptor
    content: BlobContent
    on_progress: Callable[[int], None]
    is_cancelled: Callable[[], bool]

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
                    raise ContentMismatch(
                        f"{self.subject}: ends at byte {start} of {self.descriptor.size}"
                    )
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
