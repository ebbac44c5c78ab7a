"""Referrers where a registry has no API for them: an index under a tag made of the digest. Pure.

Owns how such an index is read and changed, and how the lack of the API is told.

Source: distribution-spec v1.1.1, Referrers Tag Schema and Pushing Manifests with Subject.
"""

import json

from orasfs.errors import InvalidContent
from orasfs.oci import mediatype
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest, parse_document
from orasfs.registry import protocol
from orasfs.registry.protocol import Answer

JsonObject = dict[str, object]


def lacks_api(answer: Answer) -> bool:
    """Tell from an answer of end-12a whether the registry has no referrers API.

    The reference client's rule, and 405 and 501. A 404 that names an unknown repository is an
    answer of the API.
    """
    if answer.status == 404:
        return protocol.error_words(answer)[0] != "NAME_UNKNOWN"
    if answer.status == 200:
        return media_type_of(answer) != mediatype.OCI_INDEX
    return answer.status in (405, 501)


def media_type_of(answer: Answer) -> str:
    """Return the Content-Type without parameters."""
    return mediatype.strip_parameters(answer.headers.get("content-type", ""))


def read_document(raw: bytes) -> Manifest | Index | None:
    """Return the manifest or index, None where it is of no kind that is known."""
    try:
        return parse_document(raw)
    except InvalidContent:
        return None


def entry_of(document: Manifest | Index, digest: Digest) -> JsonObject:
    """Return the descriptor of a referrer, with what the specification wants copied into it."""
    entry: JsonObject = {
        "mediaType": document.media_type,
        "digest": str(digest),
        "size": len(document.raw),
    }
    if document.annotations:
        entry["annotations"] = dict(sorted(document.annotations.items()))
    artifact_type = document.artifact_type
    if not artifact_type and isinstance(document, Manifest) and document.config is not None:
        artifact_type = document.config.media_type
    if artifact_type:
        entry["artifactType"] = artifact_type
    return entry


def with_entry(raw: bytes | None, entry: JsonObject) -> bytes | None:
    """Return an index with one entry more, None if it is in there already.

    Args:
        raw: the index as it is; None, and anything that is no index, for an empty one.
        entry: see `entry_of`.
    """
    document, entries = _read(raw)
    if _find(entries, entry["digest"]):
        return None
    return _write(document, [*entries, entry])


def without_entry(raw: bytes | None, digest: Digest) -> bytes | None:
    """Return an index without the entries of a digest, None if there is none in it."""
    document, entries = _read(raw)
    found = _find(entries, str(digest))
    if not found:
        return None
    return _write(document, [entry for entry in entries if entry not in found])


def _read(raw: bytes | None) -> tuple[JsonObject, list[object]]:
    empty: JsonObject = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX}
    try:
        document = json.loads(raw) if raw is not None else empty
    except (ValueError, RecursionError):
        return empty, []
    if not isinstance(document, dict):
        return empty, []
    entries = document.get("manifests")
    # A registry may answer such a tag with the subject itself (GitLab): that is no index.
    if not isinstance(entries, list):
        return empty, []
    return document, entries


def _find(entries: list[object], digest: object) -> list[object]:
    return [
        entry for entry in entries if isinstance(entry, dict) and entry.get("digest") == digest
    ]


def _write(document: JsonObject, entries: list[object]) -> bytes:
    changed = document | {"manifests": entries}
    return json.dumps(changed, separators=(",", ":"), ensure_ascii=False).encode()
