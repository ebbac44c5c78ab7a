"""Secrets of tests, and the search for them in everything that a mount leaves and shows."""

import base64
import contextlib
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.mounted import Mounted

SECRET = "swordfish-7f3a"  # noqa: S105 - of no account
WRONG = "barracuda-1e88"
HEADER_SECRET = "marlin-52c9"  # noqa: S105 - the same
# bcrypt of SECRET, of the least cost: docker-registry takes no other kind of hash.
HTPASSWD = "user:$2b$04$TNVQcQuNWTI.nDwx5OEjXOZwy33G1biraBkkLP7hJmRCGbsM1Lpgq\n"
PAIR = base64.b64encode(f"user:{SECRET}".encode()).decode()
JWT = "eyJ0eXAi"  # how every token of the tests' token service begins
_CONTROL = ("status.json", "transfers.json", "drafts.json", "commits.json", "metrics", "log")
_PROCESS = ("cmdline", "environ", "status", "comm")


def write_config(path: Path, host: str, password: str = SECRET) -> Path:
    """Write a docker config with the credentials of a host."""
    auth = base64.b64encode(f"user:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


class SecretiveMount(Mounted):
    """A mount of which nothing may tell a secret: all tests of authentication use it.

    What is looked at while it is mounted, and again below its home when it has ended, is written
    at `check_no_secret`.
    """

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                check_no_secret(self)
        finally:
            super().__exit__(kind, *exc)
        if kind is None:
            _check(_files(self))

    @contextlib.contextmanager
    def in_background(self, *flags: str, stdin: str = "") -> Iterator[None]:
        with super().in_background(*flags, stdin=stdin):
            yield
            check_no_secret(self)
        _check(_files(self))


def check_no_secret(mounted: Mounted, *more: str) -> None:
    """Search all that the mount shows, and all that it has written, for secrets.

    That is its log at debug level, its control files and the last errors, what the kernel tells of
    its process, and every file below its home: cache, state, drafts.
    """
    _check(_places(mounted), *more)


def _check(places: Iterable[tuple[str, bytes]], *more: str) -> None:
    found = secrets_in(places, *more)
    assert not found, found


def secrets_in(places: Iterable[tuple[str, bytes]], *more: str) -> list[str]:
    """Return where there is which secret, in words."""
    secrets = [word.encode() for word in (SECRET, WRONG, HEADER_SECRET, PAIR, JWT, *more)]
    return [
        f"{place}: {secret.decode()}"
        for place, text in places
        for secret in secrets
        if secret in text
    ]


def _places(mounted: Mounted) -> Iterator[tuple[str, bytes]]:
    assert "DEBUG" in mounted.log()
    for name in _CONTROL:
        yield name, _read(mounted.path / ".orasfs" / name)
    for path in (".oras/error", "team/.oras/error"):
        yield path, _read(mounted.path / path, check=False)
    pid = json.loads(_read(mounted.path / ".orasfs/status.json"))["pid"]
    for name in _PROCESS:
        yield name, Path(f"/proc/{pid}/{name}").read_bytes()
    yield from _files(mounted)


def _files(mounted: Mounted) -> Iterator[tuple[str, bytes]]:
    """Yield what is below the home of a mount: log, cache, state, drafts."""
    for file in sorted(mounted.home.rglob("*")):
        if not file.is_relative_to(mounted.path) and file.is_file():
            yield str(file), file.read_bytes()


def _read(path: Path, *, check: bool = True) -> bytes:
    command = ["cat", str(path)]
    return subprocess.run(command, capture_output=True, timeout=30, check=check).stdout
