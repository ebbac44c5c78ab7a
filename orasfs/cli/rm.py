"""`orasfs rm`: remove tags, or manifests by their digests, from the registry."""

import click

from orasfs.daemon import gesture

ATTRIBUTE = "user.oras.remove"


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def command(paths: tuple[str, ...]) -> None:
    """Remove the tags at PATH…, or with @DIGEST manifests; the mount needs `-o delete`.

    Other tags of the same manifest stay.
    """
    for path in paths:
        gesture.set_attribute(gesture.locate(path), ATTRIBUTE, "1")
