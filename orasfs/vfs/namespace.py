"""What a name means below a registry: the only module that knows; pure.

A *place* is a path below a registry, which may be a namespace, a repository, or both. Owns the
reading of names (docs/SEMANTICS.md: "References are names too", "A name that is both",
"Registries that will not list"). Knows not what a registry really has.
"""

from dataclasses import dataclass, replace

from orasfs.errors import InvalidName
from orasfs.oci.reference import (
    MAX_REPOSITORY_LENGTH,
    Target,
    is_component,
    is_referrers_tag,
    is_repository,
    is_tag,
    qualify,
    split_target,
)

METADATA_NAME = ".oras"
CONTROL_NAME = ".orasfs"
MAX_NAMESPACE_LEVELS = 3
NEVER_VALID_SECONDS = 3600.0  # a name that cannot be valid need not be asked again soon
LAYOUT_PREFIX = "oci:"


@dataclass(frozen=True, slots=True)
class Place:
    """A path below a registry: `path` is "" for the registry itself.

    A layout (`host` is `oci:LABEL`, `path` is "") is one repository and nothing else.
    """

    host: str
    path: str

    @property
    def is_layout(self) -> bool:
        """Whether it is a local image layout."""
        return self.host.startswith(LAYOUT_PREFIX)

    @property
    def may_be_repository(self) -> bool:
        """Whether it can hold tags."""
        return self.is_layout or bool(self.path)

    @property
    def repository(self) -> str:
        """The full name of the repository that this place is, if it is one."""
        return qualify(self.host, self.path) if self.path else ""

    @property
    def levels(self) -> int:
        """How many components the path has."""
        return self.path.count("/") + 1 if self.path else 0

    def child(self, name: str) -> "Place":
        """Return the place of that name below."""
        return replace(self, path=f"{self.path}/{name}" if self.path else name)

    def reference(self, target: Target) -> str:
        """Print the reference of an artifact here."""
        if self.is_layout:
            return f"{self.host}{target}"
        return f"{self.host}/{self.repository}{target}"

    def __str__(self) -> str:
        return f"{self.host}/{self.path}" if self.path else self.host


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata directory of the repository, or of the registry."""


@dataclass(frozen=True, slots=True)
class Targeted:
    """`NAME:TAG`, `NAME@DIGEST`, `:TAG` and so on: an artifact of the repository `place`."""

    place: Place
    target: Target


@dataclass(frozen=True, slots=True)
class Plain:
    """A name without a colon; what it can be at all.

    Attributes:
        may_be_tag: it is a valid tag, in a place that can hold tags.
        may_be_repository: `place/name` is a valid repository name.
        may_be_namespace: it is a directory even if nothing proves it: no dot, and at most three
            levels below the registry.
    """

    name: str
    may_be_tag: bool
    may_be_repository: bool
    may_be_namespace: bool


Meaning = Metadata | Targeted | Plain


def interpret(place: Place, name: str) -> Meaning | None:
    """Return what `name` can mean in `place`; None if nothing can ever have that name."""
    if name == METADATA_NAME:
        return Metadata()  # of the registry too: its last error has to be somewhere
    if ":" in name or "@" in name:
        return _targeted(place, name)
    may_be_repository = _may_be_repository(place, name)
    plain = Plain(
        name,
        may_be_tag=place.may_be_repository and is_tag(name),
        may_be_repository=may_be_repository,
        may_be_namespace=may_be_repository
        and "." not in name
        and place.levels < MAX_NAMESPACE_LEVELS,
    )
    return plain if plain.may_be_tag or plain.may_be_repository else None


def _targeted(place: Place, name: str) -> Targeted | None:
    try:
        repository, target = split_target(name)
    except InvalidName:
        return None
    if not repository:
        return Targeted(place, target) if place.may_be_repository else None
    if not _may_be_repository(place, repository):
        return None
    return Targeted(place.child(repository), target)


def _may_be_repository(place: Place, name: str) -> bool:
    if place.is_layout or not is_component(name):
        return False
    child = place.child(name)
    # The specification's limit is on the host and the name together.
    return is_repository(child.path) and len(str(child)) <= MAX_REPOSITORY_LENGTH


def is_listed_tag(tag: str) -> bool:
    """Tell whether a listing shows the tag: valid, and no referrers' fallback tag."""
    return is_tag(tag) and not is_referrers_tag(tag)


def shadowed(tag: str) -> str:
    """Return the name of a tag whose own name is that of a sub-repository."""
    return f":{tag}"
