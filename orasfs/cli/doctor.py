"""`orasfs doctor`: check this machine, and a registry, and say what to mend."""

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from orasfs.daemon import mountpoint
from orasfs.daemon.config import default_cache
from orasfs.errors import CredentialsUnusable, InvalidInput, MountFailed, OrasfsError
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, read_mounts
from orasfs.registry.credentials import CredentialFile, credential_files
from orasfs.registry.helpers import is_installed
from orasfs.registry.hosts import DIRECTORIES, FILE_NAME

SYNC_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: a sentence, and whether it is a fault or a mere warning."""

    subject: str
    sentence: str
    level: str = "ok"


@click.command()
@click.argument("registry", required=False, metavar="[HOST[:PORT]]")
@click.option("--plain-http", is_flag=True, help="Speak plain HTTP with the registry.")
@click.pass_context
def command(ctx: click.Context, registry: str | None, *, plain_http: bool) -> None:
    """Check whether this machine can mount, and whether a registry answers."""
    findings = [check() for check in CHECKS]
    findings += list(check_mounts())
    if registry:
        findings.append(check_registry(registry, plain_http=plain_http))
    for finding in findings:
        click.echo(f"{finding.level:4}  {finding.subject}: {finding.sentence}")
    if any(finding.level == "FAIL" for finding in findings):
        ctx.exit(1)


def check_machine() -> Finding:
    """Check /dev/fuse and fusermount3."""
    try:
        mountpoint.check_machine()
    except MountFailed as error:
        return Finding("fuse", str(error), "FAIL")
    return Finding("fuse", "/dev/fuse and fusermount3 are there")


def check_sync() -> Finding:
    """Check whether `sync DIR` is fsync of the directory (GNU and BusyBox; not uutils)."""
    program = shutil.which("sync")
    if program is None:
        return Finding("sync", "there is no sync command", "warn")
    if Path(program).resolve().name == "busybox":
        return Finding("sync", "BusyBox: sync DIR is fsync")
    try:
        said = subprocess.run(  # noqa: S603 - the user's own sync
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=SYNC_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("sync", f"does not say what it is: {error}", "warn")
    if "GNU coreutils" in said:
        return Finding("sync", "GNU: sync DIR is fsync")
    kind = "uutils" if "uutils" in said else "an unknown kind"
    return Finding("sync", f"{kind}: sync DIR may not be fsync of the directory", "warn")


def check_cache() -> Finding:
    """Check that the cache's directory can be written, or made."""
    path = default_cache()
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("cache", f"{path}: not writable", "FAIL")
    free = shutil.disk_usage(existing).free / 2**30
    return Finding("cache", f"{path}, {free:.1f} GiB free", "ok" if free >= 1 else "warn")


def check_updatedb(conf: Path = Path("/etc/updatedb.conf")) -> Finding:
    """Check that locate's nightly updatedb leaves our mounts alone."""
    try:
        match = re.search(r'^\s*PRUNEFS\s*=\s*"([^"]*)"', conf.read_text(), re.MULTILINE)
    except OSError:
        return Finding("updatedb", "not installed")
    pruned = match[1].split() if match else []
    if FILESYSTEM_TYPE in pruned or "fuse" in pruned:
        return Finding("updatedb", "leaves fuse mounts alone")
    sentence = f"add {FILESYSTEM_TYPE} to PRUNEFS in {conf}, or it will walk through registries"
    return Finding("updatedb", sentence, "warn")


def check_credentials() -> Finding:
    """Check that the credential files can be read, and that the helpers they name are there."""
    files = [CredentialFile(path) for path in credential_files((), os.environ, Path.home())]
    found = [file for file in files if file.path.exists()]
    try:
        configs = [file.config() for file in found]
    except CredentialsUnusable as error:
        return Finding("credentials", str(error), "FAIL")
    names = {name for config in configs for name in (*config.helpers.values(), config.store)}
    missing = [name for name in sorted(names - {""}) if not is_installed(name)]
    if missing:
        sentence = f"not installed: {', '.join(f'docker-credential-{name}' for name in missing)}"
        return Finding("credentials", sentence, "FAIL")
    paths = ", ".join(str(file.path) for file in found)
    return Finding("credentials", paths or "no file: registries are asked as anybody")


def check_mirrors(directories: Sequence[Path] = DIRECTORIES) -> Finding:
    """Check that the files that name mirrors can be used, with the certificates they name."""
    # Loaded here, as are the clients that it makes.
    places = importlib.import_module("orasfs.daemon.places")
    files = sorted(path for directory in directories for path in directory.glob(f"*/{FILE_NAME}"))
    for path in files:
        try:
            places.check_file(path)
        except InvalidInput as error:
            return Finding("mirrors", f"not used: {error}", "FAIL")
    names = ", ".join(str(path) for path in files)
    return Finding("mirrors", names or "no hosts.toml: registries are read at their own hosts")


def check_mounts() -> Iterator[Finding]:
    """Check that each mount of ours answers."""
    for mount in read_mounts():
        if mount.type == FILESYSTEM_TYPE:
            number = mountpoint.probe(mount.path)
            if number == mountpoint.DENIED:
                yield Finding(mount.path, f"{mount.source}, private to the user who mounted it")
            elif number:
                sentence = f"{os.strerror(number)}; remove it: fusermount3 -u -z {mount.path}"
                yield Finding(mount.path, sentence, "FAIL")
            else:
                yield Finding(mount.path, f"{mount.source}, answers")


def check_registry(host: str, *, plain_http: bool) -> Finding:
    """Check that a registry answers."""
    # Loaded here: nothing else that doctor does needs an event loop or HTTP.
    ping = importlib.import_module("orasfs.daemon.ping").ping
    try:
        ping(host, plain_http=plain_http or None)
    except OrasfsError as error:
        return Finding(host, f"{type(error).__name__}: {error}", "FAIL")
    return Finding(host, "answers")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_machine,
    check_sync,
    check_cache,
    check_updatedb,
    check_credentials,
    check_mirrors,
)
