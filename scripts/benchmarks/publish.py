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
_TITLE = "org.opencontainers.image.title"
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
    layer = _layer(blob, "application/vnd.oci.image.layer.v1.tar", {_TITLE: title})
    return _publish(registry, Published(registry.host, repository, tag), blob, layer)


def publish_packed(
    registry: DockerRegistry, repository: str, tag: str, packed: Packed
) -> Published:
    """Publish an artifact with one packed directory, titled as the tree is named."""
    annotations = {
        "io.deis.oras.content.digest": packed.tar_digest,
        "io.deis.oras.content.unpack": "true",
        _TITLE: packed.directory.name,
    }
    layer = _layer(packed.blob, "application/vnd.oci.image.layer.v1.tar+gzip", annotations)
    return _publish(registry, Published(registry.host, repository, tag), packed.blob, layer)


def _layer(blob: Blob, media_type: str, annotations: Mapping[str, str]) -> dict[str, object]:
    return {
        "mediaType": media_type,
        "digest": blob.digest,
        "size": blob.size,
        "annotations": dict(annotations),
    }


def _publish(
    registry: DockerRegistry, place: Published, blob: Blob, layer: Mapping[str, object]
) -> Published:
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
    registry.put_blob(place.repository, blob.path)
    raw = json.dumps(manifest, separators=(",", ":")).encode()
    registry.put_manifest(place.repository, place.tag, raw)
    return place
