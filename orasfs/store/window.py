"""How far ahead of a reader to fetch: a little at first, more the longer it reads in order.

Owns the guess what a reader will want next, made of the places it has read. Pure.

What is fetched for nothing when a reader goes away is bounded by what was asked for ahead of it
(`Want.ahead`), and by what a connection holds that is closed before its end.
"""

from dataclasses import dataclass

from orasfs.store import chunks

MIB = 1024 * 1024
# Reads of the kernel's read-ahead come in any order within this; it also is not worth a request
# of its own to skip that little.
NEAR_BYTES = 4 * MIB
HEAD_BYTES = MIB  # of a file's beginning, where most readers begin
# A first read of so much is of a reader in large blocks (cp, cat, sha256sum), after whom the
# kernel reads ahead; it will want the whole. A header's is of 4 to 32 KiB.
BULK_BYTES = 64 * 1024
QUIET_BYTES = 256 * 1024  # up to which a run of reads means nothing
OPEN_BYTES = 2 * MIB  # after which one request asks for all the rest
MAX_AHEAD_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Want:
    """What to fetch for a reader.

    Attributes:
        start: the first byte.
        ahead: up to where to fetch.
        is_open: whether to ask for all the rest in one request, and to take it as far as `ahead`,
            which moves on with the reader.
    """

    start: int
    ahead: int
    is_open: bool


class Cursor:
    """Where one reader of a blob of `size` bytes is, and since when it reads in order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0
        self._run = 0
        self._is_bulk = False
        self._arranged = 0

    def __repr__(self) -> str:
        return f"<Cursor at={self._position} run={self._run}>"

    def note(self, start: int, stop: int) -> None:
        """Say that the reader reads bytes [start, stop)."""
        if abs(start - self._position) > NEAR_BYTES:
            self._run = 0
            self._position = start
            self._is_bulk = False
            self._arranged = 0
        elif not self._run and not self._position and stop - start >= BULK_BYTES:
            self._is_bulk = start == 0
        self._run += max(0, stop - max(start, self._position))
        self._position = max(self._position, stop)

    def need(self, start: int, stop: int) -> Want:
        """Return what to fetch so that [start, stop) can be read, which was noted."""
        ahead = stop + self._window()
        if stop <= HEAD_BYTES:
            ahead = max(ahead, HEAD_BYTES)
        return Want(start, chunks.ceiling(ahead, self._size), self._is_open)

    def prefetch(self) -> Want | None:
        """Return what to fetch before it is asked for; None if that is arranged, or not known.

        Call `arrange` with it, once it is seen to.
        """
        window = self._window()
        ahead = chunks.ceiling(self._position + window, self._size)
        # Half a window at a time: it is not worth a look at each read.
        if not window or ahead <= self._arranged or self._arranged > ahead - window // 2:
            return None
        return Want(self._position, ahead, self._is_open)

    def arrange(self, want: Want) -> None:
        """Say that a want is seen to."""
        self._arranged = max(self._arranged, want.ahead)

    @property
    def _is_open(self) -> bool:
        return self._is_bulk or self._run >= OPEN_BYTES

    def _window(self) -> int:
        if self._run <= QUIET_BYTES and not self._is_bulk:
            return 0
        return min(MAX_AHEAD_BYTES, max(MIB, 2 * self._run))
