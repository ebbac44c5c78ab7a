"""Manifest bytes as the reference client writes them, from values.

Owns the order of keys, the defaults and the choice between image-spec 1.1 and 1.0. Pure.
Sources: oras-go's pack.go (PackManifest) and the `oras push` command for the defaults it adds;
image-spec v1.1 manifest.md, "Guidelines for Artifact Usage".
INVARIANT: the same values give the same bytes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType

from orasfs.errors import InvalidInput
from orasfs.oci import mediatype
from orasfs.oci.descriptor import (
    ANNOTATION_CREATED,
    EMPTY_JSON,
    EMPTY_JSON_DIGEST,
    Descriptor,
    Platform,
)
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import MAX_MANIFEST_BYTES, Manifest
from orasfs.staging import gojson

UNKNOWN_ARTIFACT = "application/vnd.unknown.artifact.v1"
UNKNOWN_CONFIG = "application/vnd.unknown.config.v1+json"
EMPTY_DESCRIPTOR = Descriptor(mediatype.EMPTY, EMPTY_JSON_DIGEST, len(EMPTY_JSON), data=EMPTY_JSON)

_NOTHING: Mapping[str, str] = MappingProxyType({})
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,]\d+)?(?:Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


class ImageSpec(Enum):
    """The version of the image specification whose form a manifest takes."""

    V1_0 = "v1.0"
    V1_1 = "v1.1"


@dataclass(frozen=True, slots=True)
class ManifestFields:
    """Everything of a manifest but its layers.

    Attributes:
        artifact_type: "" for the reference client's default.
        config: the config blob's descriptor; None for the specification's empty one.
        config_annotations: of the config descriptor; they replace those of `config`.
        annotations: of the manifest; `created` is added unless it is here.
        subject: what the artifact refers to.
        image_spec: None for the reference client's choice: 1.0 if there is a config and no
            artifact type, else 1.1.
    """

    artifact_type: str = ""
    config: Descriptor | None = None
    config_annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    subject: Descriptor | None = None
    image_spec: ImageSpec | None = None


def config_descriptor(content: bytes = EMPTY_JSON, media_type: str = "") -> Descriptor:
    """Return the descriptor of a config blob; of an empty one if only its type is known."""
    return Descriptor(media_type or UNKNOWN_CONFIG, Digest.of(content), len(content))


def build_manifest(
    fields: ManifestFields, layers: Sequence[Descriptor], created_seconds: int
) -> bytes:
    """Return the manifest's bytes.

    Args:
        fields: all but the layers.
        layers: in the order they are to have.
        created_seconds: since the epoch, for the `created` annotation where none is given.

    Raises:
        InvalidInput: a media type or the given `created` is malformed, the 1.0 form is asked for
            with a subject, or the manifest would be over 4 MiB.
    """
    is_old = _image_spec(fields) is ImageSpec.V1_0
    if is_old and fields.subject is not None:
        raise InvalidInput("an artifact that refers to another needs an artifact type: set one")
    check_media_types(fields.artifact_type, fields.config, layers)
    annotations = dict(fields.annotations)
    annotations.setdefault(ANNOTATION_CREATED, format_created(created_seconds))
    check_created(annotations)
    document: dict[str, gojson.Value] = {"schemaVersion": 2, "mediaType": mediatype.OCI_MANIFEST}
    if not is_old:
        document["artifactType"] = fields.artifact_type or UNKNOWN_ARTIFACT
        layers = layers or [EMPTY_DESCRIPTOR]
    document["config"] = descriptor_value(_config(fields, is_old=is_old))
    document["layers"] = [gojson.written(descriptor_value(layer)) for layer in layers]
    if fields.subject is not None:
        document["subject"] = descriptor_value(fields.subject)
    document["annotations"] = gojson.sort_keys(annotations)
    return bounded(gojson.dumps(document))


def _image_spec(fields: ManifestFields) -> ImageSpec:
    if fields.image_spec is not None:
        return fields.image_spec
    has_type_in_config_only = fields.config is not None and not fields.artifact_type
    return ImageSpec.V1_0 if has_type_in_config_only else ImageSpec.V1_1


def _config(fields: ManifestFields, *, is_old: bool) -> Descriptor:
    config = fields.config
    if config is None:
        old = config_descriptor(media_type=fields.artifact_type)
        config = old if is_old else EMPTY_DESCRIPTOR
    return replace(config, annotations=fields.config_annotations)


def bounded(raw: bytes) -> bytes:
    """Return `raw` if registries and clients will take a manifest of its size.

    Raises:
        InvalidInput: it is over 4 MiB.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise InvalidInput(
            f"the manifest would have {len(raw)} bytes, over the limit of {MAX_MANIFEST_BYTES}: "
            "pack directories (user.oras.pack=tar) instead of making every file a layer"
        )
    return raw


def small_blobs(manifest: Manifest) -> Mapping[Digest, bytes]:
    """Return the blobs that the manifest names and holds: they must be pushed all the same."""
    named = [*manifest.layers, *([manifest.config] if manifest.config else [])]
    blobs = {blob.digest: blob.data for blob in named if blob.data is not None}
    if any(blob.digest == EMPTY_JSON_DIGEST for blob in named):
        blobs[EMPTY_JSON_DIGEST] = EMPTY_JSON
    return blobs


def format_created(seconds: int) -> str:
    """Return the RFC 3339 time, in UTC, as the reference client writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_created(annotations: Mapping[str, str]) -> None:
    """Check the `created` annotation, if there is one.

    Raises:
        InvalidInput: it is no RFC 3339 time.
    """
    text = annotations.get(ANNOTATION_CREATED)
    if text is None:
        return
    match = _RFC3339.fullmatch(text)
    try:
        is_valid = match is not None and bool(datetime.fromisoformat(match[1]))
    except ValueError:
        is_valid = False
    if not is_valid:
        raise InvalidInput(
            f"annotation {ANNOTATION_CREATED}: {text[:80]!r} is no RFC 3339 time, "
            "such as 2024-02-29T12:34:56Z"
        )


def check_media_types(
    artifact_type: str, config: Descriptor | None, layers: Sequence[Descriptor]
) -> None:
    """Check the media types, of which an empty artifact type is none.

    Raises:
        InvalidInput: one breaks RFC 6838, section 4.2.
    """
    named = [("artifact type", artifact_type)] if artifact_type else []
    named += [("media type of the config", config.media_type)] if config else []
    named += [(f"media type of {layer.title!r}", layer.media_type) for layer in layers]
    for what, media_type in named:
        if not mediatype.is_valid(media_type):
            raise InvalidInput(f"{what}: {media_type[:300]!r} is no media type such as text/plain")


def descriptor_value(descriptor: Descriptor) -> dict[str, gojson.Value]:
    """Return the descriptor as JSON members, in the order of the reference client's struct."""
    value: dict[str, gojson.Value] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.urls:
        value["urls"] = list(descriptor.urls)
    if descriptor.annotations:
        value["annotations"] = gojson.sort_keys(descriptor.annotations)
    if descriptor.data:
        value["data"] = descriptor.data
    if descriptor.platform is not None:
        value["platform"] = _platform_value(descriptor.platform)
    if descriptor.artifact_type:
        value["artifactType"] = descriptor.artifact_type
    return value


def _platform_value(platform: Platform) -> dict[str, gojson.Value]:
    value: dict[str, gojson.Value] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        value["os.version"] = platform.os_version
    if platform.os_features:
        value["os.features"] = list(platform.os_features)
    if platform.variant:
        value["variant"] = platform.variant
    return value
