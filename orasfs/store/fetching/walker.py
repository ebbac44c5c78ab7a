"""One stream of a blob's bytes into its partial file: a worker thread that walks forward.

Owns that thread's work, and the seam between it and the loop's thread, which says how far the
walker may go. Knows nothing of readers.

INVARIANT: a walker writes only inside its territory [start, stop), and of that only what it has
claimed; whoever takes a part of it away asks first (`curtail`). So no byte has two writers.
INVARIANT: no wake-up is lost: the walker looks at `wanted` after it moved `position`, and whoever
sets `wanted` looks at what is there after that.
"""

import threading
import time
from collections.abc import Callable

from orasfs.errors import ContentMismatch, OrasfsError, RegistryFailure
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import BlobStream, BlobStreamer
from orasfs.store.fetching.pace import Pace
from orasfs.store.files.chunkfile import ChunkFile, ChunkWriter
from orasfs.store.files.chunks import floor

NEVER = 2**64
_BUFFER_BYTES = 1024 * 1024


class Walker:
    """Fetches bytes [start, stop) of a blob, as far as `limit` at first.

    Args:
        source: where from.
        descriptor: the blob.
        file: where to.
        start, stop: the territory.
        limit: how far to go without being told more.
        is_open: whether it is to be told more, up to `stop`.
        idle_seconds: how long to hold a connection without being told more.
        on_news: called in the worker thread when `wanted` is reached, or `is_whole` turned true.
        pace: hears how soon the source answers.

    Attributes:
        position: up to where the bytes are in the file.
        wanted: when to call `on_news`.
        is_open: it waits to be told more at its limit, and does not end there.
        is_whole: the source gives the whole blob whatever is asked; see `grant`.
        is_ending: it was told to end.
        is_running: the worker thread is at it.
    """

    def __init__(
        self,
        source: BlobStreamer,
        descriptor: Descriptor,
        file: ChunkFile,
        start: int,
        stop: int,
        limit: int,
        *,
        is_open: bool,
        idle_seconds: float,
        on_news: Callable[[], None],
        pace: Pace,
    ) -> None:
        self._source = source
        self._descriptor = descriptor
        self._file = file
        self._idle_seconds = idle_seconds
        self._on_news = on_news
        self._pace = pace
        self.is_open = is_open
        self._changed = threading.Condition()  # around limit, stop, claimed and the flags
        self._stream: BlobStream | None = None
        self._is_over = False
        self._is_granted = False
        self._asked_stop = self._needed_stop = stop
        self._claimed = start
        self._limit = limit
        self.start = start
        self.stop = stop
        self.position = start
        self.wanted = NEVER
        self.is_whole = False
        self.is_ending = False
        self.is_running = False

    def __repr__(self) -> str:
        return f"<Walker {self.start} {self.position}/{self._limit}/{self.stop}>"

    # The loop's side.

    def join(self, gap: int, ahead: int, *, near: int = 0) -> bool:
        """Go as far as `ahead`, if `gap` is on the way and at most `near` behind the limit."""
        with self._changed:
            is_on_way = floor(self.position) <= gap < self.stop
            is_near = gap < max(self._limit, self.position + near)
            if self.is_ending or self._is_over or not (is_on_way and is_near):
                return False
            self._limit = max(self._limit, ahead)
            self._changed.notify()
            return True

    def has(self, gap: int) -> bool:
        """Tell whether a gap is in its territory."""
        return floor(self.start) <= gap < self.stop

    def is_at(self, gap: int) -> bool:
        """Tell whether it may still be writing where a gap is."""
        return floor(self.position) <= gap < self._claimed

    def curtail(self, stop: int) -> bool:
        """Give up what is from `stop` on; False if it is too late for that."""
        with self._changed:
            if self._claimed > stop:
                return False
            self.stop = min(self.stop, stop)
            self._changed.notify()
            return True

    def grant(self, stop: int) -> None:
        """Let one whose source gives the whole take it; no other walker is there."""
        with self._changed:
            self.stop = self._limit = stop
            self._is_granted = True
            self._changed.notify()

    def end(self) -> None:
        """Tell it to end; returns at once."""
        with self._changed:
            self.is_ending = True
            self._changed.notify()
        if self._stream is not None:
            self._stream.close()

    # The worker thread's side.

    def walk(self) -> None:
        """Fetch the bytes. Blocking.

        Raises:
            ContentMismatch: the source has fewer or more than the descriptor says.
            StorageFull: the disk is full.
            Unreachable: and whatever else the source raises.
        """
        if self.is_ending:
            return
        self.is_running = True
        writer = self._file.open_writer(hashes_along=self.is_open)
        try:
            self._walk(writer)
        except OrasfsError:  # to close a stream is to break it
            if not self.is_ending:
                raise
        finally:
            with self._changed:
                self._is_over = True
            writer.close()

    def _walk(self, writer: ChunkWriter) -> None:
        asked = None if self.stop == self._descriptor.size else self.stop
        asked_at = time.monotonic()
        stream = self._source.open_stream(self._descriptor, self.start, asked)
        is_part = 0 < self.start == stream.offset
        self._pace.answered(time.monotonic() - asked_at, is_part=is_part)
        self._stream = stream
        try:
            buffer = memoryview(bytearray(min(_BUFFER_BYTES, self._asked_stop - self.start)))
            if stream.offset != self.start and not self._start_over(stream):
                return
            while True:
                self._receive(stream, writer, buffer)
                # Up to the end of the answer: then its connection can be used again.
                if self._has_left() or not stream.readinto(buffer[:1]):
                    return
                if not self._go_on():
                    return
                self._put(writer, buffer[:1])
        finally:
            stream.close()

    def _receive(self, stream: BlobStream, writer: ChunkWriter, buffer: memoryview) -> None:
        """Take what may be taken."""
        while room := self._claim(len(buffer)):
            count = stream.readinto(buffer[:room])
            if not count:
                self._judge_early_end()
                return
            self._put(writer, buffer[:count])

    def _put(self, writer: ChunkWriter, content: memoryview) -> None:
        position = self.position + len(content)
        writer.write(content, self.position)
        self.position = position
        if position >= self.wanted:
            self._on_news()

    def _claim(self, size: int) -> int:
        """Wait until at least a byte may be fetched; return how many, 0 if none will be."""
        with self._changed:
            while not self.is_ending and self.position < self.stop:
                room = min(self._limit, self.stop) - self.position
                if room > 0:
                    self._claimed = self.position + min(room, size)
                    return min(room, size)
                if not self.is_open or not self._changed.wait(self._idle_seconds):
                    break
            self._is_over = self.position < self._asked_stop or self.is_ending
            return 0

    def _has_left(self) -> bool:
        """Tell whether it ended before all came that was asked for."""
        return self.is_ending or self.position < self._asked_stop

    def _start_over(self, stream: BlobStream) -> bool:
        """Begin with a source that was asked for a part, and gives the whole; see `_await_grant`.

        RFC 9110 section 14.2 allows it.
        """
        if stream.offset:
            raise RegistryFailure(
                f"asked for byte {self.start}, the source sent byte {stream.offset}"
            )
        return self._await_grant(0)

    def _go_on(self) -> bool:
        """Go on with a source that has more than what was asked for; see `_await_grant`."""
        if self._asked_stop == self._descriptor.size:
            raise ContentMismatch(
                f"{self._descriptor.digest}: more than the {self._asked_stop} bytes its "
                "descriptor says"
            )
        return self._await_grant(self.position)

    def _await_grant(self, position: int) -> bool:
        """Wait until all from `position` on may be taken; False if that is not to be."""
        self.is_whole = True
        self._on_news()
        with self._changed:
            self._changed.wait_for(lambda: self._is_granted or self.is_ending, self._idle_seconds)
            self._is_over = self.is_ending or not self._is_granted
            if not self._is_over:
                self.start = min(self.start, position)
                self.position = position
                self._claimed = position + 1
                self._asked_stop = self.stop
                self.is_open = True
            return not self._is_over

    def _judge_early_end(self) -> None:
        if self.is_ending:
            return  # a stream that was closed may look like one that has ended
        if self.is_whole and self.position >= self._needed_stop < self._descriptor.size:
            return  # what was asked for has come
        raise ContentMismatch(
            f"{self._descriptor.digest}: ends at byte {self.position} of {self._descriptor.size}"
        )
