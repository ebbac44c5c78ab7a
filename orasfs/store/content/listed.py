"""The cache's index.json, which is the reference client's list of manifests.

Owns the one change that is made to it here: what is evicted is taken off before it goes, so that
the list never names what is not there. Blocking.
"""

import logging
import os
from collections.abc import Set as AbstractSet
from pathlib import Path

from orasfs.errors import InvalidContent, InvalidName
from orasfs.oci.digest import Digest
from orasfs.oci.layoutedit import EMPTY_INDEX, remove_manifest
from orasfs.store.files import disk, ingest

logger = logging.getLogger(__name__)


def unlist(root: Path, digests: AbstractSet[str]) -> None:
    """Take manifests off the list; one that cannot be read or written is left as it is."""
    path = root / "index.json"
    try:
        before = path.read_bytes()
    except OSError:
        return
    if len(before) <= len(EMPTY_INDEX):
        return
    try:
        after = before
        for text in digests:
            if text.encode() in before:
                after = remove_manifest(after, Digest.parse(text))
        if after != before:
            _replace(root, path, after)
    except (OSError, InvalidContent, InvalidName) as error:
        logger.info("index.json not changed: path=%s reason=%s", path, error)


def _replace(root: Path, path: Path, content: bytes) -> None:
    fd, temporary = ingest.open_private(root / "ingest")
    try:
        disk.write_fully(fd, content, 0)
        os.fchmod(fd, 0o644)
        os.fsync(fd)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(fd)
