"""`orasfs logout`: forget the credentials of a registry."""

import importlib
from pathlib import Path

import click

from orasfs.errors import NotFound
from orasfs.oci.reference import parse_registry


@click.command()
@click.argument("host", metavar="HOST[:PORT]")
@click.option(
    "--registry-config", metavar="PATH", help="Change this file, instead of the usual one."
)
def command(host: str, registry_config: str | None) -> None:
    """Forget the credentials of a registry."""
    registry = parse_registry(host)
    # Loaded here: the help needs no event loop and no HTTP.
    accounts = importlib.import_module("orasfs.daemon.accounts")
    chosen = [Path(registry_config).expanduser().absolute()] if registry_config else []
    if not accounts.log_out(registry, chosen):
        raise NotFound(f"{registry}: there were no credentials to forget")
    click.echo(f"{registry}: logged out")
