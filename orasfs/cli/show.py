"""How commits under way are shown: bars on a terminal, lines elsewhere, nothing if asked so.

Owns the form only; the documents are those of `.orasfs/commits.json`. Everything goes to stderr.
"""

import importlib
import sys
from types import TracebackType
from typing import Any, Protocol, Self

import click

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Display(Protocol):
    """Shows commits, each named by its path."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def update(self, name: str, document: dict[str, Any]) -> None:
        """Show what has become of a commit."""
        ...


class _Shown:
    """What all displays share."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the display; by default there is nothing to end."""


class Silence(_Shown):
    """Shows nothing."""

    def update(self, name: str, document: dict[str, Any]) -> None:
        """Show nothing."""


class Lines(_Shown):
    """Shows a line each time a blob, or the whole, has got somewhere."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}

    def update(self, name: str, document: dict[str, Any]) -> None:
        """Print a line if phase or number of blobs have changed."""
        state = (document["phase"], document["there"])
        if self._last.get(name) != state:
            self._last[name] = state
            click.echo(f"{name}: {describe(document)}", err=True)


class Bars(_Shown):
    """Shows a bar each, with bytes and rate."""

    def __init__(self) -> None:
        # Loaded here: only a terminal needs it.
        progress = importlib.import_module("rich.progress")
        console = importlib.import_module("rich.console")
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TextColumn("{task.fields[state]}"),
            console=console.Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update(self, name: str, document: dict[str, Any]) -> None:
        """Move the bar."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, state="")
        self._bars.update(
            self._tasks[name],
            total=document["size"],
            completed=document["sent"] + document["skipped_size"],
            state=describe(document),
        )


def make_display(*, quiet: bool) -> Display:
    """Return the display that suits stderr."""
    if quiet:
        return Silence()
    return Bars() if sys.stderr.isatty() else Lines()


def describe(document: dict[str, Any]) -> str:
    """Return where a commit is, in a few words."""
    words = f"{document['phase']}, {document['there']}/{document['blobs']} blobs"
    if document["sent"]:
        words += f", {bytes_in_words(document['sent'])} {document.get('verb', 'sent')}"
    if document["skipped"]:
        words += f", {document['skipped']} there before"
    return words


def bytes_in_words(count: int) -> str:
    """Return a number of bytes with a unit, to three digits."""
    amount, unit = float(count), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.3g} {_UNITS[unit]}"
