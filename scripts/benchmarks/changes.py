"""Which files of a directory are others in its second version, and how that is checked."""

import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path

from scripts.benchmarks.case import VerificationFailed
from tests.support.docker_registry import DockerRegistry
from tests.support.publish import OCI_MANIFEST

CHANGED_OF = 50  # one file of so many
_ADDED = b"changed in the second version\n"


class Changes:
    """One of fifty files with a line in front.

    Args:
        root: the first version.
        directory: an empty one, for what is changed.
        files: all of the first version.

    Attributes:
        changed: which are others, seen from the root.
    """

    def __init__(self, root: Path, directory: Path, files: Sequence[Path]) -> None:
        self._root = root
        self._directory = directory
        self._same = files[1].relative_to(root)
        self.changed = [path.relative_to(root) for path in files[::CHANGED_OF]]
        for path in self.changed:
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_ADDED + (root / path).read_bytes())

    def copy_to(self, target: Path) -> None:
        """Write what is changed over the first version."""
        for path in self.changed:
            shutil.copyfile(self._directory / path, target / path)

    def verify(self, shown: Path) -> None:
        """Compare what is changed, and a file that is not.

        Raises:
            VerificationFailed: one is another.
        """
        expected = [(path, self._directory / path) for path in self.changed]
        expected.append((self._same, self._root / self._same))
        for path, right in expected:
            if not filecmp.cmp(shown / path, right, shallow=False):
                raise VerificationFailed(f"{path} is another in the second version")


def manifest_of(registry: DockerRegistry, repository: str, tag: str) -> bytes:
    """Return a manifest's bytes.

    Raises:
        VerificationFailed: the registry has none.
    """
    path = f"/v2/{repository}/manifests/{tag}"
    status, _, raw = registry.request("GET", path, headers={"Accept": OCI_MANIFEST})
    if status != 200:
        raise VerificationFailed(f"the registry has no {repository}:{tag}: {status}")
    return raw
