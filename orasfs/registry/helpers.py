"""Credential helpers: programs that keep the user's secrets (docker-credential-helpers).

Owns their protocol: `docker-credential-NAME get|store|erase`, an address or JSON on stdin, JSON
on stdout. Blocking, for worker threads. INVARIANT: a call ends within its deadline, and what a
helper printed with success is in no message.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import Any

from orasfs.errors import CredentialsUnusable
from orasfs.registry.credential import Credential

HELPER_SECONDS = 15.0
_PREFIX = "docker-credential-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ABSENT = (
    "credentials not found in native keychain"  # docker-credential-helpers: credentials/error.go
)
_TOKEN_USER = "<token>"  # noqa: S105 - the name that says that the secret is a refresh token
_MAX_WORDS = 200


def get_credential(name: str, address: str, seconds: float = HELPER_SECONDS) -> Credential | None:
    """Ask the helper for the credential of an address; None if it says that it has none.

    Raises:
        CredentialsUnusable: there is no such helper, it failed, or it did not end in time.
    """
    output = _run(name, "get", address.encode(), seconds)
    if output is None:
        return None
    try:
        document: Any = json.loads(output)
        username, secret = document["Username"], document["Secret"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise CredentialsUnusable(f"{_PREFIX}{name}: answers with something else") from error
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsUnusable(f"{_PREFIX}{name}: answers with something else")
    origin = f"{_PREFIX}{name}"
    if username == _TOKEN_USER:
        return Credential(identity_token=secret, origin=origin) if secret else None
    return Credential(username, secret, origin=origin) if username and secret else None


def store_credential(
    name: str, address: str, credential: Credential, seconds: float = HELPER_SECONDS
) -> None:
    """Have the helper keep a credential.

    Raises:
        CredentialsUnusable: it cannot, or did not end in time.
    """
    username, secret = credential.username, credential.password
    if credential.identity_token:
        username, secret = _TOKEN_USER, credential.identity_token
    document = {"ServerURL": address, "Username": username, "Secret": secret}
    _run(name, "store", json.dumps(document).encode(), seconds)


def erase_credential(name: str, address: str, seconds: float = HELPER_SECONDS) -> None:
    """Have the helper forget a credential; harmless if it has none.

    Raises:
        CredentialsUnusable: it cannot, or did not end in time.
    """
    _run(name, "erase", address.encode(), seconds)


def is_installed(name: str) -> bool:
    """Tell whether there is such a helper."""
    return _find(name) is not None


def _find(name: str) -> str | None:
    return shutil.which(f"{_PREFIX}{name}") if _NAME.fullmatch(name) else None


def _run(name: str, verb: str, question: bytes, seconds: float) -> bytes | None:
    """Run a helper; return what it printed, None if it knows of no such credential."""
    program = _find(name)
    if program is None:
        raise CredentialsUnusable(f"credential helper {_PREFIX}{name[:100]}: not installed")
    try:
        process = subprocess.Popen(  # noqa: S603 - the program that the user configured
            [program, verb],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that its children can be ended with it
        )
    except OSError as error:
        raise CredentialsUnusable(f"{program}: {error.strerror}") from error
    with process:
        try:
            output, _ = process.communicate(question, seconds)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise CredentialsUnusable(
                f"{program}: no answer within {seconds:g} seconds"
            ) from error
    if process.returncode == 0:
        return output
    words = " ".join(output.decode("utf-8", "replace").split())[:_MAX_WORDS]
    if _ABSENT in words:
        return None
    raise CredentialsUnusable(f"{program} {verb}: {words or f'status {process.returncode}'}")
