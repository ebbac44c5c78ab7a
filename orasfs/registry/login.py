"""Keeping credentials: `login` and `logout` change the file that docker and `oras` read too.

Owns the writing of credential files. Blocking; reads and writes local files, runs helpers.

INVARIANT: a file is replaced whole or not at all, is the user's alone (0600), and what is in it
that is not ours stays as it is.
"""

import base64
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orasfs.errors import CredentialsUnusable, InvalidContent
from orasfs.registry import dockerconfig, helpers
from orasfs.registry.credential import Credential


def store(path: Path, host: str, credential: Credential) -> str:
    """Keep a credential, in the store that the file names for the host, else in the file.

    Returns:
        Where it is kept, in words.

    Raises:
        CredentialsUnusable: the file is broken or cannot be written, or the store refuses.
    """
    document = _read(path)
    address = dockerconfig.helper_address(host)
    helper = _helper(path, document, host)
    auths = _auths(document)
    if helper:
        helpers.store_credential(helper, address, credential)
        auths[address] = {}  # tells docker and us which hosts the store has
        where = f"docker-credential-{helper}"
    else:
        auths[address] = _entry(credential)
        where = f"{path}, not encrypted"
    _write(path, {**document, "auths": auths})
    return where


def remove(path: Path, host: str) -> bool:
    """Forget the credential of a host; tell whether there was one.

    Raises:
        CredentialsUnusable: see `store`.
    """
    document = _read(path)
    address = dockerconfig.helper_address(host)
    helper = _helper(path, document, host)
    had = False
    if helper:
        had = helpers.get_credential(helper, address) is not None
        helpers.erase_credential(helper, address)
    auths = _auths(document)
    kept = {key: entry for key, entry in auths.items() if key not in (address, host)}
    if kept == auths:
        return had
    _write(path, {**document, "auths": kept})
    return had or not helper


def _entry(credential: Credential) -> dict[str, str]:
    if credential.identity_token:
        return {"identitytoken": credential.identity_token}
    pair = f"{credential.username}:{credential.password}".encode()
    return {"auth": base64.b64encode(pair).decode("ascii")}


def _auths(document: Mapping[str, Any]) -> dict[str, Any]:
    return dict(document.get("auths") or {})


def _helper(path: Path, document: Mapping[str, Any], host: str) -> str:
    try:
        config = dockerconfig.parse_config(json.dumps(document).encode())
    except InvalidContent as error:
        raise CredentialsUnusable(f"{path}: {error}") from error
    return dockerconfig.helper_for(config, host, "")


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CredentialsUnusable(f"{path}: {error.strerror}") from error
    try:
        document = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise CredentialsUnusable(f"{path}: not valid JSON; it was left as it is") from error
    if not isinstance(document, dict):
        raise CredentialsUnusable(f"{path}: not a JSON object; it was left as it is")
    return document


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the file, or the one that it is a symbolic link to."""
    target = Path(os.path.realpath(path))
    text = json.dumps(document, indent="\t", ensure_ascii=False) + "\n"
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{target.name}.", dir=target.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise CredentialsUnusable(f"{path}: {error.strerror}") from error
