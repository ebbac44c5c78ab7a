"""`orasfs mount`: check what can be checked at once, then mount in the background or here."""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

import click

from orasfs.cli.credentials import credential_options, read_secrets, trust_options, trust_words
from orasfs.daemon import background, mountpoint
from orasfs.daemon.config import MountConfig, parse_options
from orasfs.daemon.secrets import MountSecrets
from orasfs.daemon.source import default_local, parse_source
from orasfs.errors import OrasfsError

_HELP = """Mount SOURCE at MOUNTPOINT.

SOURCE is `registries`, HOST[:PORT], HOST[:PORT]/PREFIX, HOST[:PORT]/REPOSITORY:TAG or @DIGEST, or
oci:PATH[:TAG] for a local image layout; without it the embedded repositories are mounted. Returns
once the mount answers.
"""


@click.command(help=_HELP)
@click.argument("places", nargs=-1, required=True, metavar="[SOURCE] MOUNTPOINT")
@click.option("-o", "options", multiple=True, metavar="OPT[=VALUE],…", help="Mount options.")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground; log to stderr.")
@click.option("--registry", multiple=True, metavar="HOST", help="As -o registry=HOST.")
@click.option("--plain-http", is_flag=True, help="As -o plain_http.")
@trust_options
@credential_options
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME: VALUE",
    help="Send this header to the registry. May be repeated.",
)
@click.option("--concurrency", type=int, metavar="N", help="As -o concurrency=N.")
@click.option("--platform", metavar="OS/ARCH", help="As -o platform=OS/ARCH.")
@click.option("-v", "--verbose", is_flag=True, help="As -o log_level=DEBUG.")
@click.option("--background-child", is_flag=True, hidden=True)
def command(
    places: tuple[str, ...],
    options: tuple[str, ...],
    registry: tuple[str, ...],
    platform: str | None,
    concurrency: int | None,
    headers: tuple[str, ...],
    *,
    foreground: bool,
    plain_http: bool,
    verbose: bool,
    background_child: bool,
    **flags: Any,  # noqa: ANN401 - of cli.credentials, which knows them
) -> None:
    """Mount."""
    if len(places) > 2:
        raise click.UsageError(f"expected SOURCE and MOUNTPOINT, got {len(places)} words")
    words = [*options, *(f"registry={host}" for host in registry)]
    words += ["plain_http"] if plain_http else []
    words += [f"platform={platform}"] if platform else []
    words += [f"concurrency={concurrency}"] if concurrency is not None else []
    words += ["log_level=DEBUG"] if verbose else []
    words += trust_words(flags)
    config = _configure(places, words)
    if background_child:
        secrets = MountSecrets.from_bytes(background.hear())
        _serve_as_child(dataclasses.replace(config, secrets=secrets))
        return
    config = dataclasses.replace(config, secrets=read_secrets(flags, headers))
    mountpoint.check_machine()
    mountpoint.check_fit(config.mountpoint)
    if foreground:
        _serve(config, stderr_level=config.log_level, on_ready=lambda: None)
        return
    arguments = [f"-o{word}" for word in words] + ["--", config.source, config.mountpoint]
    warnings = background.start(arguments, config.mountpoint, config.secrets.to_bytes())
    if warnings:
        click.echo(warnings, err=True)


def _configure(places: tuple[str, ...], words: list[str]) -> MountConfig:
    """Parse it all, with absolute paths."""
    source_text = places[0] if len(places) == 2 else None
    source = parse_source(source_text, local=default_local())
    return dataclasses.replace(
        parse_options(words), source=source.text, mountpoint=mountpoint.canonical(places[-1])
    )


def _serve(config: MountConfig, *, stderr_level: str, on_ready: Callable[[], None]) -> None:
    # Loaded here: the command that only starts the daemon needs no event loop and no FUSE.
    run = importlib.import_module("orasfs.daemon.run").run
    run(config, stderr_level=stderr_level, on_ready=on_ready)


def _serve_as_child(config: MountConfig) -> None:
    """Serve with the parent listening on stderr: a failure is told in plain words."""
    try:
        _serve(config, stderr_level="WARNING", on_ready=background.detach_stderr)
    except OrasfsError as error:
        sys.exit(str(error))
