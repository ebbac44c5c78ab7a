"""`orasfs tag`: let a tag name what another one names, whether it exists or not."""

import os

import click

from orasfs.daemon import gesture
from orasfs.errors import InvalidName
from orasfs.oci.reference import is_tag

ATTRIBUTE = "user.oras.tag"


@click.command()
@click.argument("source", metavar="PATH")
@click.argument("tags", nargs=-1, required=True, metavar="TAG…")
def command(source: str, tags: tuple[str, ...]) -> None:
    """Let each TAG name the artifact at PATH, in the same repository; what it named before stays.

    TAG is a tag, or the path that it has or would have.
    """
    spot = gesture.locate(source)
    for tag in tags:
        gesture.set_attribute(spot, ATTRIBUTE, tag_of(spot.path, tag))


def tag_of(source: str, text: str) -> str:
    """Return the tag that is meant.

    Raises:
        InvalidName: it is no tag, or in another directory than `source`.
    """
    above, _, name = text.rstrip("/").rpartition("/")
    if above:
        here = os.path.normpath(os.path.abspath(above))  # noqa: PTH100 - no link is to be followed
        if here != os.path.dirname(source):  # noqa: PTH120 - the same
            raise InvalidName(f"{text}: in another repository than {source}; copy it instead")
    tag = name.rpartition(":")[2]
    if not is_tag(tag):
        raise InvalidName(f"{text}: {tag[:150]!r} is no valid tag")
    return tag
