"""How far ahead of a reader to fetch: a little at first, more the longer it reads in order.

Owns the guess what a reader will want next, made of the places it has read. Pure.

What is fetched for nothing when a reader goes away is bounded by what was asked for ahead of it
(`Want.ahead`), and by what a connection holds that is closed before its end.
"""

from dataclasses import dataclass

from orasfs.store.files import chunks

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
_TRACKS = 8


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


@dataclass(slots=True, eq=False)
class _Track:
    """A place from which is read in order: how far that went, and since when."""

    position: int = 0
    run: int = 0
    is_bulk: bool = False
    arranged: int = 0
    idle: int = 0  # bytes that were read elsewhere meanwhile

    @property
    def is_quiet(self) -> bool:
        return self.run <= QUIET_BYTES and not self.is_bulk

    @property
    def is_open(self) -> bool:
        return self.is_bulk or self.run >= OPEN_BYTES

    def follow(self, start: int, stop: int) -> int:
        """Note a read; return how many bytes of it are new."""
        if not self.run and not self.position and stop - start >= BULK_BYTES:
            self.is_bulk = start == 0
        count = max(0, stop - max(start, self.position))
        self.run += count
        self.position = max(self.position, stop)
        self.idle = 0
        return count


class Cursor:
    """Where one reader of a blob of `size` bytes is, and since when it reads in order.

    It may read at several places in turn, as threads do that share an open file, or one that has
    mapped it. All share `MAX_AHEAD_BYTES`; a place that was left is forgotten soon.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._tracks = [_Track()]  # the one that was read last at the end

    def __repr__(self) -> str:
        track = self._tracks[-1]
        return f"<Cursor at={track.position} run={track.run} of {len(self._tracks)}>"

    def note(self, start: int, stop: int) -> None:
        """Say that the reader reads bytes [start, stop)."""
        track = min(self._tracks, key=lambda each: abs(start - each.position))
        if abs(start - track.position) > NEAR_BYTES:
            track = _Track(start)
            self._make_room()
        else:
            self._tracks.remove(track)
        count = track.follow(start, stop)
        for other in self._tracks:
            other.idle += count
        self._tracks = [each for each in self._tracks if each.idle <= MAX_AHEAD_BYTES]
        self._tracks.append(track)

    def need(self, start: int, stop: int) -> Want:
        """Return what to fetch so that [start, stop) can be read, which was noted."""
        track = self._tracks[-1]
        ahead = stop + self._window(track)
        if stop <= HEAD_BYTES:
            ahead = max(ahead, HEAD_BYTES)
        return Want(start, chunks.ceiling(ahead, self._size), track.is_open)

    def prefetch(self) -> Want | None:
        """Return what to fetch before it is asked for; None if that is arranged, or not known.

        Call `arrange` with it, once it is seen to.
        """
        track = self._tracks[-1]
        window = self._window(track)
        ahead = chunks.ceiling(track.position + window, self._size)
        # Half a window at a time: it is not worth a look at each read.
        if not window or ahead <= track.arranged or track.arranged > ahead - window // 2:
            return None
        return Want(track.position, ahead, track.is_open)

    def arrange(self, want: Want) -> None:
        """Say that a want is seen to."""
        track = self._tracks[-1]
        track.arranged = max(track.arranged, want.ahead)

    def standing(self) -> list[Want]:
        """Return what was arranged and has not been read yet, the latest first."""
        return [
            Want(track.position, track.arranged, track.is_open)
            for track in reversed(self._tracks)
            if track.arranged > track.position
        ]

    def _make_room(self) -> None:
        """Forget a place if there are many: rather one at which little was read in order."""
        if len(self._tracks) >= _TRACKS:
            quiet = (each for each in self._tracks if each.is_quiet)
            self._tracks.remove(next(quiet, self._tracks[0]))

    def _window(self, track: _Track) -> int:
        if track.is_quiet:
            return 0
        share = MAX_AHEAD_BYTES // sum(not each.is_quiet for each in self._tracks)
        return min(share, max(MIB, 2 * track.run))
