"""Namespaces that exist only here: directories made where a registry has none (yet).

Owns their names and one small file, which is replaced whole. INVARIANT: nothing of them ever
leaves the machine.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from orasfs.errors import LocalFailure
from orasfs.staging import localdisk
from orasfs.staging.localdisk import translated

logger = logging.getLogger(__name__)


class LocalNamespaces:
    """Paths below registries.

    Args:
        path: of the file; its directory exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[str, str], None] = {}
        try:
            with translated(str(path)):
                pairs = json.loads(path.read_bytes()) if path.exists() else []
            self._known = {(str(registry), str(below)): None for registry, below in pairs}
        except (LocalFailure, ValueError, TypeError) as error:
            logger.warning("local namespaces are lost path=%s error=%s", path, error)

    def __contains__(self, namespace: object) -> bool:
        return namespace in self._known

    def children(self, registry: str, path: str) -> Sequence[str]:
        """Return the names directly below a path."""
        found = []
        for host, known in self._known:
            above, _, name = known.rpartition("/")
            if (host, above) == (registry, path):
                found.append(name)
        return sorted(found)

    def add(self, registry: str, path: str) -> None:
        """Make one.

        Raises:
            StorageFull: the disk is full.
        """
        self._replace({**self._known, (registry, path): None})

    def remove(self, registry: str, path: str) -> None:
        """Remove one."""
        self._replace({key: None for key in self._known if key != (registry, path)})

    def _replace(self, known: dict[tuple[str, str], None]) -> None:
        text = json.dumps([list(key) for key in known], indent=2)
        localdisk.replace_file(self._path, f"{text}\n".encode())
        self._known = known
