"""Edits a manifest: what is not changed stays as its author wrote it.

Owns the change of some layers, annotations or types of an existing document, of which the rest,
unknown fields too, is kept. Works on the JSON, not on the parsed `Manifest`, which drops what it
does not know. Pure.
INVARIANT: an edit that changes nothing returns the very bytes, so the digest stays.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from orasfs.errors import InvalidContent
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.manifest import Manifest
from orasfs.staging import gojson
from orasfs.staging.manifest import (
    EMPTY_DESCRIPTOR,
    bounded,
    check_created,
    check_media_types,
    descriptor_value,
)

_Object = dict[str, gojson.Value]

# The order of image-spec's Go struct, into which a field that was missing is put.
_FIELD_ORDER = (
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "subject",
    "annotations",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """A layer of the base that stays where it is, by its ordinal.

    Attributes:
        ordinal: of the layer in the base manifest.
        media_type: another media type for it, "" for the one it has.
        annotations: those that are added or get another value.
    """

    ordinal: int
    media_type: str = ""
    annotations: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )


@dataclass(frozen=True, slots=True)
class ManifestChanges:
    """What is to be another than in the base; None where it stays.

    Attributes:
        artifact_type: "" removes it.
        config: the descriptor of another config blob.
        annotations: all annotations of the manifest.
    """

    artifact_type: str | None = None
    config: Descriptor | None = None
    annotations: Mapping[str, str] | None = field(default=None, hash=False)


def edit_manifest(
    base: Manifest, layers: Sequence[KeptLayer | Descriptor], changes: ManifestChanges
) -> bytes:
    """Return the bytes of `base` with these layers and changes.

    Raises:
        InvalidInput: a media type or `created` is malformed, or it would be over 4 MiB.
        InvalidContent: the base cannot be read again.
    """
    new_layers = [layer for layer in layers if isinstance(layer, Descriptor)]
    check_media_types(changes.artifact_type or "", changes.config, new_layers)
    check_created(changes.annotations or {})
    original = _parse(base.raw)
    document = dict(original)
    key = "blobs" if base.media_type == mediatype.OCI_ARTIFACT_MANIFEST else "layers"
    _replace(document, key, _layers(base, original.get(key), layers))
    if changes.artifact_type is not None:
        _replace(document, "artifactType", changes.artifact_type)
    if changes.config is not None:
        _replace(document, "config", _value(changes.config))
    if changes.annotations is not None:
        _replace(document, "annotations", gojson.sort_keys(changes.annotations))
    if document == original:
        return base.raw
    return bounded(gojson.dumps(_in_order(document, original)))


def _parse(raw: bytes) -> _Object:
    try:
        document: _Object = json.loads(raw, parse_float=gojson.Number, parse_int=gojson.Number)
    except (ValueError, RecursionError) as error:
        raise InvalidContent(f"manifest: not JSON: {error}") from error
    return document


def _replace(document: _Object, key: str, value: str | list[gojson.Value] | _Object) -> None:
    """Set a member; empty ones but lists are left out, and null or missing counts as empty."""
    if value == (document.get(key) or type(value)()):
        return
    if value or isinstance(value, list):
        document[key] = value
    else:
        del document[key]


def _in_order(document: _Object, original: _Object) -> _Object:
    """Return the members in the base's order, with new ones where Go's struct has them."""
    keys = [key for key in original if key in document]
    for key in document.keys() - original.keys():
        later = _FIELD_ORDER[_FIELD_ORDER.index(key) + 1 :]
        places = [place for place, other in enumerate(keys) if other in later]
        keys.insert(min(places, default=len(keys)), key)
    return {key: document[key] for key in keys}


def _layers(
    base: Manifest, original: gojson.Value, layers: Sequence[KeptLayer | Descriptor]
) -> list[gojson.Value]:
    """Return the layers' values, with the placeholder for none where the base's form wants it."""
    values = list(original) if isinstance(original, list) else []
    is_placeholder = [layer.media_type == mediatype.EMPTY for layer in base.layers] == [True]
    if is_placeholder and len(layers) > 1:
        layers = [layer for layer in layers if isinstance(layer, Descriptor)]
    if not layers and base.layers and base.config and base.config.media_type == mediatype.EMPTY:
        layers = [EMPTY_DESCRIPTOR]
    return [
        _value(layer) if isinstance(layer, Descriptor) else _kept(values[layer.ordinal], layer)
        for layer in layers
    ]


def _value(descriptor: Descriptor) -> _Object:
    """Return the descriptor as parsing returns it, so that equal ones compare equal."""
    return _parse(gojson.dumps(descriptor_value(descriptor)))


def _kept(value: gojson.Value, layer: KeptLayer) -> gojson.Value:
    if not isinstance(value, dict) or not (layer.media_type or layer.annotations):
        return value
    changed = dict(value)
    if layer.media_type:
        changed["mediaType"] = layer.media_type
    if layer.annotations:
        changed["annotations"] = gojson.sort_keys(
            {**(value.get("annotations") or {}), **layer.annotations}
        )
    return changed
