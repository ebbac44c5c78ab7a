"""What can be changed of the attributes of a staged file; pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttrChanges:
    """What is to be changed of a file's attributes; None where it stays.

    Attributes:
        mode: permission bits.
        size: in bytes; a longer file is filled up with zeros.
        atime_ns: since the epoch.
        mtime_ns: since the epoch.
    """

    mode: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
