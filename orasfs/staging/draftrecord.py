"""What is written down of a draft in `draft.json`: its key, its base, when it began.

Owns the format. A record is replaced whole, so that a crash leaves the old one or the new one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orasfs.errors import InvalidContent
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import is_tag
from orasfs.staging import localdisk
from orasfs.staging.localdisk import translated

RECORD = "draft.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class DraftKey:
    """Under which name a draft lives.

    Attributes:
        registry: `HOST[:PORT]`, or `oci:LABEL`.
        repository: the path below the registry, as it was named; "" for a layout.
        name: what stands in the repository, or behind the colon; it may be no valid tag.
        colon: whether it was begun as `REPOSITORY:NAME` beside the repository.
        subject: the digest of the manifest to which it is to be attached; it lives in that one's
            `.oras/referrers`. "" for an artifact of its own.
    """

    registry: str
    repository: str
    name: str
    colon: bool = False
    subject: str = ""

    @property
    def tag(self) -> str | None:
        """The tag that a commit gives it, None for a draft without a name or one to attach."""
        if self.subject:
            return None
        tag = self.name.removeprefix(":")
        return tag if is_tag(tag) else None

    def __str__(self) -> str:
        place = f"{self.registry}/{self.repository}" if self.repository else self.registry
        if self.subject:
            return f"{place}@{self.subject}/.oras/referrers/{self.name}"
        return f"{place}{':' if self.colon else '/'}{self.name}"


@dataclass(frozen=True, slots=True)
class BaseReference:
    """The manifest that a draft's content began from.

    Attributes:
        registry: `HOST[:PORT]`, or `oci:LABEL`.
        repository: the path below the registry; "" for a layout.
        descriptor: of the manifest.
        is_whole: the draft is that artifact as it is, and nothing of it can be changed.
    """

    registry: str
    repository: str
    descriptor: Descriptor
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class DraftRecord:
    """The content of `draft.json`.

    Attributes:
        key: its name.
        base: what its content began from.
        expected: what the tag named when the draft began.
        created: seconds since the epoch.
        subject: the manifest to which it is to be attached, if its key says that it is.
    """

    key: DraftKey
    base: BaseReference | None
    expected: Digest | None
    created: float
    subject: Descriptor | None = None


def write_record(directory: Path, record: DraftRecord) -> None:
    """Write `draft.json`, durably.

    Raises:
        StorageFull: the disk is full; the old one stays.
    """
    base, subject = record.base, record.subject
    document: dict[str, Any] = {
        "version": _VERSION,
        "registry": record.key.registry,
        "repository": record.key.repository,
        "name": record.key.name,
        "colon": record.key.colon,
        "expected": str(record.expected) if record.expected else None,
        "created": record.created,
        "base": base
        and {
            "registry": base.registry,
            "repository": base.repository,
            "whole": base.is_whole,
            **_members(base.descriptor),
        },
        "subject": subject and _members(subject),
    }
    text = json.dumps(document, indent=2, ensure_ascii=True)
    localdisk.replace_file(directory / RECORD, f"{text}\n".encode())


def read_record(directory: Path) -> DraftRecord:
    """Read `draft.json`.

    Raises:
        InvalidContent: it is damaged, or of a later version.
        LocalFailure: it is missing, or cannot be read.
    """
    with translated(RECORD):
        raw = (directory / RECORD).read_bytes()
    try:
        document = json.loads(raw)
        if document["version"] != _VERSION:
            raise InvalidContent(f"{RECORD}: of version {document['version']}, not {_VERSION}")
        key = DraftKey(
            str(document["registry"]),
            str(document["repository"]),
            str(document["name"]),
            colon=bool(document["colon"]),
        )
        expected, base = document["expected"], document["base"]
        subject = _descriptor(document["subject"]) if document.get("subject") else None
        return DraftRecord(
            replace(key, subject=str(subject.digest) if subject else ""),
            _base(base) if base else None,
            Digest.parse(expected) if expected else None,
            float(document["created"]),
            subject,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidContent(f"{RECORD}: damaged: {error!r}") from error


def _base(document: Mapping[str, Any]) -> BaseReference:
    return BaseReference(
        str(document["registry"]),
        str(document["repository"]),
        _descriptor(document),
        is_whole=bool(document.get("whole")),
    )


def _members(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
        "annotations": dict(descriptor.annotations),
        "artifactType": descriptor.artifact_type,
    }


def _descriptor(document: Mapping[str, Any]) -> Descriptor:
    annotations = dict(document.get("annotations") or {})
    return Descriptor(
        str(document["mediaType"]),
        Digest.parse(document["digest"]),
        int(document["size"]),
        {str(key): str(value) for key, value in annotations.items()},
        artifact_type=str(document.get("artifactType", "")),
    )
