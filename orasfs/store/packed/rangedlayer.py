"""The content of a layer that is had by ranges of its blob: chunks, each verified by its digest.

Owns which chunks are at hand, and what is fetched with them: who reads on in the order of the blob
gets more with each request, who jumps gets what he reads. Runs on the trio thread; what blocks is
`orasfs.store.packed.parts`.

INVARIANT: a chunk is served only when its bytes were verified by this object since it was made.
One chunk is fetched by one request at a time, however many wait for it.
"""

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import trio
from cachetools import LRUCache

from orasfs.errors import ContentMismatch, Unsupported
from orasfs.oci.storage import BlobStreamer
from orasfs.store.fetching.counters import Counters
from orasfs.store.packed.keeping import Keeping
from orasfs.store.packed.parts import Outcome, Parts

_FIRST_AHEAD_BYTES = 128 * 1024
_MAX_FETCH_BYTES = 8 * 1024 * 1024
_MAX_MADE_BYTES = 32 * 1024 * 1024
_MAX_GAP_BYTES = 64 * 1024  # between chunks, that is fetched rather than asked around
MAX_GAP_CHUNKS = 8
_HELD_BYTES = 32 * 1024 * 1024
_FETCHES = 8  # at once
_EDGES = 16  # readers that are followed


@dataclass(slots=True, eq=False)
class Ranging:
    """What all ranged layers share.

    Attributes:
        limiter: of threads that read files.
        fetches: of those that wait for the network.
        keeping: keeps what is found on the way.
    """

    nursery: trio.Nursery
    limiter: trio.CapacityLimiter
    counters: Counters
    is_stopping: threading.Event
    fetches: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_FETCHES))
    keeping: Keeping = field(init=False)

    def __post_init__(self) -> None:
        """Make what all of them keep things by."""
        self.keeping = Keeping(self.nursery, self.limiter)


@dataclass(slots=True, eq=False)
class _Flight:
    """Chunks that are being fetched."""

    numbers: range
    done: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome | None = None


class RangedLayer:
    """One layer.

    Args:
        parts: its chunks on disk.
        ranging: what all share.
        is_only: whether nothing else knows where the layer's bytes are, so that passing it again
            would be of no use.
    """

    def __init__(self, parts: Parts, ranging: Ranging, *, is_only: bool = False) -> None:
        self._parts = parts
        self._chunks = parts.chunks
        self._ranging = ranging
        self.is_only = is_only
        self._good = bytearray(len(parts.chunks))  # 1 where the file has a chunk, verified
        self._held: LRUCache[int, bytes] = LRUCache(_HELD_BYTES, getsizeof=len)
        self._flying: dict[int, _Flight] = {}
        # Where a reader would go on, and how much he is given then.
        self._edges: LRUCache[int, int] = LRUCache(_EDGES)

    def __repr__(self) -> str:
        return f"<RangedLayer {self._good.count(1)} of {len(self._good)} chunks>"

    def reader(self, source: BlobStreamer, gap: int = MAX_GAP_CHUNKS) -> "RangedReader":
        """Return a reader that fetches from `source`.

        Who goes on behind what was fetched last, or less than `gap` chunks further, gets more.
        """
        return RangedReader(self, source, gap)

    def read_now(self, start: int, stop: int) -> bytes | None:
        """Return bytes of these addresses if they are at hand."""
        numbers = self._chunks.span(start, stop)
        if self._good.find(0, numbers.start, numbers.stop) >= 0:
            return None
        return self._parts.read_now(start, stop)

    async def read(self, source: BlobStreamer, start: int, stop: int, gap: int) -> bytes:
        """Return bytes of these addresses; see `TarReader.read`, and `reader`."""
        numbers = self._chunks.span(start, stop)
        held: Mapping[int, bytes] | None = None
        while held is None:
            for number in numbers:
                await self._obtain(number, numbers.stop, source, gap)
            held = self._collect(numbers)
        work = partial(self._parts.read, start, stop, held)
        return await trio.to_thread.run_sync(work, limiter=self._ranging.limiter)

    def _collect(self, numbers: range) -> Mapping[int, bytes] | None:
        """Return those of the chunks that are in memory only; None if one is gone already."""
        wanted = [number for number in numbers if not self._good[number]]
        held = {number: self._held[number] for number in wanted if number in self._held}
        return held if len(held) == len(wanted) else None

    async def _obtain(self, number: int, wanted_stop: int, source: BlobStreamer, gap: int) -> None:
        """Have a chunk; what is wanted next, and lies next to it, is fetched with it."""
        while not self._good[number] and number not in self._held:
            flight = self._flying.get(number)
            if flight is None:
                flight = self._begin(number, wanted_stop, source, gap)
            await flight.done.wait()
            outcome = flight.outcome
            if outcome is not None and outcome.error is not None:
                if outcome.failed == number and self._chunks.is_hint:
                    raise Unsupported(f"a layer that says where its parts are: {outcome.error}")
                if outcome.failed is None or outcome.failed == number:
                    raise copy.copy(outcome.error) from outcome.error

    def _begin(self, number: int, wanted_stop: int, source: BlobStreamer, gap: int) -> _Flight:
        """Begin to fetch a chunk, and those behind it that are worth the same request."""
        ahead = self._ahead(number, gap)
        chunks, stop = self._chunks, number + 1
        begin, end = chunks.blob_range(number)
        made_stop = chunks.start(number) + _MAX_MADE_BYTES
        while stop < len(chunks) and not self._good[stop] and stop not in self._flying:
            start_of_next, end_of_next = chunks.blob_range(stop)
            size = end_of_next - begin
            if not begin <= start_of_next <= end + _MAX_GAP_BYTES:
                break
            if size > (_MAX_FETCH_BYTES if stop < wanted_stop else ahead):
                break
            if chunks.start(stop + 1) > made_stop:
                break
            end, stop = max(end, end_of_next), stop + 1
        self._edges[stop] = min(max(2 * (end - begin), _FIRST_AHEAD_BYTES), _MAX_FETCH_BYTES)
        flight = _Flight(range(number, stop))
        self._flying.update(dict.fromkeys(flight.numbers, flight))
        self._ranging.nursery.start_soon(self._fly, flight, source)
        return flight

    def _ahead(self, number: int, gap: int) -> int:
        """Return how much whoever reads this chunk now will want."""
        for edge in range(number, max(number - gap, -1), -1):
            if edge in self._edges:
                return int(self._edges.pop(edge))
        return 0

    async def _fly(self, flight: _Flight, source: BlobStreamer) -> None:
        ranging = self._ranging
        work = partial(self._parts.obtain, flight.numbers, source, ranging.is_stopping.is_set)
        try:
            outcome = await trio.to_thread.run_sync(
                work, limiter=ranging.fetches, abandon_on_cancel=True
            )
            for number in outcome.good:
                self._good[number] = 1
            for number in reversed(outcome.held):  # the first is wanted, and stays the longest
                self._held[number] = outcome.held[number]
            ranging.counters.bytes_received += outcome.received
            ranging.counters.mismatches += isinstance(outcome.error, ContentMismatch)
            flight.outcome = outcome
        except Exception as error:  # noqa: BLE001 - handed to those who wait, who raise it
            flight.outcome = Outcome(error=error)
        finally:
            for number in flight.numbers:
                del self._flying[number]
            flight.done.set()


class RangedReader:
    """A ranged layer with a source; implements `orasfs.tree.layers.TarReader`."""

    def __init__(self, layer: RangedLayer, source: BlobStreamer, gap: int) -> None:
        self._layer = layer
        self._source = source
        self._gap = gap

    def __repr__(self) -> str:
        return f"<RangedReader {self._layer!r}>"

    def read_now(self, start: int, stop: int) -> bytes | None:
        """Return the bytes if they are at hand."""
        return self._layer.read_now(start, stop)

    async def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop), each chunk of them verified.

        Raises:
            ContentMismatch: the source has something else.
            Unreachable: and whatever else the source raises.
        """
        return await self._layer.read(self._source, start, stop, self._gap)
