"""Descriptors: what a piece of content is, without the content.

Source: image-spec v1.1 descriptor.md and image-index.md (platform).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orasfs.oci.digest import Digest

ANNOTATION_TITLE = "org.opencontainers.image.title"
ANNOTATION_CREATED = "org.opencontainers.image.created"
ANNOTATION_ARTIFACT_CREATED = "org.opencontainers.artifact.created"
ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_UNPACK = "io.deis.oras.content.unpack"
ANNOTATION_CONTENT_DIGEST = "io.deis.oras.content.digest"
ANNOTATION_MODE = "io.orasfs.mode"
ANNOTATION_INDEX = "io.orasfs.layer.index"  # the digest of the index that is published of a layer

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform of a child of an index; empty strings where the index says nothing."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether it names a real platform (attestations say unknown/unknown)."""
        return bool(self.os and self.architecture) and "unknown" not in (
            self.os,
            self.architecture,
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size in bytes of content, and what else its referrer said of it."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    urls: tuple[str, ...] = ()
    data: bytes | None = None
    platform: Platform | None = None
    artifact_type: str = ""

    @property
    def title(self) -> str:
        """The title annotation, "" where there is none."""
        return self.annotations.get(ANNOTATION_TITLE, "")

    @property
    def is_packed_directory(self) -> bool:
        """Whether the reference client would unpack it (the annotation alone decides)."""
        return self.annotations.get(ANNOTATION_UNPACK) == "true"


EMPTY_JSON = b"{}"
EMPTY_JSON_DIGEST = Digest.of(EMPTY_JSON)
