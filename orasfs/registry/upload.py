"""Sending one blob, over as many requests as it takes.

Owns the order of requests: one PUT of the whole, chunks where a registry refuses that or a
connection broke half-way, one PATCH without a length for what is still being written; what to ask
before going on, and when to give up. Knows neither HTTP library nor addresses: it is given a
function that sends one request. Blocking; one thread runs it.

INVARIANT: every way back to an earlier step counts as a failure, and the retry policy bounds
failures without progress.

Source: distribution-spec v1.1.1, Pushing blobs: monolithic (POST then PUT) and in chunks. A PATCH
without a length or a range is how Docker pushes: the API of Docker's registry, from which this one
comes, has it as a stream upload, and registries take it.
"""

import enum
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from orasfs.errors import (
    Aborted,
    ConnectionBroken,
    ConnectionRefused,
    ContentMismatch,
    OrasfsError,
    QuotaExceeded,
    RegistryError,
    TooLarge,
    Unreachable,
    Unsupported,
)
from orasfs.registry import protocol, uploads
from orasfs.registry.protocol import Answer
from orasfs.registry.retry import RetryPolicy, is_passing_status
from orasfs.registry.uploadjob import GrowingJob, Sender, UploadRequest, WholeJob

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 4 * 1024 * 1024  # the largest that every registry with chunks takes (GHCR)
_GROWING_CHUNK_BYTES = 64 * 1024 * 1024  # at most; a registry that refuses it gets less
_SMALLEST_CHUNK_BYTES = 64 * 1024
_POLL_SECONDS = 0.2
_DONE_STATUSES = frozenset({200, 201, 204})
_TAKEN_STATUSES = frozenset({201, 202, 204})  # 202; ECR answers chunks with 201
# Of the form, or of one so long: chunks may do where they do not.
_STREAM_REFUSALS = frozenset({400, 405, 411, 413, 415, 416, 501})
_OCTETS = "application/octet-stream"


class Habits:
    """What was found out about uploads to one registry, for the next ones."""

    def __init__(self) -> None:
        self.takes_whole_blobs = True
        self.takes_streams = True


class _Step(enum.Enum):
    BEGIN = "begin a session"
    WHOLE = "send all"
    STREAM = "send what is written as it comes"
    CHUNK = "send the next chunk"
    FINISH = "end the session"
    ASK = "ask what the registry has of the session"
    CHECK = "ask whether it has the blob"
    DONE = "nothing"


class _Progress:
    """How far an upload got and when, and how often it failed since."""

    def __init__(
        self,
        policy: RetryPolicy,
        job: WholeJob | GrowingJob,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._job = job
        self._sleep = sleep
        self._clock = clock
        self._most = 0  # the largest offset there ever was
        self._failures = 0
        self._time = clock()

    def touch(self) -> None:
        """Note that whatever time has passed was none of the registry's."""
        self._time = self._clock()

    def follow(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the pieces of a body that takes as long as its writer does."""
        for piece in pieces:
            yield piece
            self.touch()

    def advance(self, offset: int) -> None:
        """Note what the registry has."""
        if offset > self._most:
            self._most = offset
            self._failures = 0
            self._time = self._clock()
        self._job.on_progress(offset)

    def pause(
        self, failure: OrasfsError, judged: Unreachable | int, answer: Answer | None = None
    ) -> None:
        """Wait before the next attempt, or raise the failure if there is to be none."""
        self._failures += 1
        wish = _wish(failure, answer)
        elapsed = self._clock() - self._time
        delay = self._policy.decide(self._failures, elapsed, judged, wish)
        if delay is None:
            raise failure
        logger.debug("retry subject=%s delay_s=%.2f failure=%s", self._job.subject, delay, failure)
        while delay > 0:
            self._job.check_cancelled()
            self._sleep(min(delay, _POLL_SECONDS))
            delay -= _POLL_SECONDS


class BlobUpload:
    """One upload; `run` returns when the registry has the blob.

    Args:
        send: sends a request.
        job: what to send.
        policy: how often to try without progress.
        habits: of the registry; learned from.
        sleep: waits so many seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        send: Sender,
        job: WholeJob | GrowingJob,
        policy: RetryPolicy,
        habits: Habits,
        *,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        self._send = send
        self._job = job
        self._progress = _Progress(policy, job, sleep, clock)
        self._habits = habits
        self._step = _Step.BEGIN
        self._session = ""
        self._offset = 0  # what the registry has of the session
        self._stop = 0  # of the next chunk
        self._may_stream = job.is_growing and habits.takes_streams  # once; then in chunks
        self._chunk_bytes = _GROWING_CHUNK_BYTES if job.is_growing else _CHUNK_BYTES
        self._minimum = 0
        self._courses = self._plan()

    def __repr__(self) -> str:
        return f"BlobUpload({self._job.subject}, offset={self._offset}, {self._step.name})"

    def run(self) -> None:
        """Send the blob. See `BlobPusher.push_blob` for what it raises."""
        self._job.check()
        try:
            while self._step is not _Step.DONE:
                self._job.check_cancelled()
                self._step = self._take_step()
        except (Aborted, RegistryError, ContentMismatch, Unsupported):
            self._cancel_session()
            raise
        self._job.on_progress(self._job.size)

    def _take_step(self) -> _Step:
        request, judge = self._courses[self._step]
        try:
            answer = request()
        except Unreachable as error:
            self._progress.pause(error, _as_judged(error, is_under_way=bool(self._session)))
            return self._way_back()
        return judge(answer)

    def _plan(self) -> dict[_Step, tuple[Callable[[], Answer], Callable[[Answer], _Step]]]:
        """Return for each step its request, and what finds the next step from the answer."""
        return {
            _Step.BEGIN: (self._begin, self._begun),
            _Step.WHOLE: (self._send_whole, self._sent_whole),
            _Step.STREAM: (self._send_stream, self._sent_stream),
            _Step.CHUNK: (self._send_chunk, self._sent_chunk),
            _Step.FINISH: (self._finish, self._finished),
            _Step.ASK: (self._ask, self._asked),
            _Step.CHECK: (self._check, self._checked),
        }

    # The requests

    def _begin(self) -> Answer:
        target = uploads.uploads_path(self._job.repository)
        self._session = ""
        return self._exchange("POST", target)

    def _send_whole(self) -> Answer:
        target = uploads.completion_url(self._session, self._job.digest)
        return self._exchange("PUT", target, (0, self._job.size), is_final=True)

    def _send_stream(self) -> Answer:
        self._may_stream = False
        # It is answered when the registry has all of it on its disk.
        return self._exchange("PATCH", self._session, (self._offset, None), is_final=True)

    def _send_chunk(self) -> Answer:
        headers = {"Content-Range": f"{self._offset}-{self._stop - 1}"}
        return self._exchange("PATCH", self._session, (self._offset, self._stop), headers)

    def _finish(self) -> Answer:
        target = uploads.completion_url(self._session, self._job.digest)
        return self._exchange("PUT", target, (self._offset, self._offset), is_final=True)

    def _ask(self) -> Answer:
        return self._exchange("GET", self._session)

    def _check(self) -> Answer:
        path = protocol.blob_path(self._job.repository, self._job.digest)
        return self._exchange("HEAD", path)

    def _exchange(
        self,
        method: str,
        target: str,
        span: tuple[int, int | None] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        is_final: bool = False,
    ) -> Answer:
        subject = self._job.subject
        if span is None:
            return self._send(UploadRequest(method, target, subject))
        fields = {"Content-Type": _OCTETS, **(headers or {})}
        start, stop = span
        pieces = partial(self._pieces, start, stop)
        length = None if stop is None else stop - start
        return self._send(
            UploadRequest(method, target, subject, fields, pieces, length, is_final=is_final)
        )

    def _pieces(self, start: int, stop: int | None) -> Iterator[bytes]:
        if stop is not None:
            return self._job.pieces(start, stop)
        return self._progress.follow(self._job.flow(start))

    # What the answers mean

    def _begun(self, answer: Answer) -> _Step:
        if answer.status not in _TAKEN_STATUSES:
            return self._refused(answer)
        self._session = uploads.session_of(answer, self._job.subject)
        self._offset = 0
        self._minimum = uploads.minimum_chunk(answer)
        self._chunk_bytes = max(self._chunk_bytes, self._minimum)
        self._job.on_progress(0)
        return _Step.WHOLE if self._goes_whole() else self._rest()

    def _goes_whole(self) -> bool:
        # An empty blob has no chunk to send.
        is_fit = self._habits.takes_whole_blobs or self._job.size == 0
        return is_fit and not self._job.is_growing

    def _rest(self) -> _Step:
        """Return how to go on behind what the registry has; of what is written, wait for more."""
        if self._may_stream:
            return _Step.STREAM
        self._stop = min(self._job.wait(self._offset), self._offset + self._chunk_bytes)
        if self._job.is_growing:
            self._progress.touch()  # waiting for a writer is no failure
        return _Step.CHUNK if self._stop > self._offset else _Step.FINISH

    def _sent_whole(self, answer: Answer) -> _Step:
        if answer.status in _DONE_STATUSES:
            return _Step.DONE
        if not uploads.is_too_much_at_once(answer) or not self._habits.takes_whole_blobs:
            return self._refused(answer)
        error = uploads.push_error(answer, self._job.subject)
        if isinstance(error, QuotaExceeded) or self._job.size <= self._chunk_bytes:
            raise error
        logger.info("uploading in chunks subject=%s status=%d", self._job.subject, answer.status)
        self._habits.takes_whole_blobs = False
        self._cancel_session()
        return _Step.BEGIN

    def _sent_stream(self, answer: Answer) -> _Step:
        if answer.status not in _STREAM_REFUSALS:
            self._stop = self._job.size
            return self._sent_chunk(answer)
        logger.info("no streams subject=%s status=%d", self._job.subject, answer.status)
        self._habits.takes_streams = False
        self._cancel_session()
        return _Step.BEGIN

    def _sent_chunk(self, answer: Answer) -> _Step:
        if answer.status in _TAKEN_STATUSES:
            self._follow_session(answer)
            self._advance(_offset_after_chunk(answer, self._offset, self._stop))
            return self._rest()
        if answer.status == 413:
            return self._send_less_at_once(answer)
        if answer.status in (404, 416):
            # Lost, or not where we think it is.
            self._progress.pause(uploads.push_error(answer, self._job.subject), 503, answer)
            return _Step.ASK if answer.status == 416 else _Step.BEGIN
        return self._refused(answer)

    def _send_less_at_once(self, answer: Answer) -> _Step:
        error = uploads.push_error(answer, self._job.subject)
        half = self._chunk_bytes // 2
        if not isinstance(error, TooLarge) or half < max(self._minimum, _SMALLEST_CHUNK_BYTES):
            raise error
        self._chunk_bytes = half
        return _Step.ASK

    def _finished(self, answer: Answer) -> _Step:
        return _Step.DONE if answer.status in _DONE_STATUSES else self._refused(answer)

    def _asked(self, answer: Answer) -> _Step:
        received = uploads.received_bytes(answer)
        if answer.status not in (200, 202, 204) or received is None:
            if is_passing_status(answer.status):
                return self._refused(answer)
            # The session is gone: because the blob is there, or for good.
            self._session = ""
            return _Step.BEGIN if self._job.is_open else _Step.CHECK
        self._follow_session(answer)
        if received > self._job.size or (received == 0 and self._goes_whole()):
            self._cancel_session()
            return _Step.BEGIN
        self._advance(received)
        return self._rest()

    def _checked(self, answer: Answer) -> _Step:
        if is_passing_status(answer.status):
            return self._refused(answer)
        has_it = answer.status == 200 and answer.headers.get("content-length", "") == str(
            self._job.size
        )
        return _Step.DONE if has_it else _Step.BEGIN

    def _follow_session(self, answer: Answer) -> None:
        if "location" in answer.headers:
            self._session = uploads.session_of(answer, self._job.subject)

    def _advance(self, offset: int) -> None:
        self._offset = offset
        self._progress.advance(offset)

    # Failures

    def _refused(self, answer: Answer) -> _Step:
        error = uploads.push_error(answer, self._job.subject)
        self._progress.pause(error, answer.status, answer)
        return self._way_back()

    def _way_back(self) -> _Step:
        """Return the step that finds out where the upload is after one that failed."""
        if self._step in (_Step.BEGIN, _Step.CHECK):
            return self._step
        return _Step.ASK if self._session else _Step.BEGIN

    def _cancel_session(self) -> None:
        """Tell the registry that nothing more comes; what it answers does not matter."""
        session, self._session = self._session, ""
        if session:
            with suppress(Unreachable, Aborted):
                self._send(UploadRequest("DELETE", session, self._job.subject))


def _offset_after_chunk(answer: Answer, offset: int, sent: int) -> int:
    """Return what the registry has after a chunk [offset, sent) of which it took anything.

    Where it says nothing of use, that is all it was sent: ECR's Range does not advance from the
    second chunk on, and all of them are kept.
    """
    received = uploads.received_bytes(answer)
    return received if received is not None and offset < received <= sent else sent


def _wish(failure: OrasfsError, answer: Answer | None) -> float | None:
    """Return how long the registry, or the failure, has us wait."""
    if isinstance(failure, Unreachable):
        return failure.left_alone_seconds or None
    return protocol.retry_after_of(answer, datetime.now(tz=UTC)) if answer else None


def _as_judged(failure: Unreachable, *, is_under_way: bool) -> Unreachable:
    """Return the failure as the policy shall see it.

    A registry that refuses connections in the middle of an upload is being restarted, and so is
    one that is left alone by then.
    """
    is_away = isinstance(failure, ConnectionRefused) or failure.left_alone_seconds > 0
    return ConnectionBroken(str(failure)) if is_away and is_under_way else failure
