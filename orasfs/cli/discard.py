"""`orasfs discard`: drop drafts, or the changes of modified tags, and say what was lost."""

import os
import stat

import click

from orasfs.cli.show import bytes_in_words
from orasfs.daemon import gesture
from orasfs.daemon.gesture import Spot
from orasfs.errors import MountFailed, NotFound

ATTRIBUTE = "user.oras.discard"
BASE = "user.oras.base"
STATE = "user.oras.state"


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def command(paths: tuple[str, ...]) -> None:
    """Drop the drafts at PATH…, or what was changed there; nothing of it is pushed."""
    for path in paths:
        spot = gesture.locate(path)
        state = gesture.get_attribute(spot, STATE)
        if state not in ("draft", "modified"):
            raise NotFound(f"{path}: {_why_not(state)}, so there is nothing to discard")
        base = gesture.get_attribute(spot, BASE)  # of a copy, which has nothing of its own
        if base is not None:
            lost = f"a copy of {base}"
        else:
            lost = _content(spot) if state == "draft" else "its changes"
        gesture.set_attribute(spot, ATTRIBUTE, "1")
        click.echo(f"{path}: discarded {lost}", err=True)


def _why_not(state: str | None) -> str:
    return "committed" if state == "committed" else "no draft"


def _content(spot: Spot) -> str:
    """Count the files of a draft, which are local."""
    files = size = 0

    def refuse(error: OSError) -> None:
        raise MountFailed(f"{spot.path}: {error.strerror}") from error

    for directory, _, names in os.walk(spot.path, onerror=refuse):
        for name in names:
            status = os.lstat(f"{directory}/{name}")
            files += 1
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return f"{files} {'file' if files == 1 else 'files'}, {bytes_in_words(size)}"
