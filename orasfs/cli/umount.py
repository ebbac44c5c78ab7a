"""`orasfs umount`: unmount and name the drafts left, or say what keeps the mount busy."""

import json
import shlex

import click

from orasfs.daemon import mountpoint
from orasfs.daemon.control import DRAFTS
from orasfs.errors import MountFailed
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, mount_at, read_mounts

MAX_USERS = 10  # named in the message
DRAFTS_SECONDS = 3.0  # that a mount has to name its drafts


@click.command()
@click.argument("place", metavar="MOUNTPOINT")
@click.option("-z", "--lazy", is_flag=True, help="Detach now, although it is in use.")
def command(place: str, *, lazy: bool) -> None:
    """Unmount MOUNTPOINT."""
    path = mountpoint.canonical(place)
    mount = mount_at(path, read_mounts())
    if mount is None or mount.type != FILESYSTEM_TYPE:
        raise MountFailed(f"{path}: no orasfs is mounted there")
    drafts = _drafts(path)
    try:
        mountpoint.unmount(path, lazy=lazy)
    except MountFailed as error:
        raise MountFailed(f"{error}{_why(path)}") from error
    if drafts:
        click.echo(
            "\n".join(["Not committed, and there again at the next mount:", *drafts]), err=True
        )


def _drafts(path: str) -> list[str]:
    """Name the drafts of a mount; none of one that does not answer, which is to be unmounted."""
    try:
        documents = json.loads(mountpoint.read_file(f"{path}/.orasfs/{DRAFTS}", DRAFTS_SECONDS))
    except (MountFailed, ValueError):
        return []
    return [f"  {each['name']}" for each in documents if "name" in each]


def _why(path: str) -> str:
    """Name the processes that use the mount, and what mends it."""
    users = list(mountpoint.users_of(path))
    lines = [f"  {user.command} (pid {user.pid}), {user.reason}" for user in users[:MAX_USERS]]
    if len(users) > MAX_USERS:
        lines.append(f"  and {len(users) - MAX_USERS} more")
    if not users:
        return ""
    mend = f"end them, or detach it now: orasfs umount -z {shlex.quote(path)}"
    return "\n".join(["\nIt is in use by:", *lines, mend])
