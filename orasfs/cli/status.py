"""`orasfs status`: what is mounted, and how it fares."""

import json
from typing import Any

import click

from orasfs.daemon import mountpoint
from orasfs.errors import MountFailed
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, Mount, mount_at, read_mounts

STATUS_FILE = ".orasfs/status.json"
_PRIVATE = "private to the user who mounted it"


@click.command()
@click.argument("place", required=False, metavar="[MOUNTPOINT]")
@click.option("--json", "as_json", is_flag=True, help="Print the documents as JSON.")
@click.pass_context
def command(ctx: click.Context, place: str | None, *, as_json: bool) -> None:
    """Tell how MOUNTPOINT fares, or all mounts of orasfs; exit status 1 if one does not answer.

    Those of other users are named, and not asked where they are private.
    """
    mounts = _mounts(place)
    documents = [_document(mount) for mount in mounts]
    if as_json:
        click.echo(json.dumps(documents[0] if place else documents, indent=2))
    elif not documents:
        click.echo("nothing is mounted")
    else:
        click.echo("\n".join(line for document in documents for line in _lines(document)))
    failed = [document for document in documents if "error" in document]
    if any(place or not document.get("private") for document in failed):
        ctx.exit(1)


def _mounts(place: str | None) -> list[Mount]:
    mounts = read_mounts()
    if place is None:
        return [mount for mount in mounts if mount.type == FILESYSTEM_TYPE]
    path = mountpoint.canonical(place)
    mount = mount_at(path, mounts)
    if mount is None or mount.type != FILESYSTEM_TYPE:
        raise MountFailed(f"{path}: no orasfs is mounted there")
    return [mount]


def _document(mount: Mount) -> dict[str, Any]:
    """Read a mount's status.json; of one that does not answer, the reason."""
    try:
        document = json.loads(mountpoint.read_file(f"{mount.path}/{STATUS_FILE}"))
    except (MountFailed, ValueError) as error:
        failed = {"source": mount.source, "mountpoint": mount.path, "error": str(error)}
        is_private = mountpoint.probe(mount.path) == mountpoint.DENIED
        return failed | ({"private": True, "error": _PRIVATE} if is_private else {})
    return document if isinstance(document, dict) else {}


def _lines(document: dict[str, Any]) -> list[str]:
    head = f"{document.get('source')} on {document.get('mountpoint')}"
    if document.get("private"):
        return [head, f"  {document['error']}"]
    if "error" in document:
        return [head, f"  does not answer: {document['error']}"]
    lines = [
        head,
        f"  version {document.get('version')}, pid {document.get('pid')}",
        f"  since {document.get('since')}",
    ]
    for host, health in (document.get("registries") or {}).items():
        state = {True: "reachable", False: "not reachable", None: "not asked yet"}
        lines.append(f"  {host}: {state[health.get('reachable')]}")
        if health.get("last_error"):
            lines.append(f"    last error {health['last_error_time']}: {health['last_error']}")
        lines += [
            f"    {name}: left alone for now, after {circuit['failures']} failures"
            for name, circuit in (health.get("circuits") or {}).items()
            if circuit["state"] != "closed"
        ]
    return lines
