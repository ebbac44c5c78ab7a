"""The credential files of docker, podman and the reference client, as values.

Owns their shape, and which entry is meant for a repository. Pure: reads no file and runs no
helper.

Sources: oras-go v2 registry/remote/credentials (config.go, internal/config), docker/cli
cli/config/configfile, containers/image containers-auth.json(5) for the keys of namespaces.
INVARIANT: no message has more of an entry in it than its key.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orasfs.errors import InvalidContent
from orasfs.oci.reference import DOCKER_HUB
from orasfs.registry.credential import Credential

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_LEGACY_PATHS = frozenset({"", "v1", "v2"})


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """A parsed file.

    Attributes:
        auths: the entries by key, as written.
        helpers: names of credential helpers, by host or namespace.
        store: the name of the helper for all other hosts, "" for none.
    """

    auths: Mapping[str, Mapping[str, Any]]
    helpers: Mapping[str, str]
    store: str = ""


def parse_config(raw: bytes) -> DockerConfig:
    """Parse a file; an empty one has no credentials in it.

    Raises:
        InvalidContent: it is no JSON object, or a section is of the wrong kind.
    """
    if not raw.strip():
        return DockerConfig({}, {})
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidContent("not valid JSON") from error
    if not isinstance(document, dict):
        raise InvalidContent("not a JSON object")
    auths = _section(document, "auths")
    helpers = _section(document, "credHelpers")
    store = document.get("credsStore") or ""
    if not isinstance(store, str):
        raise InvalidContent("credsStore is not a name")
    return DockerConfig(
        {key: entry for key, entry in auths.items() if isinstance(entry, dict)},
        {key: name for key, name in helpers.items() if isinstance(name, str) and name},
        store,
    )


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name)
    if section is None:  # null is what some tools write for an empty one
        return {}
    if not isinstance(section, dict):
        raise InvalidContent(f"{name} is not a JSON object")
    return section


def helper_for(config: DockerConfig, host: str, repository: str) -> str:
    """Return the name of the helper that is asked, "" where the file itself has the entry."""
    for key in _candidates(host, repository):
        if key in config.helpers:
            return config.helpers[key]
    return config.store


def helper_address(host: str) -> str:
    """Return what a helper is asked for: Docker Hub is stored under an address of its own."""
    return DOCKER_HUB_KEY if host in _DOCKER_HUB_HOSTS else host


def credential_in(config: DockerConfig, host: str, repository: str) -> Credential | None:
    """Return the credential of the entry for a repository; entries without one are passed over.

    The longest key of a namespace wins (podman); then the host itself, then the first key that is
    the host when its scheme and path are taken off (docker's old ones).

    Raises:
        InvalidContent: the entry cannot be decoded; names its key.
    """
    for key in _matching_keys(config, host, repository):
        found = _credential(key, config.auths[key])
        if found is not None:
            return found
    return None


def _matching_keys(config: DockerConfig, host: str, repository: str) -> Iterator[str]:
    exact = [key for key in _candidates(host, repository) if key in config.auths]
    yield from exact
    names = _DOCKER_HUB_HOSTS if host in _DOCKER_HUB_HOSTS else {host}
    for key in config.auths:
        if key not in exact and _host_of(key) in names:
            yield key


def _candidates(host: str, repository: str) -> Iterator[str]:
    """Yield the keys that may be meant, the most particular first."""
    path = repository
    while path:
        yield f"{host}/{path}"
        path = path.rpartition("/")[0]
    yield host
    if host in _DOCKER_HUB_HOSTS:
        yield DOCKER_HUB_KEY


def _host_of(key: str) -> str:
    """Reduce a key to its host; "" for one that names a namespace."""
    _, has_scheme, rest = key.rpartition("://")
    name, _, path = rest.partition("/")
    if not has_scheme and path.strip("/") not in _LEGACY_PATHS:
        return ""
    return name.lower()


def _credential(key: str, entry: Mapping[str, Any]) -> Credential | None:
    username, password = _text(entry, "username"), _text(entry, "password")
    if _text(entry, "auth"):
        username, password = _decode(key, _text(entry, "auth"))
    found = Credential(
        username, password, _text(entry, "identitytoken"), _text(entry, "registrytoken")
    )
    is_empty = found == Credential(username=found.username)  # a name alone opens nothing
    return None if is_empty else found


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _decode(key: str, auth: str) -> tuple[str, str]:
    """Decode base64 of `USER:PASSWORD`; docker once padded passwords with NUL."""
    try:
        pair = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidContent(f"auths[{key!r}].auth is not base64 of text") from error
    username, colon, password = pair.partition(":")
    if not colon:
        raise InvalidContent(f"auths[{key!r}].auth is not USER:PASSWORD")
    return username, password.strip("\0")
