"""`orasfs commit`: push drafts, show how far they are, and end as the push ends.

Owns the exit statuses by cause. The push is the daemon's; this command orders it and watches
`.orasfs/commits.json`, so that it can be interrupted, which cancels the push.
"""

import contextlib
import errno
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from orasfs.cli.show import Display, make_display
from orasfs.daemon import gesture
from orasfs.daemon.control import COMMITS
from orasfs.daemon.gesture import Spot
from orasfs.errors import LocalFailure, MountFailed, OrasfsError

ATTRIBUTE = "user.oras.commit"
STATE = "user.oras.state"
FIRST_POLL_SECONDS = 0.02  # a small draft is pushed in no time
POLL_SECONDS = 0.1
CANCEL_SECONDS = 30.0
LOST_LOOKS = 60  # some ten seconds; then another commit of the draft has taken its place
INTERRUPTED = 130

_UNREACHABLE = ("ETIMEDOUT", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EPROTO")
# What scripts can tell apart; docs/ERRORS.md has the table.
STATUSES = {
    "ECANCELED": 3,
    "EACCES": 4,
    **dict.fromkeys(_UNREACHABLE, 5),
    "EBUSY": 6,
    **dict.fromkeys(("ENOSPC", "EDQUOT", "EFBIG"), 7),
    "EEXIST": 8,
    "EINVAL": 9,
}


@dataclass(slots=True)
class _Push:
    """One draft that was told to be committed."""

    spot: Spot
    ticket: str
    document: dict[str, Any] | None = None
    absences: int = 0  # looks in sequence that did not find it

    @property
    def has_ended(self) -> bool:
        phase = self.document.get("phase") if self.document else None
        return phase in ("done", "failed", "cancelled")

    @property
    def is_done(self) -> bool:
        return self.has_ended or self.absences >= LOST_LOOKS


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def command(ctx: click.Context, paths: tuple[str, ...], *, quiet: bool) -> None:
    """Push the drafts at PATH…, each as the artifact whose tag it is named by.

    Prints the reference of what was pushed. A draft whose name is no tag is only uploaded; `mv -T`
    it to a tag then. Interrupting cancels; what has been uploaded need not be sent again.

    Exit status: 0 pushed, 3 the tag was moved by somebody else, 4 not allowed, 5 the registry
    does not answer, 6 in use, 7 no room, 8 the tag cannot be moved, 9 the draft is no artifact,
    1 any other failure, 130 interrupted.
    """
    ctx.exit(push(paths, quiet=quiet))


def push(paths: Sequence[str], *, quiet: bool, is_published: bool = False) -> int:
    """Push drafts; return the exit status.

    Args:
        paths: of the drafts.
        quiet: whether no progress is shown.
        is_published: whether the caller publishes what is only uploaded.
    """
    pushes: list[_Push] = []
    is_interrupted = False
    try:
        status = _begin_all(paths, pushes)
    except KeyboardInterrupt:
        status, is_interrupted = 0, True
    with make_display(quiet=quiet) as display:
        try:
            if not is_interrupted:
                _watch(pushes, display)
        except KeyboardInterrupt:
            is_interrupted = True
        if is_interrupted:
            _cancel(pushes, display)
    for each in pushes:
        status = _conclude(each, is_published=is_published) or status
    return INTERRUPTED if is_interrupted else status


def status_of(error: OrasfsError) -> int:
    """Return the exit status for a failure to begin."""
    if isinstance(error, LocalFailure):
        return STATUSES.get(errno.errorcode.get(error.number, ""), 1)
    return 1


def _begin_all(paths: Sequence[str], pushes: list[_Push]) -> int:
    """Order commits; return the exit status. What may have begun is among `pushes`."""
    status = 0
    for path in paths:
        try:
            _begin(path, pushes)
        except OrasfsError as error:
            click.echo(f"Error: {error}", err=True)
            status = status or status_of(error)
    return status


def _begin(path: str, pushes: list[_Push]) -> None:
    """Order a commit, unless there is nothing to commit."""
    spot = gesture.locate(path)
    state = gesture.get_attribute(spot, STATE)
    if state is None:
        raise MountFailed(f"{path}: not the directory of an artifact or a draft")
    if state == "committed":
        click.echo(f"{path}: committed already", err=True)
        return
    begun = _Push(spot, secrets.token_hex(8))
    pushes.append(begun)  # before, since an interrupt may come between
    try:
        gesture.set_attribute(spot, ATTRIBUTE, begun.ticket)
    except OrasfsError:
        pushes.remove(begun)
        raise


def _watch(pushes: list[_Push], display: Display) -> None:
    """Follow the control file until all commits have ended."""
    pause = threading.Event()
    seconds = min(FIRST_POLL_SECONDS, POLL_SECONDS)
    while True:
        _look(pushes, display)
        if all(push.is_done for push in pushes):
            return
        pause.wait(seconds)
        seconds = min(2 * seconds, POLL_SECONDS)


def _look(pushes: list[_Push], display: Display) -> None:
    """Read the control files of the mounts concerned once."""
    for control in {push.spot.control: push.spot for push in pushes}.values():
        found = {each["ticket"]: each for each in gesture.read_control(control, COMMITS)}
        for push in pushes:
            if push.spot.control != control.control:
                continue
            push.absences = 0 if push.ticket in found else push.absences + 1
            if push.ticket in found:
                push.document = found[push.ticket]
                display.update(push.spot.path, push.document)


def _cancel(pushes: list[_Push], display: Display) -> None:
    """Cancel what goes on, and wait until it has ended, or for another interrupt."""
    running = [push for push in pushes if not push.is_done]
    with _deaf(), contextlib.suppress(OrasfsError):
        for push in running:
            gesture.set_attribute(push.spot, ATTRIBUTE, "0")
    timer = threading.Event()
    with contextlib.suppress(KeyboardInterrupt):
        for _ in range(int(CANCEL_SECONDS / POLL_SECONDS)):
            _look(running, display)
            if all(push.is_done for push in running):
                return
            timer.wait(POLL_SECONDS)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Hear no interrupt: who presses ^C twice wants it cancelled, not left to go on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _conclude(push: _Push, *, is_published: bool) -> int:
    """Say how a commit ended, and return its exit status."""
    document = push.document or {}
    for warning in document.get("warnings", ()):
        click.echo(f"{push.spot.path}: warning: {warning}", err=True)
    error = document.get("error")
    if not push.has_ended:
        click.echo(f"Error: {push.spot.path}: the mount does not tell how it ended", err=True)
        return 1
    if document.get("phase") == "cancelled":
        click.echo(f"{push.spot.path}: cancelled; the draft is as it was", err=True)
        return INTERRUPTED
    if error:
        click.echo(f"Error: {push.spot.path}: {error['message']}", err=True)
        return STATUSES.get(error["errno"], 1)
    if document.get("digest"):
        click.echo(f"{document['reference']}@{document['digest']}")
    elif document.get("phase") == "done" and not is_published:
        click.echo(f"{push.spot.path}: uploaded; publish it with: mv -T DRAFT TAG", err=True)
    return 0
