"""Which bytes of a blob that is fetched in pieces are there: a fill level for each chunk.

Owns the arithmetic and the form on disk of the map. Pure: no I/O, no threads of its own, no trio.

INVARIANT: the bytes of a chunk that are there are its first ones, `level` of them: so whoever goes
on filling one begins where the last one stopped, and what was fetched is never fetched again.
INVARIANT: a chunk is filled by one thread at a time; others may look at the map meanwhile.
"""

import sys
from array import array
from collections.abc import Iterator

CHUNK_BYTES = 256 * 1024
LEVEL_BYTES = 4


class ChunkMap:
    """The map of a blob of `size` bytes, at first empty."""

    def __init__(self, size: int) -> None:
        self.size = size
        count = -(-size // CHUNK_BYTES)
        self._levels = array("I", bytes(LEVEL_BYTES * count))
        # The same in one byte each, which is searched at the speed of memchr(3).
        self._is_begun = bytearray(count)
        self._is_full = bytearray(count)

    def __repr__(self) -> str:
        return f"<ChunkMap {self.received}/{self.size}>"

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def received(self) -> int:
        """The number of bytes that are there."""
        return sum(self._levels)

    @property
    def is_complete(self) -> bool:
        """Whether all of them are."""
        return self._is_full.find(0) < 0

    def level(self, chunk: int) -> int:
        """Return how many bytes of a chunk are there."""
        return self._levels[chunk]

    def has(self, start: int, stop: int) -> bool:
        """Tell whether bytes [start, stop) are there."""
        return self.gap(start, stop) is None

    def gap(self, start: int, stop: int) -> int | None:
        """Return where to begin, so that [start, stop) will be there; None if it is.

        It may be before `start`, in the same chunk.
        """
        chunk, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
        while start < stop:
            chunk = self._is_full.find(0, chunk, last + 1)
            if chunk < 0:
                return None
            filled = chunk * CHUNK_BYTES + self._levels[chunk]
            if filled < min(stop, (chunk + 1) * CHUNK_BYTES):
                return filled
            chunk += 1  # enough of the last one is there, or it was filled just now
            start = max(start, chunk * CHUNK_BYTES)
        return None

    def hole_end(self, gap: int) -> int:
        """Return up to where nothing is there, from a `gap` on."""
        chunk = self._is_begun.find(1, gap // CHUNK_BYTES + 1)
        return self.size if chunk < 0 else chunk * CHUNK_BYTES

    def holes(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, stop) that are not there and may be filled, in order.

        Whoever iterates may fill each before the next.
        """
        while (gap := self.gap(start, stop)) is not None:
            end = min(stop, self.hole_end(gap))
            if gap >= start:
                yield gap, end
            start = end if gap >= start else floor(start) + CHUNK_BYTES

    def fill(self, start: int, stop: int) -> None:
        """Say that bytes [start, stop) are there now; `start` is a level or a chunk's beginning.

        What is said again, or said of fewer bytes than there are, changes nothing.
        """
        while start < stop:
            chunk = start // CHUNK_BYTES
            begin = chunk * CHUNK_BYTES
            end = min(stop, begin + CHUNK_BYTES)
            if start - begin <= self._levels[chunk] < end - begin:
                self._set(chunk, end - begin)
            start = end

    def clear(self) -> None:
        """Say that no byte is there."""
        for chunk in range(len(self)):
            self._set(chunk, 0)

    def packed(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the levels of chunks [start, stop), little-endian, 4 bytes each."""
        part = self._levels[start:stop]
        if sys.byteorder != "little":
            part.byteswap()
        return part.tobytes()

    def load(self, content: bytes) -> bool:
        """Take over what `packed` gave; False, and nothing is there, if it cannot be right."""
        levels = array("I")
        if len(content) == LEVEL_BYTES * len(self):
            levels.frombytes(content)
            if sys.byteorder != "little":
                levels.byteswap()
        is_right = len(levels) == len(self) and all(
            level <= self._length(chunk) for chunk, level in enumerate(levels)
        )
        if not is_right:
            self.clear()
            return False
        for chunk, level in enumerate(levels):
            self._set(chunk, level)
        return True

    def end(self) -> int:
        """Return where the last byte that is there ends."""
        chunk = self._is_begun.rfind(1)
        return 0 if chunk < 0 else chunk * CHUNK_BYTES + self._levels[chunk]

    def _length(self, chunk: int) -> int:
        return min(CHUNK_BYTES, self.size - chunk * CHUNK_BYTES)

    def _set(self, chunk: int, level: int) -> None:
        self._levels[chunk] = level
        self._is_begun[chunk] = level > 0
        self._is_full[chunk] = level == self._length(chunk)


def floor(offset: int) -> int:
    """Return where the chunk of a byte begins."""
    return offset - offset % CHUNK_BYTES


def ceiling(offset: int, size: int) -> int:
    """Return where the chunk of the byte before `offset` ends, in a blob of `size` bytes."""
    return min(size, floor(offset + CHUNK_BYTES - 1))
