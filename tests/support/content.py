"""Contents of blobs: as `orasfs.oci.storage.BlobContent` to be pushed, and damaged ones."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest


@dataclass
class Memory:
    """Bytes in memory; counts how often they were opened."""

    content: bytes = field(repr=False)
    opened: int = 0

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor("application/octet-stream", Digest.of(self.content), self.size)

    def open(self) -> BinaryIO:
        self.opened += 1
        return io.BytesIO(self.content)


class OnDisk:
    """The bytes of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    def open(self) -> BinaryIO:
        return self._path.open("rb", buffering=0)


def flipped(content: bytes, *places: int) -> bytes:
    """Return content with a bit changed at each place, or in the middle, as a bad disk does."""
    wrong = bytearray(content)
    for place in places or (len(content) // 2,):
        wrong[place] ^= 4
    return bytes(wrong)


def ignore(_: int) -> None:
    """Take progress that nobody watches."""


def never() -> bool:
    """Answer who asks whether it was cancelled."""
    return False
