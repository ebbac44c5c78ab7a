"""SOURCE: what a mount shows, from the word on the command line or in /etc/fstab.

Owns the grammar of section 1 of the interface. Looks at the local disk (which layouts exist),
never at the network: mounting needs no registry to be up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import platformdirs

from orasfs.errors import InvalidName
from orasfs.oci.reference import Reference, Target, is_repository, parse_registry, split_target
from orasfs.vfs.root import (
    ArtifactRoot,
    LayoutRoot,
    LayoutsRoot,
    NamespaceRoot,
    RegistriesRoot,
    RegistryRoot,
    RootSpecification,
)

LAYOUT_PREFIX = "oci:"
LAYOUT_FILE = "oci-layout"  # image-spec v1.1 image-layout.md
ALL_REGISTRIES = "registries"
DEFAULT_WORDS = frozenset({"", "none"})  # what fstab has where there is no device


@dataclass(frozen=True, slots=True)
class MountSource:
    """A parsed SOURCE.

    Attributes:
        text: the canonical form, with an absolute path in it; it parses to the same again.
        root: what the mount's root directory is.
        layouts: the directory of the one layout of a LayoutRoot, by its label.
        local: where the layouts of a LayoutsRoot are, which may come and go.
    """

    text: str
    root: RootSpecification
    layouts: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    local: Path | None = None


def default_local() -> Path:
    """Return the directory of the embedded repositories: `$XDG_DATA_HOME/orasfs/local`."""
    return platformdirs.user_data_path("orasfs") / "local"


def parse_source(text: str | None, *, local: Path) -> MountSource:
    """Parse SOURCE; None, "" and "none" are the embedded repositories in `local`.

    Raises:
        InvalidName: it is none of the forms, or names a local layout that is not there.
    """
    if text is None or text in DEFAULT_WORDS:
        return MountSource("none", LayoutsRoot(), local=local)
    if text == ALL_REGISTRIES:
        return MountSource(text, RegistriesRoot())
    if text.startswith(LAYOUT_PREFIX):
        return _layout(text.removeprefix(LAYOUT_PREFIX))
    if "://" in text:
        raise InvalidName(f"source {text[:300]!r}: write it without {text.partition('://')[0]}://")
    if text.startswith((".", "/", "~")):
        raise InvalidName(f"source {text[:300]!r}: a local image layout is written oci:{text}")
    return _remote(text)


def _remote(text: str) -> MountSource:
    host, _, rest = text.partition("/")
    path = rest.rstrip("/")
    registry = parse_registry(host)
    if not path:
        return MountSource(registry, RegistryRoot(registry))
    if ":" in path or "@" in path:
        reference = Reference.parse(f"{registry}/{path}")
        artifact = ArtifactRoot(registry, reference.repository, reference.target)
        return MountSource(str(reference), artifact)
    if not is_repository(path):
        raise InvalidName(
            f"repository {path[:300]!r}: expected lower-case letters, digits and ._-/"
        )
    return MountSource(f"{registry}/{path}", NamespaceRoot(registry, path))


def _layout(text: str) -> MountSource:
    """Split `PATH[:TAG][@DIGEST]`; PATH may have colons in it, so the longest that exists wins."""
    ends = [len(text), *(at for at in range(len(text) - 1, 0, -1) if text[at] in ":@")]
    for end in ends:
        path = Path(text[:end]).expanduser().resolve()
        if path.is_dir():
            return _layout_at(path, text[end:])
    raise InvalidName(f"source 'oci:{text[:300]}': there is no such directory")


def _layout_at(path: Path, suffix: str) -> MountSource:
    if not (path / LAYOUT_FILE).is_file():
        raise InvalidName(f"{path}: not an OCI image layout: it has no file {LAYOUT_FILE}")
    _, target = split_target(suffix)
    label = str(path)
    root = LayoutRoot(label, target if target != Target() else None)
    return MountSource(f"{LAYOUT_PREFIX}{path}{target}", root, {label: path})


def find_layouts(local: Path) -> Mapping[str, Path]:
    """Return the layouts among the directories of `local`, by name; none if it is not there."""
    try:
        candidates = sorted(local.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {path.name: path for path in candidates if (path / LAYOUT_FILE).is_file()}
