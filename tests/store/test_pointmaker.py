"""Seek points: what is made from any of them is what a decoder from the top makes."""

import contextlib
import gzip
import hashlib
import random
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from isal import igzip

from orasfs.errors import ContentMismatch, InvalidContent
from orasfs.store.packed import pointfile, pointmaker
from orasfs.store.packed.pointmaker import make_small_table, make_table
from orasfs.tree.chunktable import ChunkTable

KIB = 1024


def varied(seed: int, size: int) -> bytes:
    """Return what makes all kinds of blocks: noise, text, repetitions near and far, zeros."""
    chosen = random.Random(seed)  # noqa: S311 - repeatable, not secret
    words = [chosen.randbytes(chosen.randint(2, 9)) for _ in range(500)]
    made = bytearray()
    while len(made) < size:
        length = chosen.randint(1, 120 * KIB)
        kind = chosen.randrange(5)
        if kind == 0:
            made += chosen.randbytes(length)
        elif kind == 1:
            made += b" ".join(chosen.choices(words, k=length // 6))
        elif kind == 2:
            made += chosen.randbytes(chosen.randint(1, 300)) * (length // 100)
        elif kind == 3:
            made += bytes(length * 3)
        else:
            made += made[-chosen.randint(1, 32 * KIB) :]
    return bytes(made[:size])


def deflated(
    level: int, strategy: int, memory: int, flush: int, step: int = 50_000
) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        packer = zlib.compressobj(level, zlib.DEFLATED, 31, memory, strategy)
        made = bytearray()
        for start in range(0, len(content), step):
            made += packer.compress(content[start : start + step])
            if flush:
                made += packer.flush(flush)
        return bytes(made + packer.flush())

    return pack


def members(content: bytes) -> bytes:
    step = 1_300_000
    return b"".join(gzip.compress(content[at : at + step]) for at in range(0, len(content), step))


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "stored": deflated(0, 0, 8, 0),
    "fast": deflated(1, 0, 8, 0),
    "usual": deflated(6, 0, 8, 0),
    "best": deflated(9, 0, 9, 0),
    "small-blocks": deflated(6, 0, 1, 0),
    "fixed": deflated(6, zlib.Z_FIXED, 8, 0),
    "huffman": deflated(6, zlib.Z_HUFFMAN_ONLY, 8, 0),
    "runs": deflated(6, zlib.Z_RLE, 8, 0),
    "synced": deflated(6, 0, 8, zlib.Z_SYNC_FLUSH),
    "fully-flushed": deflated(6, 0, 8, zlib.Z_FULL_FLUSH),
    "partly-flushed": deflated(4, 0, 8, zlib.Z_PARTIAL_FLUSH),
    "isal": lambda content: igzip.compress(content, 2),
    "named": lambda content: (
        b"\x1f\x8b\x08\x08" + bytes(6) + b"a name\0" + gzip.compress(content)[10:]
    ),
    "members": members,
}


def made(tmp_path: Path, blob: bytes, tar: bytes, spacing: int = 64 * KIB) -> ChunkTable:
    path = tmp_path / "blob"
    path.write_bytes(blob)
    with path.open("rb") as file, tempfile.TemporaryFile() as scratch:
        return make_table(file.fileno(), scratch, hashlib.sha256(tar).hexdigest(), spacing)


@pytest.mark.parametrize("way", WAYS)
def test_every_chunk_is_made_of_its_part_of_the_blob(tmp_path: Path, way: str) -> None:
    tar = varied(list(WAYS).index(way), 5_000_000)
    blob = WAYS[way](tar)
    table = made(tmp_path, blob, tar)
    again = ChunkTable.from_bytes(memoryview(table.to_bytes()))
    assert again.to_bytes() == table.to_bytes()
    assert again.size == table.size == len(tar)
    assert len(again) > 5
    for number in range(len(again)):
        start, stop = again.blob_range(number)
        assert (start, stop) == table.blob_range(number)
        (chunk,) = again.decode(range(number, number + 1), memoryview(blob)[start:stop])
        assert chunk == tar[again.start(number) :][: again.length(number)]


@pytest.mark.parametrize("way", ["usual", "stored", "members"])
def test_wrong_bit_is_never_a_wrong_byte(tmp_path: Path, way: str) -> None:
    tar = varied(3, 2_000_000)
    blob = WAYS[way](tar)
    raw = made(tmp_path, blob, tar).to_bytes()
    chosen = random.Random(1)  # noqa: S311 - places, not secrets
    found = 0
    for _ in range(40):
        wrong_blob, wrong_raw = bytearray(blob), bytearray(raw)
        wrong = chosen.choice((wrong_blob, wrong_raw))
        wrong[chosen.randrange(len(wrong))] ^= 1 << chosen.randrange(8)
        try:
            table = ChunkTable.from_bytes(bytes(wrong_raw))
            for number in range(len(table)):
                start, stop = table.blob_range(number)
                (chunk,) = table.decode(range(number, number + 1), bytes(wrong_blob[start:stop]))
                if wrong is wrong_blob:
                    assert chunk == tar[table.start(number) :][: table.length(number)]
        except (ContentMismatch, InvalidContent):
            found += 1
    assert found > 20


def test_points_that_do_not_make_the_tar_are_refused(tmp_path: Path) -> None:
    tar = varied(5, 1_000_000)
    with pytest.raises(ContentMismatch, match="not its tar"):
        made(tmp_path, gzip.compress(tar), tar + b"x")


@pytest.mark.parametrize(
    "blob",
    [
        *(gzip.compress(b"short"), gzip.compress(bytes(100)) * 3, b"\x1f\x8b no gzip"),
        *(bytes(100_000), gzip.compress(varied(1, 1_000_000)) + bytes(5000)),
    ],
    ids=["short", "one chunk", "damaged", "another", "padded"],
)
def test_what_has_no_points_is_refused(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(InvalidContent):
        made(tmp_path, blob, b"")


def test_truncated_blob_is_refused(tmp_path: Path) -> None:
    tar = varied(7, 2_000_000)
    with pytest.raises((InvalidContent, ContentMismatch)):
        made(tmp_path, gzip.compress(tar)[:-50_000], tar)


def test_points_are_fewer_where_they_would_take_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of so small a blob, those that are mebibytes apart are the same.
    monkeypatch.setattr(pointmaker, "SPACINGS_BYTES", (256 * KIB, 512 * KIB, 1024 * KIB))
    tar = varied(8, 12_000_000)
    path = tmp_path / "blob"
    path.write_bytes(gzip.compress(tar))
    digest = hashlib.sha256(tar).hexdigest()
    with path.open("rb") as file:
        most = 1 << 30
        sizes = []
        with contextlib.suppress(InvalidContent):
            while True:
                table = make_small_table(file.fileno(), str(tmp_path), digest, most)
                sizes.append(len(ChunkTable.from_bytes(table)))
                most = len(table) - 1
    assert len(sizes) == 3
    assert sizes == sorted(sizes, reverse=True)


def test_file_is_what_was_written_or_is_not_there(tmp_path: Path) -> None:
    tar = varied(6, 1_000_000)
    raw = made(tmp_path, gzip.compress(tar), tar).to_bytes()
    path = tmp_path / pointfile.NAME
    assert pointfile.size_of(tmp_path) is None
    assert pointfile.open_points(tmp_path) is None
    path.write_bytes(pointfile.seal(raw))
    opened = pointfile.open_points(tmp_path)
    assert opened is not None
    assert opened.to_bytes() == raw
    sealed = pointfile.seal(raw)
    flipped = sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:]
    for wrong in (b"", b"x", sealed[:-1], sealed + b"x", flipped, pointfile.seal(raw[:-1])):
        path.unlink()  # what is mapped stays as it is
        path.write_bytes(wrong)
        assert pointfile.open_points(tmp_path) is None
    assert opened.to_bytes() == raw


ENDING = """
import sys
from orasfs.store.packed import pointmaker
pointmaker._MEMORY_BYTES = int(sys.argv[2])
print("begun", flush=True)
pointmaker._end_with_reason(int(sys.argv[1]))
"""


@pytest.mark.parametrize("reason", ["daemon is gone", "blob was evicted", "memory"])
def test_process_ends_with_its_reason(tmp_path: Path, reason: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"blob")
    memory = "1" if reason == "memory" else str(2**40)
    with path.open("rb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", ENDING, str(file.fileno()), memory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(file.fileno(),),
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"begun\n"
            if reason == "daemon is gone":
                process.stdin.close()
            elif reason == "blob was evicted":
                path.unlink()
            assert process.wait(30) == 1
        finally:
            process.kill()
