"""Publishes the benchmark's data to a registry, as `oras push` with the same arguments would.

Uses the tests' docker-registry, which speaks the distribution API by http.client: the benchmark
does not publish with the client that it measures.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from scripts.benchmarks.data import Blob, Packed
from tests.support.docker_registry import DockerRegistry
from tests.support.publish import OCI_MANIFEST, digest_of

_EMPTY = b"{}"
TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
_CREATED = "2024-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Published:
    """An artifact in a registry; `host` is `HOST:PORT`."""

    host: str
    repository: str
    tag: str

    @property
    def reference(self) -> str:
        """What one pulls: `HOST:PORT/REPOSITORY:TAG`."""
        return f"{self.host}/{self.repository}:{self.tag}"

    def blob_url(self, digest: str) -> str:
        """Where a plain HTTP client downloads a blob."""
        return f"http://{self.host}/v2/{self.repository}/blobs/{digest}"


def publish_file(
    registry: DockerRegistry, repository: str, tag: str, title: str, blob: Blob
) -> Published:
    """Publish an artifact with one raw layer."""
    registry.put_blob(repository, blob.path)
    return put(registry, Published(registry.host, repository, tag), raw_layer(blob, title))


def publish_packed(
    registry: DockerRegistry, repository: str, tag: str, packed: Packed
) -> Published:
    """Publish an artifact with one packed directory, titled as the tree is named."""
    layer = packed_layer(packed.blob, packed.directory.name, packed.tar_digest)
    registry.put_blob(repository, packed.blob.path)
    return put(registry, Published(registry.host, repository, tag), layer)


def publish_blob(
    registry: DockerRegistry, repository: str, tag: str, title: str, blob: Blob, tar_digest: str
) -> Published:
    """Publish an artifact with one packed directory, of which only the tar+gzip is there."""
    registry.put_blob(repository, blob.path)
    place = Published(registry.host, repository, tag)
    return put(registry, place, packed_layer(blob, title, tar_digest))


def raw_layer(blob: Blob, title: str) -> Mapping[str, object]:
    """Return the descriptor of a file."""
    return _layer(blob, "application/vnd.oci.image.layer.v1.tar", {TITLE: title})


def packed_layer(blob: Blob, title: str, tar_digest: str | None = None) -> Mapping[str, object]:
    """Return the descriptor of a packed directory."""
    annotations = {"io.deis.oras.content.digest": tar_digest} if tar_digest else {}
    annotations |= {UNPACK: "true", TITLE: title}
    return _layer(blob, "application/vnd.oci.image.layer.v1.tar+gzip", annotations)


def _layer(blob: Blob, media_type: str, annotations: Mapping[str, str]) -> dict[str, object]:
    return {
        "mediaType": media_type,
        "digest": blob.digest,
        "size": blob.size,
        "annotations": dict(annotations),
    }


def put(registry: DockerRegistry, place: Published, layer: Mapping[str, object]) -> Published:
    """Put the manifest of an artifact whose one layer the registry has, and its config."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.unknown.artifact.v1",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest_of(_EMPTY),
            "size": len(_EMPTY),
            "data": "e30=",
        },
        "layers": [layer],
        "annotations": {"org.opencontainers.image.created": _CREATED},
    }
    registry.put_blob(place.repository, _EMPTY)
    raw = json.dumps(manifest, separators=(",", ":")).encode()
    registry.put_manifest(place.repository, place.tag, raw)
    return place
