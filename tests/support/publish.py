"""Puts artifacts into registries under test, byte for byte.

`Registry` is what both the real docker-registry and the fake one offer to be filled;
`publish_layout` copies an artifact of an OCI image layout into either.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
GOLDEN_LAYOUT = Path(__file__).parent.parent / "golden" / "layout"


class Registry(Protocol):
    """A registry that tests can fill."""

    @property
    def host(self) -> str:
        """`HOST:PORT`."""
        ...

    def put_blob(self, repository: str, content: bytes | Path) -> str:
        """Store a blob; return its digest."""
        ...

    def put_manifest(
        self, repository: str, reference: str, raw: bytes, media_type: str = OCI_MANIFEST
    ) -> str:
        """Store a manifest under a tag or its digest; return its digest."""
        ...


def digest_of(content: bytes | Path) -> str:
    """Return `sha256:…` of bytes or of a file's content."""
    if isinstance(content, bytes):
        return f"sha256:{hashlib.sha256(content).hexdigest()}"
    with content.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def descriptor_of(
    content: bytes | Path, media_type: str = "application/octet-stream", **annotations: str
) -> dict[str, Any]:
    """Return the JSON descriptor of a content; `title=` is short for the title annotation."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    value: dict[str, Any] = {
        "mediaType": media_type,
        "digest": digest_of(content),
        "size": size,
    }
    if "title" in annotations:
        annotations["org.opencontainers.image.title"] = annotations.pop("title")
    if annotations:
        value["annotations"] = annotations
    return value


def manifest_of(*layers: dict[str, Any], **fields: object) -> bytes:
    """Return a manifest with an empty config and these layers; `fields` are added or replace."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.test",
        "config": descriptor_of(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": list(layers),
    }
    return json.dumps(document | fields).encode()


def publish_files(registry: Registry, repository: str, tag: str, **files: bytes) -> str:
    """Push an artifact of raw layers, titles from the keywords; return the manifest's digest."""
    registry.put_blob(repository, b"{}")
    layers = []
    for title, content in files.items():
        registry.put_blob(repository, content)
        layers.append(descriptor_of(content, title=title))
    return registry.put_manifest(repository, tag, manifest_of(*layers))


def layout_tags(layout: Path = GOLDEN_LAYOUT) -> dict[str, dict[str, Any]]:
    """Return the descriptors of a layout's index by tag (by digest where there is no tag)."""
    index = json.loads((layout / "index.json").read_bytes())
    return {
        entry.get("annotations", {}).get(
            "org.opencontainers.image.ref.name", entry["digest"]
        ): entry
        for entry in index["manifests"]
    }


def publish_layout(
    registry: Registry, layout: Path, reference: str, repository: str, *, tag: str | None = None
) -> str:
    """Push what a layout has under a tag or digest, with all it is made of, exactly as it is.

    It is put under `tag`, or under `reference` as it is. Returns the manifest's digest.
    """
    entries = layout_tags(layout)
    by_digest = {entry["digest"]: entry for entry in entries.values()}
    entry = entries.get(reference) or by_digest[reference]
    for child, is_manifest in _below(layout, entry["digest"]):
        path = _blob_path(layout, child["digest"])
        if is_manifest:
            registry.put_manifest(
                repository, child["digest"], path.read_bytes(), child["mediaType"]
            )
        else:
            registry.put_blob(repository, path)
    raw = _blob_path(layout, entry["digest"]).read_bytes()
    return registry.put_manifest(repository, tag or reference, raw, entry["mediaType"])


def _below(layout: Path, digest: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield what a manifest needs, children first: (descriptor, whether it is a manifest)."""
    document = json.loads(_blob_path(layout, digest).read_bytes())
    for child in document.get("manifests") or []:
        yield from _below(layout, child["digest"])
        yield child, True
    config = [document["config"]] if document.get("config") else []
    for blob in [*config, *(document.get("layers") or []), *(document.get("blobs") or [])]:
        yield blob, False


def _blob_path(layout: Path, digest: str) -> Path:
    algorithm, _, hexadecimal = digest.partition(":")
    return layout / "blobs" / algorithm / hexadecimal
