"""The note of the attempts to put a draft's manifest, kept beside the draft.

Owns the file `attempts.json`. It is what makes a commit idempotent whose answer was lost: the next
one makes the same manifest, with the same `created`, and knows its own digest when a tag has it.
INVARIANT: the note is durable before the manifest is put.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from orasfs.errors import InvalidName
from orasfs.oci.digest import Digest
from orasfs.staging import localdisk

FILE_NAME = "attempts.json"


@dataclass(frozen=True, slots=True)
class Attempts:
    """What was about to be put, successfully or not.

    Attributes:
        created_seconds: what went into the last manifest where nothing else gave the time.
        digests: of the manifests, the last one last.
    """

    created_seconds: int
    digests: tuple[Digest, ...]


def read_attempts(directory: Path) -> Attempts | None:
    """Return the note, None if there is none or it cannot be read. Blocks."""
    try:
        note = json.loads((directory / FILE_NAME).read_bytes())
        digests = tuple(Digest.parse(str(digest)) for digest in note["digests"])
        return Attempts(int(note["created"]), digests)
    except (OSError, ValueError, KeyError, TypeError, InvalidName):
        return None  # then the next manifest is a new one, which is merely less tidy


def note_attempt(
    directory: Path, before: Attempts | None, created_seconds: int, digest: Digest
) -> None:
    """Add an attempt to the note, durably. Blocks.

    Raises:
        StorageFull: the disk is full.
        LocalFailure: it failed in another way.
    """
    digests = [each for each in (before.digests if before else ()) if each != digest]
    note = {"created": created_seconds, "digests": [str(each) for each in [*digests, digest]]}
    localdisk.replace_file(directory / FILE_NAME, json.dumps(note).encode())
