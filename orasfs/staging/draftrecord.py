"""What is written down of a draft in `draft.json`: its key, its base, when it began.

Owns the format. A record is replaced whole, so that a crash leaves the old one or the new one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    registry: str
    repository: str
    name: str
    colon: bool = False

    @property
    def tag(self) -> str | None:
        """The tag that a commit gives it, None for a draft without a name."""
        tag = self.name.removeprefix(":")
        return tag if is_tag(tag) else None

    def __str__(self) -> str:
        place = f"{self.registry}/{self.repository}" if self.repository else self.registry
        return f"{place}{':' if self.colon else '/'}{self.name}"


@dataclass(frozen=True, slots=True)
class BaseReference:
    """The manifest that a draft's content began from."""

    registry: str
    repository: str
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class DraftRecord:
    """The content of `draft.json`; `expected` is what the tag named when the draft began."""

    key: DraftKey
    base: BaseReference | None
    expected: Digest | None
    created: float


def write_record(directory: Path, record: DraftRecord) -> None:
    """Write `draft.json`, durably.

    Raises:
        StorageFull: the disk is full; the old one stays.
    """
    base = record.base
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
            "mediaType": base.descriptor.media_type,
            "digest": str(base.descriptor.digest),
            "size": base.descriptor.size,
        },
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
        expected = document["expected"]
        base = document["base"]
        return DraftRecord(
            key,
            _base(base) if base else None,
            Digest.parse(expected) if expected else None,
            float(document["created"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidContent(f"{RECORD}: damaged: {error!r}") from error


def _base(document: Mapping[str, Any]) -> BaseReference:
    descriptor = Descriptor(
        str(document["mediaType"]), Digest.parse(document["digest"]), int(document["size"])
    )
    return BaseReference(str(document["registry"]), str(document["repository"]), descriptor)
