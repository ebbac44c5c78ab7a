"""Manifests and indexes: parsed strictly at the edge, with the bytes kept.

The digest of a manifest is that of its bytes as stored, so `raw` is never rebuilt from the fields.

Sources: image-spec v1.1 manifest.md and image-index.md; Docker image manifest version 2 schema 2;
the removed OCI artifact manifest (`blobs` instead of `layers`, no config).
"""

import base64
import binascii
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated

import msgspec

from orasfs.errors import InvalidContent, InvalidName
from orasfs.oci import mediatype
from orasfs.oci.descriptor import (
    ANNOTATION_ARTIFACT_CREATED,
    ANNOTATION_CREATED,
    Descriptor,
    Platform,
)
from orasfs.oci.digest import Digest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # the reference client's MaxMetadataBytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """One artifact or image: its config, layers and subject."""

    media_type: str
    layers: tuple[Descriptor, ...]
    config: Descriptor | None
    artifact_type: str
    subject: Descriptor | None
    annotations: Mapping[str, str] = field(hash=False)
    raw: bytes = field(repr=False)

    @property
    def created_ns(self) -> int:
        """Creation time in nanoseconds since the epoch; 0 where none, or none valid, is given."""
        for key in (ANNOTATION_CREATED, ANNOTATION_ARTIFACT_CREATED):
            if key in self.annotations:
                return parse_rfc3339_ns(self.annotations[key])
        return 0


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, by platform or not."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    artifact_type: str
    subject: Descriptor | None
    annotations: Mapping[str, str] = field(hash=False)
    raw: bytes = field(repr=False)

    @property
    def created_ns(self) -> int:
        """Creation time in nanoseconds since the epoch; 0 where none, or none valid, is given."""
        return parse_rfc3339_ns(self.annotations.get(ANNOTATION_CREATED, ""))


class _Platform(msgspec.Struct, rename={"os_version": "os.version", "os_features": "os.features"}):
    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: list[str] | None = None


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    media_type: str = ""
    annotations: dict[str, str] | None = None
    urls: list[str] | None = None
    data: str | None = None
    platform: _Platform | None = None
    artifact_type: str = ""


class _Document(msgspec.Struct, rename="camel"):
    """Any of the five kinds; which fields must be there depends on the media type."""

    schema_version: int | None = None
    media_type: str | None = None
    artifact_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None
    # Unset is not null: `"manifests": null` occurs in the wild, as an index without children.
    manifests: list[_Descriptor] | msgspec.UnsetType | None = msgspec.UNSET
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_Document)


def parse_document(raw: bytes, media_type: str = "") -> Manifest | Index:
    """Parse a manifest or an index of any readable kind.

    Args:
        raw: the bytes as stored.
        media_type: what the descriptor or the Content-Type header said, "" if unknown; where it
            names a readable kind, the document's own mediaType must be the same.

    Raises:
        InvalidContent: it is over 4 MiB, not JSON, of no readable kind, or a field is wrong; the
            message names the field as a JSON path.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise InvalidContent(
            f"manifest of {len(raw)} bytes: over the limit of {MAX_MANIFEST_BYTES}"
        )
    try:
        document = _DECODER.decode(raw)
    except msgspec.MsgspecError as error:
        raise InvalidContent(f"manifest: {error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise InvalidContent(f"manifest: not JSON: {error}") from error
    kind = _kind(document, mediatype.strip_parameters(media_type))
    if kind in mediatype.INDEX_TYPES:
        return _index(document, kind, raw)
    return _manifest(document, kind, raw)


def _kind(document: _Document, media_type: str) -> str:
    """Decide which kind the document is: its mediaType, else the header's, else its fields."""
    known = mediatype.MANIFEST_TYPES | mediatype.INDEX_TYPES
    own = document.media_type or ""
    if own and own not in known:
        raise InvalidContent(f"manifest: $.mediaType: {own[:200]!r} is no manifest or index type")
    if own and media_type in known and own != media_type:
        raise InvalidContent(
            f"manifest: $.mediaType: {own!r}, but it was served as {media_type!r}"
        )
    is_artifact = mediatype.OCI_ARTIFACT_MANIFEST in (own, media_type)  # has no schemaVersion
    if document.schema_version != 2 and not is_artifact:
        raise InvalidContent(f"manifest: $.schemaVersion: {document.schema_version} instead of 2")
    if own:
        return own
    if media_type in known:
        return media_type
    is_index = document.manifests is not msgspec.UNSET
    return mediatype.OCI_INDEX if is_index else mediatype.OCI_MANIFEST


def _refuse_field(document: _Document, kind: str, *names: str) -> None:
    """Refuse the lists of another kind: two readers could see two artifacts (CVE-2021-41190)."""
    for name in names:
        if getattr(document, name) not in (None, msgspec.UNSET):
            raise InvalidContent(f"manifest: $.{name}: does not belong into {kind}")


def _index(document: _Document, kind: str, raw: bytes) -> Index:
    _refuse_field(document, kind, "layers", "config")
    return Index(
        media_type=kind,
        manifests=_descriptors(document.manifests or [], "$.manifests"),
        artifact_type=document.artifact_type,
        subject=_descriptor(document.subject, "$.subject") if document.subject else None,
        annotations=_frozen(document.annotations),
        raw=raw,
    )


def _manifest(document: _Document, kind: str, raw: bytes) -> Manifest:
    _refuse_field(document, kind, "manifests")
    config = _descriptor(document.config, "$.config") if document.config else None
    if kind == mediatype.OCI_ARTIFACT_MANIFEST:
        layers = _descriptors(document.blobs or [], "$.blobs")
    else:
        if config is None:
            raise InvalidContent("manifest: $.config: missing")
        layers = _descriptors(document.layers or [], "$.layers")
    return Manifest(
        media_type=kind,
        layers=layers,
        config=config,
        artifact_type=document.artifact_type or (config.media_type if config else ""),
        subject=_descriptor(document.subject, "$.subject") if document.subject else None,
        annotations=_frozen(document.annotations),
        raw=raw,
    )


def _frozen(annotations: dict[str, str] | None) -> Mapping[str, str]:
    return MappingProxyType(annotations or {})


def _descriptors(values: list[_Descriptor], path: str) -> tuple[Descriptor, ...]:
    return tuple(_descriptor(value, f"{path}[{number}]") for number, value in enumerate(values))


def _descriptor(value: _Descriptor, path: str) -> Descriptor:
    try:
        digest = Digest.parse(value.digest)
    except InvalidName as error:
        raise InvalidContent(f"manifest: {path}.digest: {error}") from error
    if not value.media_type:
        raise InvalidContent(f"manifest: {path}.mediaType: missing")
    return Descriptor(
        media_type=sys.intern(value.media_type),  # thousands of layers may have the same
        digest=digest,
        size=value.size,
        annotations=_frozen(value.annotations),
        urls=tuple(value.urls or ()),
        data=_data(value.data, digest, value.size, path),
        platform=_platform(value.platform) if value.platform else None,
        artifact_type=value.artifact_type,
    )


def _data(text: str | None, digest: Digest, size: int, path: str) -> bytes | None:
    """Decode inline content; it counts only if it is what digest and size say."""
    if text is None:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidContent(f"manifest: {path}.data: not base64: {error}") from error
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise InvalidContent(f"manifest: {path}.data: not the content of {digest}")
    return data


def _platform(value: _Platform) -> Platform:
    return Platform(
        architecture=value.architecture,
        os=value.os,
        variant=value.variant,
        os_version=value.os_version,
        os_features=tuple(value.os_features or ()),
    )


_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):([0-5]\d))",
    re.ASCII,
)


def parse_rfc3339_ns(text: str) -> int:
    """Return the nanoseconds since the epoch of an RFC 3339 time, 0 if it is not one.

    What is finer than a nanosecond is cut off; a leap second is not accepted.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return 0
    day, time, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC)
    except ValueError:
        return 0
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        since += offset if sign == "-" else -offset
    seconds = since.days * 86_400 + since.seconds
    return seconds * 1_000_000_000 + int((fraction or "0")[:9].ljust(9, "0"))
