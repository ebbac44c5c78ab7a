"""References: registries, repositories, tags and what is written `registry/repository:tag@digest`.

Sources: distribution-spec v1.1 (Pulling manifests: the grammars of name and tag), and the
reference client's registry/reference.go. `docker.io/alpine` is `docker.io/library/alpine`.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

from orasfs.errors import InvalidName
from orasfs.oci.digest import Digest

MAX_REPOSITORY_LENGTH = 255  # of registry and repository together, as distribution enforces

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_NAME_COMPONENT = re.compile(_COMPONENT)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*\.?)(?::(?P<port>[0-9]{1,5}))?",
)
_REFERRERS_TAG = re.compile(r"sha(?:256|512)-[0-9a-f]{64,}")
DOCKER_HUB = "docker.io"


def is_repository(text: str) -> bool:
    """Tell whether `text` is a valid repository name, of one component or more."""
    return len(text) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(text) is not None


def is_component(text: str) -> bool:
    """Tell whether `text` is valid between two slashes of a repository name."""
    return len(text) <= MAX_REPOSITORY_LENGTH and _NAME_COMPONENT.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Tell whether `text` is a valid tag."""
    return _TAG.fullmatch(text) is not None


def is_referrers_tag(text: str) -> bool:
    """Tell whether `text` is a tag of the referrers tag schema (`sha256-<hex>`)."""
    return _REFERRERS_TAG.fullmatch(text) is not None


def parse_registry(text: str) -> str:
    """Return `HOST[:PORT]` in lower case.

    Raises:
        InvalidName: it is no host name or address, or the port is out of range.
    """
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 443) < 65536 or not _is_host(match["host"]):
        raise InvalidName(f"registry {text[:300]!r}: expected HOST or HOST:PORT")
    return text.lower()


def _is_host(text: str) -> bool:
    """Judge what the pattern cannot: lengths (RFC 1035 section 2.3.4) and IPv6 addresses."""
    if text.startswith("["):
        try:
            IPv6Address(text[1:-1])
        except ValueError:
            return False
        return True
    return len(text) <= 253 and all(len(label) <= 63 for label in text.split("."))


def qualify(registry: str, repository: str) -> str:
    """Return the repository's full name: on Docker Hub one component means `library/`."""
    if registry == DOCKER_HUB and "/" not in repository:
        return f"library/{repository}"
    return repository


@dataclass(frozen=True, slots=True)
class Target:
    """What is written after a repository's name: a tag, a digest, or both (the digest decides)."""

    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        return f"{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"


def split_target(text: str) -> tuple[str, Target]:
    """Split `NAME`, `NAME:TAG`, `NAME@DIGEST` or `NAME:TAG@DIGEST` without judging NAME.

    Raises:
        InvalidName: the tag or the digest is not valid.
    """
    name, at, digest_text = text.partition("@")
    digest = Digest.parse(digest_text) if at else None
    name, colon, tag = name.partition(":")
    if colon and not is_tag(tag):
        raise InvalidName(f"tag {tag[:140]!r}: expected [A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}")
    return name, Target(tag if colon else None, digest)


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry/repository[:tag][@digest]`; the repository is its full name on the registry."""

    registry: str
    repository: str
    target: Target

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Parse a reference, in which the registry must be named.

        Raises:
            InvalidName: a part is missing or not valid.
        """
        registry, slash, rest = text.partition("/")
        if not slash:
            raise InvalidName(
                f"reference {text[:300]!r}: expected REGISTRY/REPOSITORY[:TAG][@DIGEST]"
            )
        name, target = split_target(rest)
        registry = parse_registry(registry)
        if not is_repository(name):
            raise InvalidName(
                f"repository {name[:300]!r}: expected lower-case letters, digits and ._-/"
            )
        return cls(registry, qualify(registry, name), target)

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}{self.target}"
