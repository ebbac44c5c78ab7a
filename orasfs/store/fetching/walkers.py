"""Which streams of one blob run: where to send one, whom to let go on, whom to end.

Owns the walkers of a blob, and the rules: a stream that comes by soon is waited for, another one
is sent elsewhere, a few at most; over a long way several share what is wanted next; and a source
that gives the whole whatever is asked is read by one alone. Runs on the trio thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import BlobStreamer
from orasfs.store.fetching.pace import Pace
from orasfs.store.fetching.walker import NEVER, Walker
from orasfs.store.fetching.window import NEAR_BYTES, Want
from orasfs.store.files.chunkfile import ChunkFile
from orasfs.store.files.chunks import ceiling, floor
from orasfs.store.options import CacheOptions


@dataclass(frozen=True, slots=True)
class Errand:
    """What all walkers of a blob are sent for.

    Attributes:
        source: where from.
        descriptor: the blob.
        options: how many at once, for how long.
        limiter: of the threads of all blobs' streams.
        pace: what is known of the way to the source.
    """

    source: BlobStreamer
    descriptor: Descriptor
    options: CacheOptions
    limiter: trio.CapacityLimiter
    pace: Pace


class Walkers:
    """The walkers of one blob.

    Args:
        errand: what they are sent for.
        file: where they put it.
        nursery: where they live.
        on_news: see `Walker`.
        on_ended: called on the trio thread when one has ended, with its failure if any.
    """

    def __init__(
        self,
        errand: Errand,
        file: ChunkFile,
        nursery: trio.Nursery,
        on_news: Callable[[], None],
        on_ended: Callable[[Exception | None], None],
    ) -> None:
        self._errand = errand
        self._file = file
        self._nursery = nursery
        self._on_news = on_news
        self._on_ended = on_ended
        self._walkers: list[Walker] = []
        self._is_whole = False

    def __repr__(self) -> str:
        return repr(self._walkers)

    def __len__(self) -> int:
        return len(self._walkers)

    @property
    def is_running(self) -> bool:
        """Whether one has got a thread."""
        return any(walker.is_running for walker in self._walkers)

    @property
    def has_room(self) -> bool:
        """Whether one more may be sent."""
        return len(self) < (1 if self._is_whole else self._errand.options.streams_per_blob)

    def can_go_on(self, gap: int, want: Want, stop: int) -> bool:
        """Let one that is on its way to `gap` go on to what is wanted; False if none is.

        Args:
            gap: where to begin.
            want: how far to go.
            stop: where to give news.
        """
        size = self._errand.descriptor.size
        near = size if self._is_whole else NEAR_BYTES
        for walker in self._walkers:
            if walker.join(gap, want.ahead, near=near):
                walker.wanted = min(walker.wanted, stop)
                return True
        # One that is ending may be at the gap still: its end is news.
        return any(walker.is_at(gap) for walker in self._walkers)

    def send(self, gap: int, want: Want, stop: int) -> None:
        """Send one to `gap`, now or when there is room; see `can_go_on`."""
        if not self.has_room:
            self._make_room()
        elif not self._is_overtaken(gap, want, stop):
            self._start(gap, want, stop)

    def spread(self, wants: Sequence[Want]) -> None:
        """Share what is wanted among several, if one alone brings it slowly; see `Pace`."""
        for want in wants:
            place: int | None = want.start if want.is_open and self._is_shared else None
            while place is not None and len(self) < self._errand.pace.streams and self.has_room:
                place = self._next_free(place, want)
                if place is not None:
                    self._start(place, want, NEVER)

    def keep(self, wants: Sequence[Want]) -> None:
        """End those that are sent for nothing that is wanted still; returns at once."""
        for walker in self._walkers:
            is_wanted = any(
                want.start < walker.stop and walker.position < want.ahead for want in wants
            )
            if walker.is_open and walker.wanted == NEVER and not is_wanted:
                walker.end()

    def end(self) -> None:
        """End all; returns at once."""
        for walker in self._walkers:
            walker.end()

    def look(self) -> None:
        """Look at the news; whoever waits then says again what is wanted."""
        for walker in self._walkers:
            walker.wanted = NEVER
        whole = next((walker for walker in self._walkers if walker.is_whole), None)
        if whole is None:
            return
        # The source gives all whatever is asked: leave it to one stream.
        self._is_whole = True
        self._errand.pace.refuse()
        others = [walker for walker in self._walkers if walker is not whole]
        for walker in others:
            walker.end()
        if not others and not whole.is_ending:
            whole.grant(self._errand.descriptor.size)

    @property
    def _is_shared(self) -> bool:
        return self._errand.pace.streams > 1 and not self._is_whole

    def _next_free(self, place: int, want: Want) -> int | None:
        """Return the next gap of what is wanted that none is on its way to; None without one.

        One that was to go further than its part is held to it, and each goes on to its end.
        """
        size = self._errand.descriptor.size
        while place < want.ahead:
            gap = self._file.chunks.gap(place, want.ahead)
            if gap is None:
                return None
            walker = next((each for each in self._walkers if each.has(gap)), None)
            if walker is None:
                return gap
            if walker.is_ending:
                return None  # its end is news
            walker.join(gap, want.ahead, near=size)
            part = self._errand.pace.part_bytes
            if walker.stop - walker.position > 2 * part:
                walker.curtail(ceiling(walker.position + part, size))
            place = walker.stop
        return None

    def _make_room(self) -> None:
        """End one that no one waits for, unless one is ending already."""
        if any(walker.is_ending for walker in self._walkers):
            return
        for walker in self._walkers:
            if walker.wanted == NEVER:
                walker.end()
                return

    def _is_overtaken(self, gap: int, want: Want, stop: int) -> bool:
        """Take the way from `gap` on from those that would come there; tell if one just has."""
        for walker in self._walkers:
            if walker.start < gap < walker.stop and not walker.curtail(floor(gap)):
                walker.join(gap, want.ahead, near=self._errand.descriptor.size)
                walker.wanted = min(walker.wanted, stop)
                return True
        return False

    def _start(self, gap: int, want: Want, wanted: int) -> None:
        size = self._errand.descriptor.size
        is_open = want.is_open or self._is_whole
        ahead = size if self._is_whole else want.ahead
        stop = self._file.chunks.hole_end(gap)
        if is_open and self._is_shared:
            stop = min(stop, ceiling(gap + self._errand.pace.part_bytes, size))
        for other in self._walkers:
            if floor(other.start) > gap:
                stop = min(stop, floor(other.start))
        walker = Walker(
            self._errand.source,
            self._errand.descriptor,
            self._file,
            gap,
            stop if is_open else min(stop, ahead),
            ahead,
            is_open=is_open,
            idle_seconds=self._errand.options.idle_seconds,
            on_news=self._on_news,
            pace=self._errand.pace,
        )
        walker.wanted = wanted
        self._walkers.append(walker)
        self._nursery.start_soon(self._walk, walker)

    async def _walk(self, walker: Walker) -> None:
        failure: Exception | None = None
        try:
            await trio.to_thread.run_sync(
                walker.walk, abandon_on_cancel=True, limiter=self._errand.limiter
            )
        except trio.Cancelled:
            walker.end()
            raise
        except Exception as error:  # noqa: BLE001 - handed to the readers, who raise it
            failure = error
        finally:
            self._walkers.remove(walker)
        self._on_ended(failure)
