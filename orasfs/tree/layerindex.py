"""The index of a tar layer: which members it has, and where their bytes are.

Owns the index's binary form, which is read in place from a buffer (a mapped file), so that opening
the index of a large layer costs no memory. Pure: knows no disk and no network.

A layer's members are numbered (*ordinals*) so that the children of a directory are a contiguous
range sorted by name; ordinal 0 is the tar's root. File bytes live in the layer's *slab*, the
uncompressed tar; an *extent* says which part of the slab is which part of the file, and what no
extent covers reads as zeros.
"""

from dataclasses import dataclass
from enum import IntEnum

ROOT = 0


class MemberKind(IntEnum):
    """What a member is; devices, sockets and pipes are left out of an index."""

    DIRECTORY = 1
    FILE = 2
    SYMLINK = 3


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes at `slab_offset` in the slab are those at `file_offset` in the file."""

    file_offset: int
    slab_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a layer.

    Attributes:
        ordinal: its number. Hard links to one file have one ordinal: that of the first name.
        name: the last component; bytes that are no UTF-8 as surrogate escapes.
        mode: the permission bits, 0o0000 to 0o7777.
        mtime_ns: nanoseconds since the epoch, from the tar.
        size: of a file in bytes, of a symlink the length of its target in bytes, else 0.
        target: of a symlink, else "".
        link_count: how many names a file has in this layer; for directories 1.
    """

    ordinal: int
    name: str
    kind: MemberKind
    mode: int
    mtime_ns: int
    size: int
    target: str
    link_count: int


class LayerIndex:
    """The members of one layer, read from `buffer`.

    Raises (on construction):
        InvalidContent: the buffer is no index, or a damaged one, or of another version.
    """

    def __init__(self, buffer: bytes | memoryview) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        """Return the number of ordinals."""
        raise NotImplementedError

    @property
    def problems(self) -> tuple[str, ...]:
        """What in the tar would do harm if followed, in words, in the order met (at most 100)."""
        raise NotImplementedError

    @property
    def slab_size(self) -> int:
        """The size of the uncompressed tar in bytes."""
        raise NotImplementedError

    def member(self, ordinal: int) -> Member:
        """Return the member of that number; a hard link's first name."""
        raise NotImplementedError

    def children(self, ordinal: int) -> range:
        """Return the entries of a directory, by name in byte order; empty for other kinds.

        An entry number is what `name_of` and `resolve` take: for all but hard links it is the
        member's own ordinal.
        """
        raise NotImplementedError

    def name_of(self, entry: int) -> str:
        """Return the name of an entry."""
        raise NotImplementedError

    def resolve(self, entry: int) -> int:
        """Return the ordinal of the member an entry stands for (another one for a hard link)."""
        raise NotImplementedError

    def find(self, directory: int, name: str) -> int | None:
        """Return the ordinal of the member of that name in a directory, hard links resolved."""
        raise NotImplementedError

    def locate(self, path: str) -> int | None:
        """Return the ordinal at a slash-separated path from the root ("" is the root)."""
        raise NotImplementedError

    def extents(self, ordinal: int) -> tuple[Extent, ...]:
        """Return where a file's bytes are in the slab, in file order, without overlaps."""
        raise NotImplementedError
