"""How many streams at once bring a blob that is read in order: one, or several over a long way.

Owns the judgement, made of how long answers take and how fast bytes come. Pure: times are given,
in seconds. One is kept for each source, so that its next blob begins with what was learned.

Over a long way one connection is slower than the link: TCP lets only so much be under way, and
content networks limit each connection. Several ranges at a time then help, and nowhere else: near
by, where one stream takes all that there is, or where it is the link itself that is slow, they
only cost requests. So it is tried, and given up if it does not help. On a machine whose processors
are fought for, answers are late and bytes slow wherever they come from: nothing is tried then.
"""

from collections.abc import Callable
from dataclasses import dataclass

# The quickest of so many answers is what the way takes; the others were held up at its ends.
_ANSWERS = 8
_LEAST_ANSWERS = 2  # before the way is called long: a busy machine holds one up, but hardly all
FAR_SECONDS = 0.01
FAST_BYTES_PER_SECOND = 200e6  # which no further stream will better
GAIN = 1.2
_EPOCH_TRIPS = 5  # in which slow start brings a stream near its speed
_PART_TRIPS = 8
_LEAST_SECONDS = 0.4
_REST_SECONDS = 60.0
_BUSY_SHARE = 0.3  # of the time in which somebody waited for a processor
_MOST_PART_BYTES = 8 * 1024 * 1024
_LEAST_PART_BYTES = 2 * 1024 * 1024


@dataclass(slots=True)
class _Trial:
    """Several streams were begun; `rate` is what one brought, in bytes a second."""

    rate: float
    has_settled: bool = False


class Pace:
    """What is known of the way to one source.

    Args:
        most: how many streams of one blob there may be.
        stalled: tells for how many seconds somebody has waited for a processor, ever.
    """

    def __init__(self, most: int, stalled: Callable[[], float] = float) -> None:
        self.stalled = stalled
        self._most = most
        self._answers: tuple[float, ...] = ()  # replaced, since threads add to it
        self._rate = 0.0  # of one stream, the best so far
        self._trial: _Trial | None = None
        self._rests_until = 0.0
        self._takes_ranges: bool | None = None  # not known yet
        self._streams = 1

    def __repr__(self) -> str:
        return f"<Pace {self.streams} of {self._most} latency={self.latency_seconds}>"

    @property
    def streams(self) -> int:
        """How many streams are to share what is read in order.

        Two at most before a range was answered as one: where ranges are ignored, each is the
        whole blob once more. One again as soon as an answer is quick: those before were held up.
        """
        if self.latency_seconds < FAR_SECONDS:
            return 1
        return self._streams if self._takes_ranges else min(2, self._streams)

    @property
    def latency_seconds(self) -> float:
        """How long an answer takes to begin; 0 as long as there was none."""
        return min(self._answers, default=0.0)

    @property
    def epoch_seconds(self) -> float:
        """How long to look before a judgement."""
        return max(_LEAST_SECONDS, _EPOCH_TRIPS * self.latency_seconds)

    @property
    def part_bytes(self) -> int:
        """How much to ask for in one request where there are several.

        So much that the wait for its answer is small against what it takes to come.
        """
        wanted = int(self._rate * _PART_TRIPS * self.latency_seconds)
        return max(_LEAST_PART_BYTES, min(_MOST_PART_BYTES, wanted))

    def answered(self, seconds: float, *, is_part: bool) -> None:
        """Note how long an answer took to begin. May be called in any thread.

        Args:
            seconds: from the question to the first byte.
            is_part: whether it was a range that does not begin with the blob.
        """
        self._answers = (*self._answers[1 - _ANSWERS :], seconds)
        if is_part and self._takes_ranges is None:
            self._takes_ranges = True

    def refuse(self) -> None:
        """Hear that the source gives the whole whatever is asked: one stream, for good."""
        self._takes_ranges = False
        self._streams = 1
        self._trial = None

    def judge(self, bytes_per_second: float, now: float, *, is_busy: bool = False) -> None:
        """Hear what came in an epoch in which readers waited for nothing else; decide anew.

        Args:
            bytes_per_second: of all streams together.
            now: in seconds, of any clock.
            is_busy: whether the processors were fought for, so that it says little of the way.
        """
        self._rate = max(self._rate, bytes_per_second / self.streams)
        trial = self._trial
        if trial is None:
            is_slow = not is_busy and bytes_per_second < FAST_BYTES_PER_SECOND
            if is_slow and self._may_try(now):
                self._trial = _Trial(bytes_per_second)
                self._streams = self._most
        elif not trial.has_settled:  # half of it was the beginning of the new ones
            trial.has_settled = True
        elif bytes_per_second < GAIN * trial.rate:
            self._trial = None
            self._streams = 1
            self._rests_until = now + _REST_SECONDS
        else:
            self._trial = None

    def _may_try(self, now: float) -> bool:
        return (
            self._takes_ranges is not False
            and len(self._answers) >= _LEAST_ANSWERS
            and self._streams < self._most
            and self.latency_seconds >= FAR_SECONDS
            and now >= self._rests_until
        )


class Epochs:
    """Measures how fast a blob comes while its readers wait for it, and lets a `Pace` judge.

    Args:
        pace: hears of it.
        received: tells how many bytes of the blob are there.
    """

    def __init__(self, pace: Pace, received: Callable[[], int]) -> None:
        self._pace = pace
        self._received = received
        self._begun = 0.0
        self._begun_with = 0
        self._stalled = 0.0
        self._waited = 0.0

    def waited(self, since: float, now: float) -> bool:
        """Note that a reader has waited; tell whether a judgement was made."""
        if not self._waited or now - self._begun > 4 * self._pace.epoch_seconds:
            self._begin(since)
        self._waited += now - max(since, self._begun)
        seconds = now - self._begun
        if seconds < self._pace.epoch_seconds:
            return False
        came = self._received() - self._begun_with
        # With more than half of it waiting, the way is what is slow, and not the reader.
        is_meant = self._waited >= seconds / 2 and came > 0
        if is_meant:
            is_busy = self._pace.stalled() - self._stalled > _BUSY_SHARE * seconds
            self._pace.judge(came / seconds, now, is_busy=is_busy)
        self._waited = 0.0
        return is_meant

    def _begin(self, now: float) -> None:
        self._begun = now
        self._begun_with = self._received()
        self._stalled = self._pace.stalled()
        self._waited = 0.0
