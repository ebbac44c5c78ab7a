"""Media types that the project must tell apart, and the rules for those it need not.

Source: image-spec v1.1 media-types.md, Docker image manifest version 2 schema 2, and the reference
client's content/descriptor.go for the removed artifact manifest.
"""

import re

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT_MANIFEST = (
    "application/vnd.oci.artifact.manifest.v1+json"  # removed in 1.1, still read
)
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"

MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGE_CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

# The order of the reference client's default Accept header.
ACCEPTED = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, OCI_ARTIFACT_MANIFEST)

_TAR_TYPE = re.compile(
    r"application/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar(\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs(\.foreign)?\.diff\.tar(\.gzip|\.zstd)?)",
)
_NONDISTRIBUTABLE = re.compile(
    r"application/vnd\.(oci\.image\.layer\.nondistributable\.v1\.tar(\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.foreign\.diff\.tar(\.gzip)?)",
)
_VALID = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)


def is_image_layer(media_type: str) -> bool:
    """Tell whether `media_type` is one of the layer types of a container image."""
    return _TAR_TYPE.fullmatch(media_type) is not None


def is_nondistributable(media_type: str) -> bool:
    """Tell whether a layer of `media_type` is not pushed: it stays at the URLs that it names.

    Source: image-spec v1.1 layer.md, Non-Distributable Layers; oras-go's IsForeignLayer.
    """
    return _NONDISTRIBUTABLE.fullmatch(media_type) is not None


def is_valid(media_type: str) -> bool:
    """Tell whether `media_type` follows RFC 6838 section 4.2, as image-spec requires."""
    return _VALID.fullmatch(media_type) is not None


def strip_parameters(content_type: str) -> str:
    """Return the media type of a Content-Type header, without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()
