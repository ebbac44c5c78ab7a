"""Where the blocks of a packed layer begin: parts that are compressed each by itself.

Owns the rule. Whoever has the names and sizes of some members that follow one another, and no
more, can say where the blocks among them begin, but for the first few. So blocks can be compressed
before all is known, and a directory of which a few files changed has most of its blocks again.
Pure.
INVARIANT: the blocks, one after the other, are the pieces. The rule is part of what makes a blob:
another one gives other digests.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orasfs.staging.tarwriter import FilePiece, Header, Piece, piece_size

# A member begins a block if the one before has the least size and its name has it so, which it is
# the more likely to the more it adds: blocks have some 100 KiB, and fit with others.
LEAST_BYTES = 48 * 1024
_FURTHER_BYTES = 48 * 1024  # that a block has beyond these, on an average
MOST_BYTES = 1024 * 1024  # after which it ends, wherever that is
_HASH_BITS = 32


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes [start, start + size) of a staged file."""

    file: FilePiece
    start: int
    size: int


@dataclass(slots=True)
class Block:
    """Some of the tar: `parts` one after the other, `size` bytes in all."""

    parts: list[bytes | Stretch] = field(default_factory=list)
    size: int = 0

    def add(self, part: bytes | Stretch) -> None:
        """Add what follows."""
        self.parts.append(part)
        self.size += part.size if isinstance(part, Stretch) else len(part)


def cut(pieces: Iterable[Piece]) -> Iterator[Block]:
    """Yield the blocks of a tar; none is empty but that of an empty one.

    Args:
        pieces: from `tarwriter.tar_pieces`. Bytes that are no `Header` begin no block.
    """
    block = Block()
    for piece in pieces:
        if isinstance(piece, Header) and block.size >= LEAST_BYTES and _begins_one(piece):
            yield block
            block = Block()
        start, size = 0, piece_size(piece)
        while start < size:
            if block.size == MOST_BYTES:
                yield block
                block = Block()
            part = min(size - start, MOST_BYTES - block.size)
            block.add(_part(piece, start, part))
            start += part
    yield block


def _begins_one(header: Header) -> bool:
    name = hashlib.blake2b(header.path, digest_size=_HASH_BITS // 8).digest()
    chance = (header.record_bytes << _HASH_BITS) // _FURTHER_BYTES
    return int.from_bytes(name, "big") < chance


def _part(piece: Piece, start: int, size: int) -> bytes | Stretch:
    match piece:
        case FilePiece():
            return Stretch(piece, start, size)
        case Header():
            return piece.content[start : start + size]
        case _:
            return piece[start : start + size]
