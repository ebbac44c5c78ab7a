"""What the root of a mount is: one frozen specification for each kind of source.

Owns the kinds of docs/SEMANTICS.md. Knows not how a source is written on a command line.
"""

from dataclasses import dataclass

from orasfs.oci.reference import Target


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
