"""Tells whether a draft was changed: a digest of what stat(2) says of everything in it.

Owns which facts count: names, kinds, sizes, modes, both times and inode numbers. Reads no content:
whatever changes bytes or attributes also changes the ctime, which nobody can set.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from orasfs.staging.localdisk import translated


def fingerprint(*roots: Path) -> bytes:
    """Return a digest of all below the roots. Blocks; follows no link.

    Raises:
        LocalFailure: a directory cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with translated("look through the draft"):
        for root in roots:
            for path, status in _walk(str(root)):
                facts = (
                    status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns,
                    status.st_ctime_ns,
                )  # fmt: skip
                digest.update(os.fsencode(path) + repr(facts).encode())
    return digest.digest()


def _walk(path: str) -> Iterator[tuple[str, os.stat_result]]:
    yield path, os.lstat(path)
    pending = [path]
    while pending:
        with os.scandir(pending.pop()) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            yield entry.path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
