"""Which registries the user has credentials for: their names, and nothing else of those files.

Owns the places and the shape of the credential files of docker, podman and the reference client.
INVARIANT: no secret is kept or logged; of an entry only its key is looked at.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from orasfs.errors import InvalidName
from orasfs.oci.reference import DOCKER_HUB, parse_registry

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 4 * 1024 * 1024
_DOCKER_HUB_KEYS = frozenset({"index.docker.io", "registry-1.docker.io"})


def credential_files(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return where credentials may be, whether or not a file is there."""
    docker = environ.get("DOCKER_CONFIG")
    places = [(Path(docker) if docker else home / ".docker") / "config.json"]
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        places.append(Path(runtime) / "containers/auth.json")
    config = environ.get("XDG_CONFIG_HOME")
    places.append((Path(config) if config else home / ".config") / "containers/auth.json")
    return tuple(places)


def known_hosts(
    environ: Mapping[str, str] | None = None, home: Path | None = None
) -> tuple[str, ...]:
    """Return the registries named in the user's credential files, sorted, each once."""
    files = credential_files(os.environ if environ is None else environ, home or Path.home())
    return tuple(sorted({host for path in files for host in _hosts_in(path)}))


def _hosts_in(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(MAX_FILE_BYTES))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        logger.warning("credential file not read path=%s error=%s", path, type(error).__name__)
        return
    if not isinstance(document, dict):
        return
    for section in ("auths", "credHelpers"):
        entries = document.get(section)
        for key in entries if isinstance(entries, dict) else ():
            host = _host_of(key)
            if host:
                yield host


def _host_of(key: str) -> str:
    """Reduce a key, which may have a scheme and a path, to its host; "" if it has none."""
    bare = key.partition("://")[2] or key
    host = bare.partition("/")[0]
    if host in _DOCKER_HUB_KEYS:
        return DOCKER_HUB
    try:
        return parse_registry(host)
    except InvalidName:
        return ""
