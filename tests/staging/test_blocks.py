"""Where a packed layer's blocks begin."""

import itertools
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from orasfs.staging.blocks import LEAST_BYTES, MOST_BYTES, Block, Stretch, cut
from orasfs.staging.tarwriter import TRAILER, FilePiece, Header, Piece

_SIZES = st.one_of(
    st.integers(0, 3 * LEAST_BYTES),
    st.integers(MOST_BYTES - 2000, MOST_BYTES + 2000),
    st.integers(0, 3 * MOST_BYTES),
)


def member(name: str, size: int) -> list[Piece]:
    """Return the pieces of a file of a tar."""
    header = Header(name.encode(), name.encode().ljust(512, b"\0"), 512 + size + -size % 512)
    if not size:
        return [header]
    return [header, FilePiece(name, size, name), bytes(-size % 512)]


def tar(sizes: Sequence[int]) -> list[Piece]:
    """Return the pieces of a tar of files of these sizes."""
    named = [member(f"d/{number:05}", size) for number, size in enumerate(sizes)]
    return [*itertools.chain.from_iterable(named), TRAILER]


def content(parts: Sequence[bytes | Stretch]) -> list[tuple[str, int, int] | int]:
    """Return what parts are, with those that lie next to one another as one."""
    made: list[tuple[str, int, int] | int] = []
    for part in parts:
        before = made[-1] if made else None
        if isinstance(part, Stretch):
            if (
                isinstance(before, tuple)
                and before[0] == part.file.path
                and before[2] == part.start
            ):
                made[-1] = (before[0], before[1], part.start + part.size)
            else:
                made.append((part.file.path, part.start, part.start + part.size))
        elif part and isinstance(before, int):
            made[-1] = before + len(part)
        elif part:
            made.append(len(part))
    return made


def whole(pieces: Sequence[Piece]) -> list[tuple[str, int, int] | int]:
    """Return what pieces are, in the same form."""
    parts: list[bytes | Stretch] = []
    for piece in pieces:
        match piece:
            case FilePiece():
                parts.append(Stretch(piece, 0, piece.size))
            case Header():
                parts.append(piece.content)
            case _:
                parts.append(piece)
    return content(parts)


def small_sizes(count: int) -> list[int]:
    chosen = random.Random(3)  # noqa: S311 - repeatable, not secret
    return [chosen.randrange(40_000) for _ in range(count)]


@given(sizes=st.lists(_SIZES, max_size=12))
def test_blocks_are_the_pieces_and_have_the_sizes_they_may(sizes: list[int]) -> None:
    pieces = tar(sizes)
    blocks = list(cut(pieces))
    parts = list(itertools.chain.from_iterable(block.parts for block in blocks))
    assert content(parts) == whole(pieces)
    for block in blocks:
        assert block.size == sum(
            part.size if isinstance(part, Stretch) else len(part) for part in block.parts
        )
        assert 0 < block.size <= MOST_BYTES
    assert all(block.size >= LEAST_BYTES for block in blocks[:-1])


def test_nothing_is_one_block_of_nothing() -> None:
    assert list(cut([])) == [Block()]


def test_a_large_file_begins_a_block() -> None:
    pieces = tar([LEAST_BYTES, LEAST_BYTES, 3 * MOST_BYTES])
    firsts = [block.parts[0] for block in cut(pieces)]
    assert [first[:7] for first in firsts if isinstance(first, bytes)] == [
        b"d/00000",
        b"d/00001",
        b"d/00002",
    ]


def test_blocks_of_small_files_have_a_hundred_kibibytes_or_so() -> None:
    blocks = list(cut(tar(small_sizes(2000))))
    assert 80_000 < sum(block.size for block in blocks) / len(blocks) < 120_000


def test_a_file_that_changes_its_size_changes_few_blocks() -> None:
    sizes = small_sizes(1000)
    before = {tuple(content(block.parts)) for block in cut(tar(sizes))}
    sizes[500] += 5000
    after = {tuple(content(block.parts)) for block in cut(tar(sizes))}
    assert len(after - before) <= 3


def test_blocks_are_found_again_from_anywhere() -> None:
    sizes = small_sizes(600)
    every = [tuple(content(block.parts)) for block in cut(tar(sizes))]
    named = [member(f"d/{number:05}", size) for number, size in enumerate(sizes)]
    others = []
    for first in range(0, 500, 7):
        pieces = [*itertools.chain.from_iterable(named[first:]), TRAILER]
        some = [tuple(content(block.parts)) for block in cut(pieces)]
        others.append(len(set(some) - set(every)))
    assert max(others) <= 12
    assert sum(others) / len(others) < 4


def test_the_rule_stays_what_it_is() -> None:
    """Another one would give other digests for what was committed before."""
    blocks = list(cut(tar(small_sizes(40))))
    assert [block.size for block in blocks] == [
        55808,
        70656,
        72192,
        86016,
        49664,
        66048,
        104960,
        84992,
        174080,
        71680,
        81408,
        39424,
    ]
