"""Changing index.json of an OCI image layout, without touching what is not meant; pure.

Owns which entries a push or a removal leaves. All fields of the document and all entries that are
not concerned keep their bytes, whoever wrote them.

As in the reference client's content/oci: a tag is an entry's ref.name annotation, a manifest
without a tag has one entry without it, and one that has lost its last tag stays as such an entry.

Source: image-spec v1.1 image-layout.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from orasfs.errors import InvalidContent
from orasfs.oci import mediatype
from orasfs.oci.descriptor import ANNOTATION_REF_NAME, Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest

EMPTY_INDEX = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % mediatype.OCI_INDEX.encode()


class _Entry(msgspec.Struct):
    digest: str = ""
    annotations: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """An entry: what it says of digest and tag, and its bytes."""

    digest: str
    tag: str
    raw: msgspec.Raw


def entry_of(document: Manifest | Index | None, descriptor: Descriptor) -> bytes:
    """Return the entry of a manifest without a tag, with what the reference client copies into it.

    Of an index it copies nothing.

    Args:
        document: the manifest, None if it is of no known kind.
        descriptor: of it.
    """
    fields: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if isinstance(document, Manifest):
        if document.annotations:
            fields["annotations"] = dict(sorted(document.annotations.items()))
        artifact_type = document.artifact_type
        if not artifact_type and document.config is not None:
            artifact_type = document.config.media_type
        if artifact_type:
            fields["artifactType"] = artifact_type
    return msgspec.json.encode(fields)


def put(index: bytes, digest: Digest, entry: bytes, tag: str | None) -> bytes:
    """Return the index with a manifest in it, under a tag if one is given.

    Args:
        index: the document as it is.
        digest: the manifest's.
        entry: see `entry_of`; taken if there is none of that digest.
        tag: None if only the manifest is to be there.

    Raises:
        InvalidContent: the document is no index.
    """
    fields, lines = _read(index)
    present = [line for line in lines if line.digest == str(digest)]
    if (present and tag is None) or any(line.tag == tag for line in present):
        return index
    if tag is None:
        return _write(fields, [*lines, _line(entry)])
    template = present[0].raw if present else msgspec.Raw(entry)
    kept = [line for line in _without_tag(lines, tag) if line.tag or line.digest != str(digest)]
    return _write(fields, [*kept, _line(_renamed(template, tag))])


def remove_tag(index: bytes, tag: str) -> bytes:
    """Return the index without a tag; its manifest stays.

    Raises:
        InvalidContent: the document is no index.
    """
    fields, lines = _read(index)
    return _write(fields, _without_tag(lines, tag))


def remove_manifest(index: bytes, digest: Digest) -> bytes:
    """Return the index without a manifest and all its tags.

    Raises:
        InvalidContent: the document is no index.
    """
    fields, lines = _read(index)
    return _write(fields, [line for line in lines if line.digest != str(digest)])


def _without_tag(lines: list[_Line], tag: str) -> list[_Line]:
    """Take a tag off; of a manifest that has no other entry, one without a tag stays."""
    kept = [line for line in lines if line.tag != tag]
    named = {line.digest for line in kept}
    for line in lines:
        if line.tag == tag and line.digest not in named:
            named.add(line.digest)
            kept.append(_line(_renamed(line.raw, "")))
    return kept


def _renamed(raw: msgspec.Raw, tag: str) -> bytes:
    """Return an entry with another tag, "" for none; all else in it is kept."""
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    annotations = msgspec.json.decode(
        fields.get("annotations", msgspec.Raw(b"null")), type=dict[str, msgspec.Raw] | None
    )
    names = dict(annotations or {})
    names.pop(ANNOTATION_REF_NAME, None)
    if tag:
        names[ANNOTATION_REF_NAME] = msgspec.Raw(msgspec.json.encode(tag))
    if names:
        fields["annotations"] = msgspec.Raw(_object(names))
    else:
        fields.pop("annotations", None)
    return _object(fields)


def _read(index: bytes) -> tuple[dict[str, msgspec.Raw], list[_Line]]:
    try:
        fields = msgspec.json.decode(index, type=dict[str, msgspec.Raw])
        entries = msgspec.json.decode(
            fields.get("manifests", msgspec.Raw(b"null")), type=list[msgspec.Raw] | None
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidContent(f"index.json: {error}") from error
    return fields, [_line(entry) for entry in entries or []]


def _line(raw: msgspec.Raw | bytes) -> _Line:
    """Read an entry; one that makes no sense is of no digest and no tag, and stays as it is."""
    try:
        entry = msgspec.json.decode(raw, type=_Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        entry = _Entry()
    tag = (entry.annotations or {}).get(ANNOTATION_REF_NAME, "")
    # A copy: a Raw that was decoded is a part of the whole document's buffer.
    return _Line(entry.digest, tag, msgspec.Raw(bytes(raw)))


def _write(fields: Mapping[str, msgspec.Raw], lines: Iterable[_Line]) -> bytes:
    entries = b"[" + b",".join(bytes(line.raw) for line in lines) + b"]"
    return _object({**fields, "manifests": msgspec.Raw(entries)})


def _object(fields: Mapping[str, msgspec.Raw]) -> bytes:
    members = (msgspec.json.encode(key) + b":" + bytes(raw) for key, raw in fields.items())
    return b"{" + b",".join(members) + b"}"
