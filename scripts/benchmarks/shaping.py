"""What a link is like, and when it lets bytes pass: delay, bandwidth, and TCP's window.

Pure: times are given and returned in seconds. A connection begins with ten segments under way and
doubles that each round trip up to what Linux grants a sender at most, as slow start does; so one
connection over a long way is slower than the link, and several are not.
"""

from collections import deque
from dataclasses import dataclass

PIECE_BYTES = 64 * 1024
_FIRST_WINDOW = 10 * 1448  # RFC 6928
_LAST_WINDOW = 4 * 1024 * 1024  # tcp(7), tcp_wmem
_POLL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Shape:
    """What a link is like; 0 is no limit.

    Attributes:
        delay_seconds: there and back.
        bytes_per_second: of all connections together, each way.
        connection_bytes_per_second: of one connection, as content networks have it.
    """

    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    connection_bytes_per_second: float = 0.0

    def __str__(self) -> str:
        words = [f"{self.delay_seconds * 1000:g} ms", f"{self.bytes_per_second / 1e6:g} MB/s"]
        if self.connection_bytes_per_second:
            words.append(f"{self.connection_bytes_per_second / 1e6:g} MB/s a connection")
        return ", ".join(words)

    @property
    def is_open(self) -> bool:
        """Whether it shapes nothing."""
        return not (
            self.delay_seconds or self.bytes_per_second or self.connection_bytes_per_second
        )


@dataclass(slots=True)
class Pipe:
    """One direction of the link, which all connections share: when it is free again."""

    bytes_per_second: float
    free_at: float = 0.0

    def occupy(self, now: float, size: int) -> float:
        """Send so many bytes as soon as it is free; return when the last one has left."""
        left = max(now, self.free_at)
        if self.bytes_per_second:
            left += size / self.bytes_per_second
        self.free_at = left
        return left


class Line:
    """One direction of one connection over a link of that shape."""

    def __init__(self, shape: Shape, pipe: Pipe) -> None:
        self._one_way_seconds = shape.delay_seconds / 2
        self._pipe = pipe
        self._own = Pipe(shape.connection_bytes_per_second)
        self._window = _FIRST_WINDOW
        self._under_way = 0
        self._acknowledged: deque[tuple[float, int]] = deque()

    def room(self, now: float) -> int:
        """Return how many bytes may be sent now."""
        if not self._one_way_seconds:
            return PIECE_BYTES
        while self._acknowledged and self._acknowledged[0][0] <= now:
            _, size = self._acknowledged.popleft()
            self._under_way -= size
            self._window = min(_LAST_WINDOW, self._window + size)
        return min(PIECE_BYTES, self._window - self._under_way)

    def wait_seconds(self, now: float) -> float:
        """Return how long to wait before asking for room again."""
        return self._acknowledged[0][0] - now if self._acknowledged else _POLL_SECONDS

    def send(self, now: float, size: int) -> tuple[float, float]:
        """Send so many bytes, for which there was room; return when they leave and arrive."""
        left = max(self._own.occupy(now, size), self._pipe.occupy(now, size))
        self._under_way += size
        return left, left + self._one_way_seconds

    def deliver(self, now: float, size: int) -> None:
        """Say that so many bytes have been taken at the other end."""
        if self._one_way_seconds:
            self._acknowledged.append((now + self._one_way_seconds, size))
