"""A blob's bytes in order, over as many connections as it takes.

Owns resuming: what to ask for after a connection broke, stalled or ended early, and when to give
up. Knows urllib3's responses, but neither redirects nor addresses: it is given a function that
sends one request. Blocking; used by one reading thread, and closed by any.

INVARIANT: `offset` never goes back, and no byte behind `size` + 1 is ever delivered.
"""

import select
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import urllib3

from orasfs.errors import (
    ConnectionBroken,
    ConnectionRefused,
    ContentMismatch,
    OrasfsError,
    Unreachable,
)
from orasfs.registry import protocol
from orasfs.registry.faults import FOREIGN, unreachable
from orasfs.registry.protocol import Answer, content_range, error_of
from orasfs.registry.retry import RetryPolicy

_READ_BYTES = 1024 * 1024
_SKIP_BYTES = 256 * 1024
_GATHER_BYTES = 512 * 1024

# Sends GET with a Range header ("" for none); any status; raises Unreachable and RegistryFailure.
Sender = Callable[[str], urllib3.BaseHTTPResponse]


@dataclass(frozen=True, slots=True)
class Span:
    """What is wanted: bytes [start, stop) of the blob of `size` bytes that `subject` names."""

    subject: str
    size: int
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole blob."""
        return self.start == 0 and self.stop == self.size

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ask for; an empty blob is asked for, since it may not be."""
        return self.start >= self.stop and not self.is_whole


class RangeHabit:
    """Whether ranges are asked of a source: of one that ignores them, not again if it `lasts`.

    What a pull-through cache answers with the whole, it fetches as a whole, for each who asks.
    """

    def __init__(self, *, lasts: bool = False) -> None:
        self._lasts = lasts
        self.asks = True

    def was_ignored(self) -> None:
        """Hear that a range was answered with the whole."""
        self.asks = not self._lasts


class ResumingStream:
    """Implements `BlobStream`; made and opened by `BulkTransport.open_stream`."""

    def __init__(
        self,
        send: Sender,
        span: Span,
        policy: RetryPolicy,
        *,
        wait: Callable[[threading.Event, float], object],
        clock: Callable[[], float],
        pause: Callable[[], float] = lambda: 0.0,
        habit: "RangeHabit | None" = None,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_closed = weakref.finalize(self, on_closed)
        self._pause_seconds = pause
        self._habit = habit or RangeHabit()
        self._send = send
        self._span = span
        self._policy = policy
        self._wait = wait
        self._clock = clock
        self._offset = span.start
        self._end = span.size + 1 if span.is_whole else span.stop
        self._response: urllib3.BaseHTTPResponse | None = None
        self._position = span.start  # the blob's offset of the response's next byte
        self._asks_ranges = self._habit.asks
        self._failures = 0  # without progress
        self._progress_time = clock()
        self._ended_at: int | None = None
        self._closed = threading.Event()
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        return f"ResumingStream({self._span.subject}, offset={self._offset})"

    @property
    def offset(self) -> int:
        """See `BlobStream.offset`."""
        return self._offset

    def open(self) -> None:
        """Send the first request. Called once.

        Raises:
            NotFound: there is no such blob; and whatever else the answer means.
        """
        if self._span.is_empty:
            return
        self._request()
        # A whole answer to a question for a part: the reader may have use for the bytes before.
        self._offset = min(self._offset, self._position)

    def readinto(self, buffer: memoryview) -> int:
        """See `BlobStream.readinto`; returns as soon as anything has come, with all that has."""
        try:
            with self._reading:
                return self._readinto(buffer)
        finally:
            if self._closed.is_set():
                self._dispose()

    def close(self) -> None:
        """See `BlobStream.close`; a reader that waits for bytes or for its next try wakes up.

        One that waits for a connection or for headers goes on to their deadline, and then fails.
        """
        self._closed.set()
        self._on_closed()  # once, by what it is
        response = self._response
        if response is not None:
            # Without a connection of its own any more there is nobody to wake.
            with suppress(ValueError, RuntimeError, OSError):
                response.shutdown()
        self._dispose()

    def _dispose(self) -> None:
        """Close the response, unless a reader is in it: then that reader does it."""
        if self._reading.acquire(blocking=False):
            try:
                self._drop_response()
            finally:
                self._reading.release()

    def _drop_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _readinto(self, buffer: memoryview) -> int:
        while True:
            self._check_open()
            room = min(len(buffer), self._end - self._offset)
            if room <= 0 or self._span.is_empty:
                return 0
            try:
                chunk = self._read_some(min(room, _READ_BYTES))
            except FOREIGN as error:
                self._check_open()
                if self._offset >= self._span.stop:
                    return 0  # it broke behind the last byte that counts
                self._recover(unreachable(error, self._span.subject), error)
                continue
            self._check_open()  # what a stream gives while it is torn down is not content
            if chunk:
                return self._deliver(chunk, buffer) + self._gather(buffer[len(chunk) : room])
            if self._offset >= self._span.stop or self._ended_at == self._offset:
                # Twice the same end: the content is shorter than its descriptor says.
                return 0
            self._ended_at = self._offset
            self._request()

    def _read_some(self, limit: int) -> bytes:
        """Return bytes at `offset`, b"" at the end of the response's body."""
        response = self._response
        if response is None:
            raise ConnectionResetError("the response is gone")
        while self._position < self._offset:
            skipped = response.read1(min(_SKIP_BYTES, self._offset - self._position))
            if not skipped:
                return b""
            self._position += len(skipped)
        return response.read1(limit)

    def _deliver(self, chunk: bytes, buffer: memoryview) -> int:
        count = len(chunk)
        buffer[:count] = chunk
        self._offset += count
        self._position = self._offset
        self._failures = 0
        self._progress_time = self._clock()
        return count

    def _gather(self, buffer: memoryview) -> int:
        """Fill more of the buffer with what is there without waiting; return how much.

        TLS gives 16 KiB at a time, and each call from outside has its price.
        """
        count = 0
        while count < min(len(buffer), _GATHER_BYTES) and self._has_more_at_hand():
            try:
                chunk = self._read_some(min(len(buffer) - count, _READ_BYTES))
            except FOREIGN:
                break  # what is broken is still broken at the next call
            if not chunk or self._closed.is_set():
                break
            count += self._deliver(chunk, buffer[count:])
        return count

    def _has_more_at_hand(self) -> bool:
        response = self._response
        if response is None or response.closed:
            return False
        poll = select.poll()
        poll.register(response.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ConnectionBroken(f"{self._span.subject}: the stream was closed")

    def _recover(self, failure: Unreachable, cause: BaseException) -> None:
        """Wait as the policy says, and ask for the rest; or raise the failure."""
        try:
            self._pause(failure)
        except Unreachable as error:
            raise error from cause
        self._request()

    def _request(self) -> None:
        """Send requests until one is answered with content."""
        while True:
            self._drop_response()
            self._keep_pause()
            self._check_open()
            try:
                response = self._send(self._range_header())
            except Unreachable as error:
                self._pause(error)
                continue
            if self._accept(response):
                self._response = response
                return
            self._reject(response)

    def _keep_pause(self) -> None:
        """Wait as long as the registry wants to hear from nobody, unless the stream is closed."""
        if (seconds := self._pause_seconds()) > 0:
            self._wait(self._closed, seconds)

    def _range_header(self) -> str:
        """Return a closed range: there are registries that answer an open one with 416."""
        is_rest = self._offset > 0 or self._span.stop < self._span.size
        if not self._asks_ranges or not is_rest:
            return ""
        return f"bytes={self._offset}-{self._span.stop - 1}"

    def _accept(self, response: urllib3.BaseHTTPResponse) -> bool:
        """Tell whether the answer's body can be read on from, and from which position.

        A whole answer to a question for a range is right too (RFC 9110 section 14.2).
        """
        if response.status == 200:
            if self._range_header():
                self._habit.was_ignored()
            self._position = 0
            self._end = self._span.size + 1  # the whole is the reader's, who may stop anywhere
            return True
        if response.status != 206:
            return False
        given = content_range(response.headers.get("content-range", ""))
        if given is None or not given.first <= self._offset <= given.last:
            return False
        if given.total not in (None, self._span.size):
            response.close()
            raise ContentMismatch(
                f"{self._span.subject}: has {given.total} bytes, not {self._span.size}"
            )
        self._position = given.first
        return True

    def _reject(self, response: urllib3.BaseHTTPResponse) -> None:
        """Prepare the next try after an answer that is of no use, or raise what it means."""
        answer = read_answer(response)
        if answer.status in (206, 416) and self._asks_ranges:
            # A range that cannot be had, or another one: take the whole, and skip.
            self._asks_ranges = False
            return
        self._pause(error_of(answer, self._span.subject), answer)

    def _pause(self, failure: OrasfsError, answer: Answer | None = None) -> None:
        """Wait before the next attempt, or raise the failure if there is to be none."""
        self._failures += 1
        elapsed = self._clock() - self._progress_time
        judged: Unreachable | int | None = _as_judged(
            failure, is_under_way=self._offset > self._span.start
        )
        if answer is not None:
            judged = answer.status
        wish = protocol.retry_after_of(answer, datetime.now(tz=UTC)) if answer else None
        if isinstance(failure, Unreachable) and failure.left_alone_seconds > 0:
            wish = failure.left_alone_seconds
        delay = None
        if judged is not None:
            delay = self._policy.decide(self._failures, elapsed, judged, wish)
        if delay is None:
            raise failure
        self._wait(self._closed, delay)


def _as_judged(failure: OrasfsError, *, is_under_way: bool) -> Unreachable | None:
    """Return the failure as the policy shall see it.

    A registry that refuses connections in the middle of a blob is one that is being restarted, and
    so is one that is left alone by then.
    """
    if not isinstance(failure, Unreachable):
        return None
    is_away = isinstance(failure, ConnectionRefused) or failure.left_alone_seconds > 0
    return ConnectionBroken(str(failure)) if is_away and is_under_way else failure


def read_answer(response: urllib3.BaseHTTPResponse) -> Answer:
    """Read an answer that is no content, as far as a person will; give its connection back."""
    body = b""
    try:
        body = response.read(protocol.MAX_ERROR_BYTES, decode_content=False)
    except FOREIGN:
        body = b""  # its words are lost; its status says enough
    if len(body) == protocol.MAX_ERROR_BYTES:
        response.close()
    # Merged: there may be a challenge in each of several WWW-Authenticate headers.
    fields = {name.lower(): value for name, value in response.headers.itermerged()}
    return Answer("", response.status, fields, body)
