"""Gzip that is begun anew in places: how these are found, whatever the blob comes in."""

import gzip
import itertools
import os
import zlib

from hypothesis import given
from hypothesis import strategies as st

from orasfs.staging.layerblob import compress_block
from orasfs.tree.compression import open_decompressor
from orasfs.tree.restarts import END, HEAD, MARK, MarkFinder, inflate, is_announced

BLOCKS = [
    os.urandom(400) + b"a" * 1000,
    os.urandom(5000),
    os.urandom(400) + MARK * 50,
    os.urandom(300) + MARK,
    os.urandom(400) + b"b" * 70_000,
]
BLOCKS += [os.urandom(9) + MARK * 2 + os.urandom(70_000) + MARK[:4], os.urandom(500) + MARK[:5]]
_BYTES = st.sampled_from([b"\0", b"\xff", b"x", MARK, MARK[:5], MARK[3:]])


def blob_of(blocks: list[bytes]) -> bytes:
    content = b"".join(blocks)
    trailer = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    return b"".join((HEAD, *map(compress_block, blocks), END, trailer))


BLOB = blob_of(BLOCKS)


def test_it_is_one_member_to_others() -> None:
    assert gzip.decompress(BLOB) == b"".join(BLOCKS)
    inflating = zlib.decompressobj(31)
    assert inflating.decompress(BLOB) == b"".join(BLOCKS)
    assert inflating.eof
    assert not inflating.unused_data


def test_what_looks_like_a_mark_in_a_file_is_none_in_the_blob() -> None:
    for block in BLOCKS:
        made = compress_block(block)
        # What ends like the half of one is begun anew before the other half.
        assert made.find(MARK) >= len(made) - len(MARK) - 5


@given(st.lists(_BYTES, max_size=30), st.integers(0, 20), st.data())
def test_marks_are_found_however_the_pieces_come(
    parts: list[bytes], apart: int, data: st.DataObject
) -> None:
    content = b"".join(parts)
    edges = sorted({0, len(content), *data.draw(st.lists(st.integers(0, len(content))))})
    finder, at, found = MarkFinder(apart), 0, []
    made = b""
    for start, stop in itertools.pairwise(edges):
        for part, is_marked in finder.split(content[start:stop]):
            made += part
            at += len(part)
            found += [at] if is_marked else []
    expected, place = [], content.find(MARK)
    while place >= 0:
        expected.append(place + len(MARK))
        place = content.find(MARK, place + len(MARK) + apart)
    assert made == content
    assert found == expected


@given(st.integers(1, 3000))
def test_pieces_are_told_with_the_place_where_they_begin(step: int) -> None:
    decompressor = open_decompressor(BLOB)
    made: dict[int, bytes] = {}
    for start in range(0, len(BLOB), step):
        for piece in decompressor.feed(BLOB[start : start + step]):
            begin = decompressor.stream_start
            made[begin] = made.get(begin, b"") + bytes(piece)
    decompressor.finish()
    assert list(made.values()) == BLOCKS
    assert len(made) == len(BLOCKS)
    for begin, content in made.items():
        assert inflate(BLOB[begin:], len(content)) == content


def test_what_is_not_announced_is_not_looked_for() -> None:
    other = gzip.compress(b"x")
    assert is_announced(BLOB)
    assert not is_announced(other)
    assert not is_announced(BLOB[: len(HEAD) - 1])


def test_damage_is_something_else() -> None:
    assert inflate(b"\xff" * 20, 5) == b""
