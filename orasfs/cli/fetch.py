"""`orasfs fetch`: bring what is below a path into the cache, and end as that ends.

Owns the exit status by cause, which is that of `orasfs commit`. The work is the daemon's; this
command orders it and watches `.orasfs/fetches.json`, so that it can be interrupted.
"""

import secrets
import threading
from dataclasses import dataclass
from typing import Any

import click

from orasfs.cli.commit import INTERRUPTED, STATUSES, status_of
from orasfs.cli.show import Display, bytes_in_words, make_display
from orasfs.daemon import gesture
from orasfs.daemon.control import FETCHES
from orasfs.daemon.gesture import Spot
from orasfs.errors import MountFailed, OrasfsError

ORDER = "user.oras.fetch."
CANCEL = "user.oras.cancel."
FIRST_POLL_SECONDS = 0.02
POLL_SECONDS = 0.2


@dataclass(slots=True)
class _Fetch:
    """One path that was ordered to be fetched."""

    spot: Spot
    ticket: str
    document: dict[str, Any] | None = None

    @property
    def is_done(self) -> bool:
        return bool(self.document) and (self.document or {}).get("phase") != "running"


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def command(ctx: click.Context, paths: tuple[str, ...], *, quiet: bool) -> None:
    """Bring all that is below PATH… into the cache, to be read later with no registry.

    PATH is a file, a directory, an artifact, a repository or anything above in a mount. What
    cannot be had is named, and the rest is fetched. Interrupting cancels; what has come stays.

    Exit status: 0 all is there, 4 not allowed, 5 the registry does not answer, 7 no room in the
    cache, 1 any other failure, 130 interrupted.
    """
    status = 0
    fetches = []
    for path in paths:
        try:
            fetches.append(_begin(path))
        except OrasfsError as error:
            click.echo(f"Error: {error}", err=True)
            status = status or status_of(error)
    with make_display(quiet=quiet) as display:
        try:
            _watch(fetches, display)
        except KeyboardInterrupt:
            for fetch in fetches:
                gesture.get_attribute(fetch.spot, f"{CANCEL}{fetch.ticket}")
            ctx.exit(INTERRUPTED)
    for fetch in fetches:
        status = _conclude(fetch) or status
    ctx.exit(status)


def _begin(path: str) -> _Fetch:
    spot = gesture.locate(path)
    ticket = secrets.token_hex(8)
    if gesture.get_attribute(spot, f"{ORDER}{ticket}") is None:
        raise MountFailed(f"{path}: its mount takes no such order; is it of an older version?")
    return _Fetch(spot, ticket)


def _watch(fetches: list[_Fetch], display: Display) -> None:
    """Follow the control files until all has ended."""
    pause = threading.Event()
    seconds = FIRST_POLL_SECONDS
    while True:
        for spot in {fetch.spot.control: fetch.spot for fetch in fetches}.values():
            found = {each["ticket"]: each for each in gesture.read_control(spot, FETCHES)}
            for fetch in fetches:
                if fetch.ticket in found:
                    fetch.document = found[fetch.ticket]
                    display.update(fetch.spot.path, _shown(fetch.document))
        if all(fetch.is_done for fetch in fetches):
            return
        pause.wait(seconds)
        seconds = min(2 * seconds, POLL_SECONDS)


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document in the form of a commit's, which displays know."""
    return {
        **document,
        "sent": document["received"],
        "verb": "fetched",
        "skipped": 0,
        "skipped_size": 0,
    }


def _conclude(fetch: _Fetch) -> int:
    """Say how it ended, and return the exit status."""
    document = fetch.document or {}
    for message in document.get("messages", ()):
        click.echo(f"Error: {fetch.spot.path}: {message}", err=True)
    hidden = document.get("failures", 0) - len(document.get("messages", ()))
    if hidden > 0:
        click.echo(f"Error: {fetch.spot.path}: and {hidden} more", err=True)
    if document.get("phase") == "cancelled":
        click.echo(f"{fetch.spot.path}: cancelled", err=True)
        return INTERRUPTED
    if document.get("phase") == "done":
        size = bytes_in_words(document["size"])
        click.echo(f"{fetch.spot.path}: {document['files']} files, {size} in the cache")
        return 0
    return STATUSES.get((document.get("error") or {}).get("errno", ""), 1)
