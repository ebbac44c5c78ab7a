"""`orasfs login` and `logout`, behind their words: is a credential good, and where is it kept."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import trio

from orasfs.daemon.config import MountConfig
from orasfs.daemon.connect import connector
from orasfs.daemon.ping import ask_once
from orasfs.daemon.secrets import MountSecrets
from orasfs.registry import login
from orasfs.registry.credential import Credential
from orasfs.registry.credentials import credential_files
from orasfs.vfs.root import RegistryRoot

VERIFY_SECONDS = 30.0


def log_in(host: str, secrets: MountSecrets, config: MountConfig) -> str:
    """Verify credentials with the registry, then keep them; return where, in words.

    Args:
        host: `HOST[:PORT]` in lower case.
        secrets: with a credential.
        config: for trust and credential files; nothing else of it is used.

    Raises:
        CredentialsRejected: the registry does not take them; nothing is kept.
        CredentialsUnusable: they cannot be kept.
        OrasfsError: the registry could not be asked.
    """
    trio.run(_verify, host, dataclasses.replace(config, secrets=secrets))
    credential = Credential(secrets.username, secrets.password, secrets.identity_token)
    return login.store(_file(config.credential_files), host, credential)


def log_out(host: str, chosen: Sequence[Path]) -> bool:
    """Forget the credentials of a registry; tell whether there were any.

    Raises:
        CredentialsUnusable: the file or the store cannot be changed.
    """
    return login.remove(_file(chosen), host)


def _file(chosen: Sequence[Path]) -> Path:
    return credential_files(chosen, os.environ, Path.home())[0]


async def _verify(host: str, config: MountConfig) -> None:
    await ask_once(connector(config, RegistryRoot(host))(host), host, VERIFY_SECONDS)
