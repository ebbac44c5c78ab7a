"""The texts in `.oras`: descriptor, annotations, errors; pure.

Owns their formats (docs/SEMANTICS.md). Knows parsed manifests, not where they are from.
"""

import json
from collections.abc import Mapping

from orasfs.oci.descriptor import ANNOTATION_TITLE, Descriptor
from orasfs.oci.manifest import Index, Manifest


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)
    return f"{text}\n".encode("utf-8", "replace")


def descriptor_json(descriptor: Descriptor, document: Manifest | Index | None) -> bytes:
    """Print the descriptor, with artifact type and annotations of the manifest if it is known."""
    found: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    artifact_type = document.artifact_type if document else descriptor.artifact_type
    annotations = document.annotations if document else descriptor.annotations
    if artifact_type:
        found["artifactType"] = artifact_type
    if annotations:
        found["annotations"] = dict(annotations)
    if descriptor.platform is not None:
        platform = descriptor.platform
        fields = {
            "architecture": platform.architecture,
            "os": platform.os,
            "variant": platform.variant,
            "os.version": platform.os_version,
            "os.features": list(platform.os_features),
        }
        found["platform"] = {name: value for name, value in fields.items() if value}
    return _json(found)


def annotations_json(document: Manifest | Index) -> bytes:
    """Print the annotations in the reference client's annotation-file format.

    `$manifest`, `$config`, and each titled layer by its title, without the title itself.
    """
    found: dict[str, Mapping[str, str]] = {"$manifest": dict(document.annotations)}
    if isinstance(document, Manifest):
        if document.config is not None:
            found["$config"] = dict(document.config.annotations)
        for layer in document.layers:
            if layer.title:
                found[layer.title] = {
                    key: value
                    for key, value in layer.annotations.items()
                    if key != ANNOTATION_TITLE
                }
    return _json({name: annotations for name, annotations in found.items() if annotations})


def error_text(last: str, problems: tuple[str, ...]) -> bytes:
    """Print the last error, and what of the artifact was refused or hidden; empty if nothing."""
    lines = "".join(f"{problem}\n" for problem in problems)
    return (last + lines).encode("utf-8", "replace")


def blobs_of(document: Manifest | Index) -> tuple[Descriptor, ...]:
    """Return the blobs of a manifest, each once: its config and all layers."""
    if isinstance(document, Index):
        return ()
    everything = (*((document.config,) if document.config else ()), *document.layers)
    return tuple({each.digest: each for each in everything}.values())
