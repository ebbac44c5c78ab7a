"""`orasfs tag`: let a tag name what another one names, whether it exists or not.

In one repository that is one request. Into another one it is a draft by reference that is
committed at once; a tag that exists there is replaced in one step, by publishing in two.
"""

import contextlib
import errno
import os
import secrets

import click

from orasfs.cli import commit
from orasfs.daemon import gesture
from orasfs.daemon.gesture import Spot
from orasfs.errors import Busy, InvalidName, LocalFailure, MountFailed
from orasfs.oci.reference import is_tag

ATTRIBUTE = "user.oras.tag"
REFERENCE = "user.oras.reference"
STATE = "user.oras.state"
REFERRERS = "user.oras.referrers"
DISCARD = "user.oras.discard"


@click.command()
@click.argument("source", metavar="PATH")
@click.argument("tags", nargs=-1, required=True, metavar="TAG…")
@click.option("-r", "--recursive", is_flag=True, help="Copy what refers to it, too.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def command(
    ctx: click.Context, source: str, tags: tuple[str, ...], *, recursive: bool, quiet: bool
) -> None:
    """Let each TAG name the artifact at PATH; what it named before stays.

    TAG is a tag of the same repository, or the path that it has or would have. In another
    repository, registry or mount the artifact is copied to it: an index with its children, blobs
    mounted where the registry can, and nothing sent that is there. The exit status is then that
    of `orasfs commit`.
    """
    spot = gesture.locate(source)
    status = 0
    for tag in tags:
        place = place_of(spot.path, tag)
        if place is None:
            gesture.set_attribute(spot, ATTRIBUTE, tag_of(tag))
        else:
            status = _copy(spot, gesture.locate(place), recursive=recursive, quiet=quiet) or status
    ctx.exit(status)


def place_of(source: str, text: str) -> str | None:
    """Return the path of a tag in another repository than `source`, None in the same one."""
    if "/" not in text.rstrip("/"):
        return None
    path = os.path.normpath(os.path.abspath(text))  # noqa: PTH100 - no link is to be followed
    return None if repository_of(path) == repository_of(source) else path


def repository_of(path: str) -> str:
    """Return the path of the repository in which the last name of a path is a tag."""
    above, _, name = path.rpartition("/")
    repository = ""
    if ":" in name:
        repository = name.partition("@")[0].partition(":")[0]
    return f"{above}/{repository}" if repository else above


def tag_of(text: str) -> str:
    """Return the tag that a path ends with.

    Raises:
        InvalidName: it is no tag.
    """
    tag = text.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    if not is_tag(tag):
        raise InvalidName(f"{text}: {tag[:150]!r} is no valid tag")
    return tag


def _copy(source: Spot, target: Spot, *, recursive: bool, quiet: bool) -> int:
    """Copy what a path names to a tag elsewhere; return the exit status.

    What fails leaves no draft: what has been sent by then is at the target, and not sent again.
    """
    tag = tag_of(target.path)
    reference = gesture.get_attribute(source, REFERENCE)
    if reference is None:
        raise MountFailed(f"{source.path}: not the directory of an artifact")
    exists = _is_committed(target)
    repository = repository_of(target.path)
    staged = Spot(target.mount, f"{repository}/.tag-{secrets.token_hex(4)}") if exists else target
    gesture.make_link(staged, reference)
    is_done = False
    try:
        if recursive:
            gesture.set_attribute(staged, REFERRERS, "1")
        status = commit.push([staged.path], quiet=quiet, is_published=exists)
        if exists and not status:
            gesture.rename(staged, f"{repository}/{tag}")
            click.echo(gesture.get_attribute(target, REFERENCE))
        is_done = not status
    finally:
        if not is_done:
            with contextlib.suppress(LocalFailure):
                gesture.set_attribute(staged, DISCARD, "1")
    return status


def _is_committed(spot: Spot) -> bool:
    """Tell whether a tag exists.

    Raises:
        Busy: there is a draft of that name.
        InvalidName: there is no repository above it.
    """
    try:
        state = gesture.get_attribute(spot, STATE)
    except LocalFailure as error:
        if error.number == errno.ENOENT:
            return False
        raise
    if state is None:
        above, _, name = spot.path.rpartition("/")
        raise InvalidName(f"{spot.path}: no tag; of a new repository it is written {above}:{name}")
    if state != "committed":
        raise Busy(f"{spot.path}: a draft: commit it, or `orasfs discard` it first")
    return True
