"""What is mounted where, as the kernel tells it: proc_pid_mountinfo(5).

Owns the parsing of that file. Free of pyfuse3, and never touches a mountpoint itself, which could
wait for a daemon that does not answer.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILESYSTEM_TYPE = "fuse.orasfs"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line: where, of which type, from what, and the device as `major:minor`."""

    path: str
    type: str
    source: str
    device: str


def parse_mountinfo(text: bytes) -> tuple[Mount, ...]:
    """Return the mounts in the kernel's order: of two at one path the later is on top."""
    found = []
    for line in text.splitlines():
        before, separator, behind = line.partition(b" - ")
        fields, others = before.split(b" "), behind.split(b" ")
        if not separator or len(fields) < 6 or len(others) < 2:
            continue
        device = fields[2].decode("ascii", "replace")
        found.append(Mount(_text(fields[4]), _text(others[0]), _text(others[1]), device))
    return tuple(found)


def read_mounts(path: Path = Path("/proc/self/mountinfo")) -> tuple[Mount, ...]:
    """Return what this process sees mounted.

    Raises:
        OSError: there is no /proc.
    """
    return parse_mountinfo(path.read_bytes())


def mount_at(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the topmost mount at exactly that path, None if there is none."""
    return next((mount for mount in reversed(mounts) if mount.path == path), None)


def _text(field: bytes) -> str:
    r"""Decode a field, in which the kernel writes a space as \040."""
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
    return os.fsdecode(plain)
