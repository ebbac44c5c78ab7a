"""What stat(2) says of a file's content: equal twice means that nobody wrote into it in between.

Owns which facts count. Pure. The change time is among them, which nobody can set; it also changes
with names and attributes, so that a difference does not mean that the content is another one.
"""

import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class FileState:
    """A file at one moment; times in nanoseconds since the epoch."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return it from what stat(2) says."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )
