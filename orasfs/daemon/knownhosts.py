"""Which registries the user has credentials for: their names, and nothing else of those files.

Owns which names those files give to SOURCE `registries`; where they are, and what else is in them,
is `orasfs.registry.credentials`' business.
INVARIANT: no secret is kept or logged; of an entry only its key is looked at.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orasfs.errors import InvalidName
from orasfs.oci.reference import DOCKER_HUB, parse_registry
from orasfs.registry.credentials import MAX_FILE_BYTES, credential_files

logger = logging.getLogger(__name__)

_DOCKER_HUB_KEYS = frozenset({"index.docker.io", "registry-1.docker.io"})


def known_hosts(
    chosen: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> tuple[str, ...]:
    """Return the registries named in the user's credential files, sorted, each once.

    Args:
        chosen: the files to look into, instead of those in their usual places.
        environ: of the process; for tests.
        home: of the user; for tests.
    """
    environ = os.environ if environ is None else environ
    files = credential_files(chosen, environ, home or Path.home())
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
