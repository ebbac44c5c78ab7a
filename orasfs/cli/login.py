"""`orasfs login`: verify credentials, and keep them where docker and `oras` look too."""

import importlib
import sys
from typing import Any

import click

from orasfs.cli.credentials import credential_options, read_secrets, trust_options, trust_words
from orasfs.daemon.config import parse_options
from orasfs.oci.reference import parse_registry


@click.command()
@click.argument("host", metavar="HOST[:PORT]")
@trust_options
@credential_options
@click.option("--plain-http", is_flag=True, help="Speak plain HTTP with the registry.")
def command(host: str, *, plain_http: bool, **flags: Any) -> None:  # noqa: ANN401 - of cli.credentials
    """Verify credentials with a registry, and keep them."""
    registry = parse_registry(host)
    config = parse_options([*trust_words(flags), *(["plain_http"] if plain_http else [])])
    is_given = any(
        flags[name]
        for name in (
            *("username", "password", "password_stdin"),
            *("identity_token", "identity_token_stdin"),
        )
    )
    if not is_given:
        if not sys.stdin.isatty():
            raise click.UsageError("give credentials: --username and --password-stdin")
        flags["username"] = click.prompt("Username", default="", err=True, show_default=False)
        if not flags["username"]:
            flags["identity_token"] = click.prompt("Token", hide_input=True, err=True)
    secrets = read_secrets(flags)
    # Loaded here: what is wrong with the flags is said without an event loop and HTTP.
    accounts = importlib.import_module("orasfs.daemon.accounts")
    where = accounts.log_in(registry, secrets, config)
    click.echo(f"{registry}: logged in; kept in {where}")
