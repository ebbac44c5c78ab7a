"""Chunks of layers: where they are, and that only right bytes come of them."""

import gzip
import hashlib
import io
import os
import random
import sys
import zlib

import pytest

from orasfs.errors import ContentMismatch, InvalidContent
from orasfs.staging.layerblob import Compression, write_layer
from orasfs.tree.chunktable import (
    CHUNK_BYTES,
    MAX_CHUNK_BYTES,
    ChunkMaker,
    ChunkTable,
)
from orasfs.tree.compression import open_decompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TAR = b"".join(bytes([number]) * 300_000 + os.urandom(100_000) for number in range(30))


def gzip_members(step: int) -> bytes:
    return b"".join(gzip.compress(TAR[at : at + step]) for at in range(0, len(TAR), step))


def zstd_frames(step: int) -> bytes:
    return b"".join(zstd.compress(TAR[at : at + step]) for at in range(0, len(TAR), step))


def packed() -> bytes:
    """Return what this project packs."""
    output = io.BytesIO()
    write_layer([TAR], Compression.GZIP, output, lambda _: io.BytesIO())
    return output.getvalue()


FORMS = {
    "plain": TAR,
    "plain-like-gzip": b"\0" * 5 + TAR,
    "gzip": gzip_members(1_500_000),
    "gzip-small": gzip_members(50_000),
    "zstd": zstd_frames(1_500_000),
    "zstd-skippable": b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd_frames(2_000_000),
    "packed": packed(),
    "gzip-padded": gzip_members(1_500_000) + bytes(3000),
}


def table_of(blob: bytes, step: int = 100_000) -> tuple[ChunkTable | None, bytes]:
    """Pass a blob; return its table, and the tar."""
    maker, decompressor = ChunkMaker(blob), open_decompressor(blob)
    made = bytearray()
    for start in range(0, len(blob), step):
        for piece in decompressor.feed(blob[start : start + step]):
            maker.take(decompressor.stream_start, piece)
            made += piece
    decompressor.finish()
    return maker.finish(len(blob)), bytes(made)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [1 << 20, 10_000])
def test_every_chunk_is_made_of_its_part_of_the_blob(form: str, step: int) -> None:
    blob = FORMS[form]
    table, tar = table_of(blob, step)
    assert table is not None
    again = ChunkTable.from_bytes(table.to_bytes())
    assert table.size == again.size == len(tar)
    assert len(table) == len(again) > 5
    for number in range(len(again)):
        start, stop = again.blob_range(number)
        assert (start, stop) == table.blob_range(number)
        (chunk,) = again.decode(range(number, number + 1), blob[start:stop])
        assert chunk == tar[again.start(number) :][: again.length(number)]
        assert len(chunk) >= CHUNK_BYTES or number == len(again) - 1 or form.startswith("plain")


@pytest.mark.parametrize("form", FORMS)
def test_chunks_do_not_depend_on_how_the_blob_arrives(form: str) -> None:
    table, _ = table_of(FORMS[form], 1 << 20)
    other, _ = table_of(FORMS[form], 700_001)
    assert table is not None
    assert other is not None
    assert table.to_bytes() == other.to_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_wrong_bit_is_never_a_wrong_byte(form: str) -> None:
    blob = FORMS[form]
    table, tar = table_of(blob)
    assert table is not None
    chosen = random.Random(1)  # noqa: S311 - places, not secrets
    for number in range(0, len(table), 3):
        start, stop = table.blob_range(number)
        part = bytearray(blob[start:stop])
        part[chosen.randrange(len(part))] ^= 1 << chosen.randrange(8)
        try:
            (chunk,) = table.decode(range(number, number + 1), bytes(part))
        except ContentMismatch:
            continue
        assert chunk == tar[table.start(number) :][: table.length(number)]


def test_one_long_stream_has_no_table() -> None:
    long = os.urandom(MAX_CHUNK_BYTES + 1)
    for blob in (gzip.compress(long, 1), zstd.compress(long)):
        assert table_of(blob)[0] is None


def test_many_streams_of_nothing_have_no_table() -> None:
    blob = gzip.compress(b"x") + gzip.compress(b"") * (2 * MAX_CHUNK_BYTES // 20 + 1)
    maker = ChunkMaker(blob)
    maker.take(0, b"x")
    assert maker.finish(len(blob)) is None


def test_nothing_has_no_table() -> None:
    assert ChunkMaker(b"").finish(0) is None


def test_several_chunks_of_one_stream_are_made_at_once() -> None:
    first, second, third = b"a" * 1000, b"b" * 2000, b"c" * 500
    stream = gzip.compress(first + second) + gzip.compress(third)
    table = ChunkTable()
    begin = len(gzip.compress(first + second))
    for content, start, skipped in ((first, 0, 0), (second, 0, 1000), (third, begin, 0)):
        table.add(len(content), start, hashlib.sha256(content).digest(), skipped=skipped)
    table.close(len(stream))
    assert [*table.decode(range(2), stream[:begin])] == [first, second]
    assert [*table.decode(range(1, 2), stream[:begin])] == [second]
    assert [table.blob_range(number) for number in range(3)] == [
        (0, begin),
        (0, begin),
        (begin, len(stream)),
    ]
    assert table.span(999, 1001) == range(2)
    assert table.span(1000, 3500) == range(1, 3)
    with pytest.raises(ValueError, match="no binary form"):
        table.to_bytes()


@pytest.mark.parametrize("length", [0, MAX_CHUNK_BYTES + 1])
def test_chunk_of_impossible_size_is_refused(length: int) -> None:
    with pytest.raises(InvalidContent, match="chunk of"):
        ChunkTable().add(length, 0, bytes(32))


def test_chunk_behind_the_end_is_refused() -> None:
    for start in (10, 11):
        table = ChunkTable()
        table.add(1, start, bytes(32))
        with pytest.raises(InvalidContent, match="behind the end"):
            table.close(10)


def test_addresses_that_are_not_there_are_refused() -> None:
    table = ChunkTable()
    table.add(5, 0, bytes(32))
    for start, stop in ((0, 6), (3, 3), (5, 6)):
        with pytest.raises(InvalidContent, match="no chunks"):
            table.span(start, stop)


def test_damaged_table_is_refused() -> None:
    table, _ = table_of(FORMS["gzip"])
    assert table is not None
    raw = table.to_bytes()
    for wrong in (raw[:-1], raw + b"x", b"X" + raw[1:], raw[:10], io.BytesIO(raw).read(30)):
        with pytest.raises(InvalidContent):
            ChunkTable.from_bytes(wrong)
    assert zlib.crc32(raw) == zlib.crc32(ChunkTable.from_bytes(raw).to_bytes())
