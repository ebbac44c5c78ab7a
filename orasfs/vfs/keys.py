"""What tells nodes from each other: keys, and numbers in a series; pure.

Owns how a key is made of what is above and a name, so that it is the same in every mount. Knows
nothing of inode numbers; `orasfs.vfs.inodes` makes them of keys.
"""

import hashlib
from dataclasses import dataclass
from typing import NewType, Protocol, TypeVar

Key = NewType("Key", bytes)
ROOT_KEY = Key(bytes(16))


def derive(parent: Key, *parts: str) -> Key:
    """Return the key of what `parts` name below `parent`: 128 bits, the same in every mount."""
    # The separator cannot be in a name, so that ("a", "b") and ("a/b",) differ from each other.
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return Key(hashlib.blake2b(text, key=parent, digest_size=16).digest())


MadeT_co = TypeVar("MadeT_co", covariant=True)


class Series(Protocol[MadeT_co]):
    """Nodes that are numbered, and made when they are asked for.

    Attributes:
        key: what tells it from all others in the mount.
    """

    key: Key

    def __len__(self) -> int:
        """Return how many there are at most."""
        ...

    def node(self, ordinal: int) -> MadeT_co:
        """Make a node; each time a new object of the same key."""
        ...


@dataclass(frozen=True, slots=True)
class Serial:
    """Which member of which series a node is; `series` is None as long as that is not known."""

    key: Key
    ordinal: int
    series: "Series[Keyed] | None" = None


class Keyed(Protocol):
    """Anything that has a key."""

    @property
    def key(self) -> Key:
        """What tells it from all others in the mount."""
        ...

    @property
    def serial(self) -> Serial | None:
        """Which member of a series it is."""
        ...
