"""A blob's bytes from the first place that has them, and on from the next where it fails.

Owns the order in which places are asked for one blob. Knows no HTTP. Blocking; used by one reading
thread, and closed by any.
"""

import logging
import threading
from collections.abc import Sequence

from orasfs.errors import ContentMismatch, NotFound, OrasfsError, RegistryError, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import BlobStream
from orasfs.registry.readingplaces import PASSED_OVER, MirrorNotes, RepositoryCopy

logger = logging.getLogger(__name__)

_SKIP_BYTES = 256 * 1024


class FallbackStream:
    """A blob's bytes from the first place that has them, and on from the next where it fails.

    Implements `BlobStream`. INVARIANT: `offset` never goes back once a byte was given.
    """

    def __init__(
        self,
        copies: Sequence[RepositoryCopy],
        notes: MirrorNotes,
        descriptor: Descriptor,
        start: int,
        stop: int | None,
    ) -> None:
        self._waiting = list(copies)
        self._notes = notes
        self._descriptor = descriptor
        self._start = start
        self._stop = stop
        self._lock = threading.Lock()
        self._current: tuple[RepositoryCopy, BlobStream] | None = None
        self._offset: int | None = None  # before anything was given
        self._is_closed = False
        self._failure: OrasfsError | None = None

    def __repr__(self) -> str:
        return f"FallbackStream({self._descriptor.digest}, offset={self._offset})"

    @property
    def offset(self) -> int:
        """See `BlobStream.offset`."""
        if self._offset is not None:
            return self._offset
        return self._current[1].offset if self._current is not None else self._start

    def open(self) -> None:
        """Open it at the first place that will. Called once.

        Raises:
            OrasfsError: of the final place, or of the last one.
        """
        while not self._open_next():
            pass

    def readinto(self, buffer: memoryview) -> int:
        """See `BlobStream.readinto`."""
        while True:
            each, stream = self._opened()
            try:
                if self._offset is not None:
                    self._skip(stream, self._offset)
                given = stream.offset
                count = stream.readinto(buffer)
            except (RegistryError, Unreachable) as error:
                self._leave(each, error)
                while not self._open_next():
                    pass
                continue
            self._offset = given + count
            return count

    def close(self) -> None:
        """See `BlobStream.close`."""
        with self._lock:
            self._is_closed = True
            current = self._current
        if current is not None:
            current[1].close()

    def _opened(self) -> tuple[RepositoryCopy, BlobStream]:
        if self._current is None:
            raise Unreachable(f"{self._descriptor.digest}: the stream was closed")
        return self._current

    def _leave(self, each: RepositoryCopy, error: OrasfsError) -> None:
        """Give a place up, or raise its failure if there is none left, or nobody waits."""
        with self._lock:
            current, is_closed = self._current, self._is_closed
            self._current = None
        if current is not None:
            current[1].close()
        if is_closed:
            raise error
        self._note(each, error)

    def _note(self, each: RepositoryCopy, error: OrasfsError) -> None:
        if each.place.is_final:
            self._failure = error
        else:
            self._notes.failed(each.host, error)
        if not self._waiting:
            raise self._failure or error

    def _open_next(self) -> bool:
        each = self._waiting.pop(0)
        start = self._start if self._offset is None else self._offset
        try:
            stream = each.repository.open_stream(self._descriptor, start, self._stop)
        except PASSED_OVER as error:
            if each.place.is_final and isinstance(error, NotFound):
                raise
            if isinstance(error, ContentMismatch) and not each.place.is_final:
                self._notes.distrust(self._descriptor.digest, each.host)
            self._note(each, error)
            return False
        with self._lock:
            self._current = (each, stream)
            is_closed = self._is_closed
        if is_closed:
            stream.close()
        if not each.place.is_final:
            self._notes.serves(self._descriptor.digest, each.host)
            self._notes.answered(each.host)
        logger.debug("blob digest=%s from=%s", self._descriptor.digest, each.host)
        return True

    def _skip(self, stream: BlobStream, offset: int) -> None:
        """Bring a stream that begins before `offset` there: a source may ignore ranges."""
        buffer = memoryview(bytearray(_SKIP_BYTES)) if stream.offset < offset else None
        while buffer is not None and stream.offset < offset:
            if not stream.readinto(buffer[: min(len(buffer), offset - stream.offset)]):
                return  # too short, which the size shows
