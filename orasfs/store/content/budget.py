"""How large a cache may be: a number of bytes, or a share of the disk that it is on.

Owns the words for it, and what always stays free on that disk.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from orasfs.errors import InvalidInput
from orasfs.store.files import disk

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>%|[KMGTP]?)(?:i?B)?", re.IGNORECASE)
_FREE_SHARE = 0.01
_MOST_FREE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a cache may be.

    Attributes:
        size: bytes, if that was said.
        share: else of the disk's size, from 0 to 1.
    """

    size: int | None = None
    share: float = 0.2

    def limit(self, root: Path) -> int:
        """Return the number of bytes for the cache at `root`.

        Raises:
            StorageFailure: the directory is gone.
        """
        if self.size is not None:
            return self.size
        with disk.translated(str(root)):
            status = os.statvfs(root)
        return int(status.f_blocks * status.f_frsize * self.share)


def shortage(root: Path, size: int) -> int:
    """Return how many bytes the disk lacks to take `size` more and still have some free.

    Raises:
        StorageFailure: the directory is gone.
    """
    with disk.translated(str(root)):
        status = os.statvfs(root)
    reserve = min(int(status.f_blocks * status.f_frsize * _FREE_SHARE), _MOST_FREE_BYTES)
    return max(0, size + reserve - status.f_bavail * status.f_frsize)


def parse_budget(text: str) -> Budget:
    """Parse `500M`, `10G`, `2.5T` (powers of 1024) or `30%`.

    Raises:
        InvalidInput: it is neither, or a share of nothing or of more than all.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text!r} is no size: expected 500M or 10G, or of the disk 20%")
    number = float(match["number"])
    if match["unit"] != "%":
        return Budget(size=int(number * _UNITS[match["unit"].upper()]))
    if not 0 < number <= 100:
        raise InvalidInput(f"{text!r} is no share of a disk: expected more than 0% up to 100%")
    return Budget(share=number / 100)
