"""The last error of an artifact and of a repository, in words, for `.oras/error`.

Owns the text. Knows not what failed: an operation's name and an error come in.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from orasfs.errors import OrasfsError


def utc_now() -> datetime:
    """Return the wall-clock time."""
    return datetime.now(UTC)


class ErrorLog:
    """Remembers the last error; tells an enclosing log of it (an artifact's repository)."""

    __slots__ = ("_enclosing", "_now", "_text")

    def __init__(
        self, enclosing: "ErrorLog | None" = None, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._enclosing = enclosing
        self._now = now
        self._text = ""

    @property
    def text(self) -> str:
        """The last error as a line, "" if there was none."""
        return self._text

    def record(self, operation: str, error: OrasfsError) -> None:
        """Remember an error in place of the one before."""
        moment = self._now().isoformat(timespec="seconds")
        self._text = f"{moment} {operation}: {type(error).__name__}: {error}\n"
        if self._enclosing is not None:
            self._enclosing.record(operation, error)
