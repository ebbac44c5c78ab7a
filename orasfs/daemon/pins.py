"""What of the cache drafts are based on, and so must stay in it.

Owns where that is written down: in the records of the drafts, and in the manifests they name, as
far as the cache has them. Blocks; needs no mount.
"""

from collections.abc import Iterator
from pathlib import Path

import platformdirs

from orasfs.errors import OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.manifest import MAX_MANIFEST_BYTES, Manifest, parse_document
from orasfs.staging.draftrecord import read_record


def default_drafts() -> Path:
    """Return where the drafts of this user are: `$XDG_STATE_HOME/orasfs/drafts`."""
    return platformdirs.user_state_path("orasfs") / "drafts"


def pinned_digests(drafts: Path, cache: Path) -> frozenset[str]:
    """Return the digests that drafts are based on: manifests with their blobs."""
    found: set[str] = set()
    try:
        directories = [path for path in drafts.iterdir() if path.is_dir()]
    except OSError:
        return frozenset()
    for directory in directories:
        try:
            base = read_record(directory).base
        except OrasfsError:
            continue  # one that is dropped, or damaged, which the mount tells
        if base is not None:
            found.add(str(base.descriptor.digest))
            found.update(str(blob.digest) for blob in _blobs(cache, base.descriptor))
    return frozenset(found)


def _blobs(cache: Path, descriptor: Descriptor) -> Iterator[Descriptor]:
    digest = descriptor.digest
    try:
        with (cache / "blobs" / digest.algorithm / digest.hex).open("rb") as file:
            document = parse_document(file.read(MAX_MANIFEST_BYTES), descriptor.media_type)
    except (OSError, OrasfsError):
        return
    if isinstance(document, Manifest):
        yield from document.layers
        if document.config is not None:
            yield document.config
