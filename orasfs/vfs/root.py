"""What the root of a mount is: one frozen specification for each kind of source.

Owns the kinds of docs/SEMANTICS.md. Knows not how a source is written on a command line.
"""

from dataclasses import dataclass

from orasfs.oci.reference import Target
from orasfs.vfs.namespace import LAYOUT_PREFIX


@dataclass(frozen=True, slots=True)
class RegistriesRoot:
    """One directory for each registry."""


@dataclass(frozen=True, slots=True)
class RegistryRoot:
    """One registry, `HOST[:PORT]` in lower case."""

    host: str


@dataclass(frozen=True, slots=True)
class NamespaceRoot:
    """One namespace or repository of a registry."""

    host: str
    path: str


@dataclass(frozen=True, slots=True)
class ArtifactRoot:
    """One artifact; a tag is resolved once, since a root directory cannot be replaced."""

    host: str
    repository: str
    target: Target


@dataclass(frozen=True, slots=True)
class LayoutRoot:
    """A local image layout, reached as registry `oci:LABEL`; with a target one artifact of it."""

    label: str
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class LayoutsRoot:
    """One repository for each of the local layouts that `Registries.known` names."""


RootSpecification = (
    RegistriesRoot | RegistryRoot | NamespaceRoot | ArtifactRoot | LayoutRoot | LayoutsRoot
)


def reaches(root: RootSpecification, registry: str, repository: str) -> bool:
    """Tell whether a repository is at or below the root, so that a draft of it has a place there.

    Args:
        root: what is mounted.
        registry: `HOST[:PORT]`, or `oci:LABEL`.
        repository: the path below the registry; "" for a layout.
    """
    is_layout = registry.startswith(LAYOUT_PREFIX)
    match root:
        case RegistriesRoot():
            return not is_layout
        case RegistryRoot(host):
            return registry == host
        case NamespaceRoot(host, path):
            return registry == host and f"{repository}/".startswith(f"{path}/")
        case LayoutRoot(label, target):
            return target is None and registry == f"{LAYOUT_PREFIX}{label}"
        case LayoutsRoot():  # whose labels are names, and those of other layouts paths
            return is_layout and "/" not in registry
        case ArtifactRoot():
            return False
