"""The command's entry point: which verbs there are, and what a failure looks like.

Owns exit statuses (0 done, 1 failed with a sentence on stderr, 2 wrong usage; `commit` has more)
and the call without a verb that mount(8) makes. A verb's module is loaded when it is called;
loading one loads neither the event loop nor HTTP nor FUSE.
"""

import importlib
import sys
from collections.abc import Sequence

import click

from orasfs.errors import OrasfsError

VERBS = (
    *("mount", "umount", "status", "commit", "fetch", "edit", "discard", "tag", "rm"),
    *("cache", "login", "logout", "doctor"),
)


class VerbGroup(click.Group):
    """Verbs in modules of their own: `orasfs.cli.VERB` has `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs, in the order in which a person needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a verb's module."""
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"orasfs.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; a deliberate failure becomes a sentence and exit status 1."""
        try:
            return super().invoke(ctx)
        except OrasfsError as error:
            raise click.ClickException(str(error)) from error


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        metadata = importlib.import_module("importlib.metadata")
        try:
            version = metadata.version("orasfs")
        except metadata.PackageNotFoundError:
            version = "0 (not installed)"
        click.echo(f"orasfs {version}")
        ctx.exit()


@click.command(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def orasfs() -> None:
    """Mount OCI registries, and local image layouts, as directories."""


def with_verb(arguments: Sequence[str]) -> list[str]:
    """Insert the verb that mount(8) leaves out: it calls `orasfs SOURCE MOUNTPOINT -o OPTIONS`.

    One word alone is not taken for a mountpoint: it is more likely a verb with a typing error.
    """
    words = [word for word in arguments if not word.startswith("-")]
    has_verb = not arguments or arguments[0] in VERBS or arguments[0].startswith("-")
    if has_verb or len(words) < 2:
        return list(arguments)
    return ["mount", *arguments]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the orasfs command; never returns but by SystemExit."""
    given = sys.argv[1:] if arguments is None else arguments
    orasfs.main(args=with_verb(given), prog_name="orasfs")
