"""Where log records go: to stderr and a file, and the last of them to `MOUNT/.orasfs/log`.

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

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(self.format(record)[:MAX_LINE_CHARACTERS])

    def content(self) -> bytes:
        """Return the lines kept, the newest last."""
        return "".join(f"{line}\n" for line in self._lines.copy()).encode("utf-8", "replace")


def set_up(level: str, log_file: Path | None, *, stderr_level: str) -> LogRing:
    """Send records of `level` and above to the file and to the ring returned.

    Those of `stderr_level` and above go to stderr too.

    Raises:
        OSError: the file cannot be opened.
    """
    errors = logging.StreamHandler(sys.stderr)
    errors.setLevel(stderr_level)
    ring = LogRing()
    outputs: list[logging.Handler] = [errors, ring]
    if log_file:
        outputs.append(logging.FileHandler(log_file))
    root = logging.getLogger()
    root.setLevel(level)
    for output in outputs:
        output.setFormatter(logging.Formatter(FORMAT))
        root.addHandler(output)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    return ring
