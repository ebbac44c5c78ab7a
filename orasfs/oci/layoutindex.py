"""What index.json of an OCI image layout says: tags and manifests; pure.

Source: image-spec v1.1 image-layout.md. Lenient where the reference client is: a missing list is
an empty one, an entry that is no valid descriptor is left out, and of several entries with one tag
the last one counts. index.json may be larger than a manifest may, since it lists all of a layout.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from orasfs.errors import InvalidContent, InvalidName
from orasfs.oci.descriptor import ANNOTATION_REF_NAME, Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import is_tag

logger = logging.getLogger(__name__)

MAX_INDEX_BYTES = 64 * 1024 * 1024
LAYOUT_VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """The manifests of a layout by digest, and by tag the tagged ones."""

    tags: Mapping[str, Descriptor]
    manifests: Mapping[Digest, Descriptor]


class _Entry(msgspec.Struct, rename="camel"):
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    media_type: str = ""
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct):
    manifests: list[msgspec.Raw] | None = None


class _Marker(msgspec.Struct, rename="camel"):
    image_layout_version: str = ""


def parse_marker(raw: bytes) -> str:
    """Return the version that an oci-layout file names.

    Raises:
        InvalidContent: it is no such file.
    """
    try:
        return msgspec.json.decode(raw, type=_Marker).image_layout_version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidContent(f"oci-layout: {error}") from error


def parse_index(raw: bytes) -> LayoutIndex:
    """Parse index.json.

    Raises:
        InvalidContent: it is over 64 MiB, or not the JSON of an index.
    """
    if len(raw) > MAX_INDEX_BYTES:
        raise InvalidContent(f"index.json of {len(raw)} bytes: over {MAX_INDEX_BYTES}")
    try:
        entries = msgspec.json.decode(raw, type=_Index).manifests or []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidContent(f"index.json: {error}") from error
    tags: dict[str, Descriptor] = {}
    manifests: dict[Digest, Descriptor] = {}
    for number, entry in enumerate(entries):
        parsed = _parse_entry(entry, number)
        if parsed is None:
            continue
        descriptor, name = parsed
        manifests[descriptor.digest] = descriptor
        if name and is_tag(name):
            tags[name] = descriptor
        elif name:
            logger.info("layout entry is not shown: no valid tag name=%.140r", name)
    return LayoutIndex(tags, manifests)


def _parse_entry(raw: msgspec.Raw, number: int) -> tuple[Descriptor, str] | None:
    """Return an entry's descriptor and its name, "" if it has none; None if it is not valid."""
    try:
        entry = msgspec.json.decode(raw, type=_Entry)
        digest = Digest.parse(entry.digest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidName) as error:
        logger.info("layout entry is not shown: number=%d reason=%s", number, error)
        return None
    name = (entry.annotations or {}).get(ANNOTATION_REF_NAME, "")
    return Descriptor(entry.media_type, digest, entry.size), name
