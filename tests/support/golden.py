"""The golden artifacts: what the reference client made, and what it pulls (tests/golden)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orasfs.oci.digest import Digest

GOLDEN = Path(__file__).parent.parent / "golden"
LAYOUT = GOLDEN / "layout"
_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class GoldenManifest:
    """A manifest or index of the golden layout; `tag` is "" for the two referrers."""

    tag: str
    media_type: str
    digest: Digest
    raw: bytes


def blob(digest: Digest, layout: Path = LAYOUT) -> bytes:
    """Return a blob of a layout."""
    return (layout / "blobs" / digest.algorithm / digest.hex).read_bytes()


def _manifests() -> Iterator[GoldenManifest]:
    for entry in json.loads((LAYOUT / "index.json").read_bytes())["manifests"]:
        digest = Digest.parse(entry["digest"])
        tag = entry.get("annotations", {}).get(_REF_NAME, "")
        yield GoldenManifest(tag, entry["mediaType"], digest, blob(digest))


@cache
def golden_manifests() -> tuple[GoldenManifest, ...]:
    """Return every manifest that the golden layout's index names."""
    return tuple(_manifests())


@cache
def golden_tags() -> dict[str, GoldenManifest]:
    """Return the tagged manifests of the golden layout by tag."""
    return {manifest.tag: manifest for manifest in golden_manifests() if manifest.tag}
