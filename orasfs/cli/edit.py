"""`orasfs edit`: make committed artifacts writable, as drafts on top of what is committed."""

import click

from orasfs.daemon import gesture

ATTRIBUTE = "user.oras.edit"


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def command(paths: tuple[str, ...]) -> None:
    """Make the artifacts at PATH… modified: writable, until `orasfs commit` or `discard`."""
    for path in paths:
        gesture.set_attribute(gesture.locate(path), ATTRIBUTE, "1")
