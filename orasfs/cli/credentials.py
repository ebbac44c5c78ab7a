"""The flags by which a command is given credentials, and what comes of them.

Owns their names, which are the reference client's, and the reading of a password from stdin or
from a terminal.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from orasfs.daemon.secrets import MountSecrets, parse_header

MAX_STDIN_CHARACTERS = 16 * 1024
_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("-u", "--username", metavar="NAME", default="", help="Registry username."),
    click.option(
        "-p",
        "--password",
        metavar="SECRET",
        default="",
        help="Password, or an identity token if there is no username. Others can see it in the "
        "list of processes: better --password-stdin.",
    ),
    click.option("--password-stdin", is_flag=True, help="Read the password from stdin."),
    click.option("--identity-token", metavar="SECRET", default="", help="OAuth2 refresh token."),
    click.option(
        "--identity-token-stdin", is_flag=True, help="Read the identity token from stdin."
    ),
)

TRUST_OPTIONS = ("ca_file", "cert_file", "key_file")

_TRUST = (
    click.option("--insecure", is_flag=True, help="Verify no TLS certificate."),
    click.option("--ca-file", metavar="PATH", help="Trust the authorities in this PEM file too."),
    click.option("--cert-file", metavar="PATH", help="Show this certificate to the registry."),
    click.option("--key-file", metavar="PATH", help="The key of --cert-file."),
    click.option(
        "--resolve",
        multiple=True,
        metavar="HOST:PORT:ADDRESS[:PORT]",
        help="Reach this host at this address. May be repeated.",
    ),
    click.option(
        "--registry-config",
        multiple=True,
        metavar="PATH",
        help="Look for credentials in this file, instead of the usual ones. May be repeated.",
    ),
)


def credential_options(command: _Command) -> _Command:
    """Add the flags of credentials to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def trust_options(command: _Command) -> _Command:
    """Add the flags of TLS and of credential files to a command."""
    for option in reversed(_TRUST):
        command = option(command)
    return command


def trust_words(flags: dict[str, Any]) -> list[str]:
    """Return the flags of `trust_options` as words of `-o`."""
    words = [f"{name}={_escaped(flags[name])}" for name in TRUST_OPTIONS if flags[name]]
    words += [f"registry_config={_escaped(path)}" for path in flags["registry_config"]]
    words += [f"resolve={_escaped(entry)}" for entry in flags["resolve"]]
    return [*words, "insecure"] if flags["insecure"] else words


def _escaped(value: str) -> str:
    return value.replace(",", "\\,")


def read_secrets(flags: dict[str, Any], headers: tuple[str, ...] = ()) -> MountSecrets:
    """Return the credentials that the flags give, reading or asking for what they leave open.

    Raises:
        click.UsageError: the flags contradict each other, or there is nobody to ask.
        InvalidInput: a header is none.
    """
    username, password, token = (
        str(flags[name]) for name in ("username", "password", "identity_token")
    )
    given = [
        name
        for name in ("password", "password_stdin", "identity_token", "identity_token_stdin")
        if flags[name]
    ]
    if len(given) > 1:
        words = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{words}: give one of them")
    if flags["password_stdin"]:
        password = _read_stdin("password")
    if flags["identity_token_stdin"]:
        token = _read_stdin("identity token")
    if username and not given:
        password = _ask()
    if password and not username:
        password, token = "", password  # as the reference client has it
    return MountSecrets(username, password, token, [parse_header(text) for text in headers])


def _read_stdin(what: str) -> str:
    secret = sys.stdin.read(MAX_STDIN_CHARACTERS).rstrip("\r\n")
    if not secret:
        raise click.UsageError(f"no {what} came on stdin")
    return secret


def _ask() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("--username: a password is needed too: --password-stdin")
    return str(click.prompt("Password", hide_input=True, err=True))
