"""Where log records go: to stderr or a file, and the last of them to `MOUNT/.orasfs/log`.

Owns the format of a line. INVARIANT: the ring is bounded, whatever is logged.
"""

import logging
import sys
from collections import deque
from pathlib import Path

RING_LINES = 1000
MAX_LINE_CHARACTERS = 4000
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_QUIET = ("httpx", "httpcore", "urllib3", "pyfuse3")  # each request is logged by us already


class LogRing(logging.Handler):
    """Keeps the last lines, for a person who looks at the mount."""

    def __init__(self, lines: int = RING_LINES) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=lines)
        self.setFormatter(logging.Formatter(FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(self.format(record)[:MAX_LINE_CHARACTERS])

    def content(self) -> bytes:
        """Return the lines kept, the newest last."""
        return "".join(f"{line}\n" for line in self._lines.copy()).encode("utf-8", "replace")


def set_up(level: str, log_file: Path | None, *, stderr_level: str) -> LogRing:
    """Send records of `level` and above to the file and to the ring returned.

    Without a file those of `stderr_level` go to stderr.

    Raises:
        OSError: the file cannot be opened.
    """
    ring = LogRing()
    output: logging.Handler
    if log_file:
        output = logging.FileHandler(log_file)
    else:
        output = logging.StreamHandler(sys.stderr)
        output.setLevel(stderr_level)
    output.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(output)
    root.addHandler(ring)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    return ring
