import gzip
import hashlib
import io
import random
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import StorageFailure
from orasfs.oci.digest import Digest
from orasfs.staging.blocks import MOST_BYTES
from orasfs.staging.layerblob import (
    FRAME_BYTES,
    Compression,
    LayerBlob,
    write_layer,
)
from orasfs.staging.tarwriter import FilePiece, Piece
from orasfs.tree.chunktable import ChunkMaker
from orasfs.tree.compression import open_decompressor

_DECOMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: gzip.decompress,
    Compression.ZSTD: zstd.decompress,
    Compression.NONE: bytes,
}


def _open(key: object) -> io.BytesIO:
    assert isinstance(key, bytes)
    return io.BytesIO(key)


def _write(pieces: list[Piece], compression: Compression) -> tuple[bytes, LayerBlob]:
    output = io.BytesIO()
    blob = write_layer(pieces, compression, output, _open)
    return output.getvalue(), blob


_PIECES = st.lists(
    st.binary(max_size=600) | st.binary().map(lambda data: FilePiece(data, len(data), "f"))
)


@pytest.mark.parametrize("compression", Compression)
@given(pieces=_PIECES)
def test_blob_holds_the_pieces_and_has_the_digests_it_says(
    compression: Compression, pieces: list[Piece]
) -> None:
    raw, blob = _write(pieces, compression)
    content = b"".join(
        piece.content if isinstance(piece, FilePiece) else piece  # type: ignore[misc]  # all keys are bytes here
        for piece in pieces
    )
    assert _DECOMPRESS[compression](raw) == content
    assert blob == LayerBlob(Digest.of(raw), len(raw), Digest.of(content), len(content))
    assert _write(pieces, compression)[0] == raw


def test_gzip_header_tells_no_name_no_time_and_no_system() -> None:
    raw, _ = _write([b"x"], Compression.GZIP)
    assert raw[:10].hex() == "1f8b08100000000000ff"


@pytest.mark.parametrize("size", [0, 1, MOST_BYTES, MOST_BYTES + 1, 20 * MOST_BYTES + 5])
def test_gzip_is_the_same_with_many_threads(size: int) -> None:
    data = b"".join(b"%d," % number for number in range(size // 4 + 1))[:size]
    pieces: list[Piece] = [FilePiece(data, size, "f")]
    alone, blob = _write(pieces, Compression.GZIP)
    output = io.BytesIO()
    with ThreadPoolExecutor(3) as executor:
        assert write_layer(pieces, Compression.GZIP, output, _open, executor) == blob
    assert output.getvalue() == alone
    assert gzip.decompress(alone) == data
    inflate = zlib.decompressobj(31)
    assert inflate.decompress(alone) == data  # one member, for readers that take only one
    assert inflate.eof
    assert not inflate.unused_data
    assert len(alone) <= len(gzip.compress(data, 6)) * 1.01 + 120


@pytest.mark.parametrize(
    ("compression", "step"),
    [(Compression.GZIP, MOST_BYTES), (Compression.ZSTD, FRAME_BYTES)],
)
@pytest.mark.parametrize("surplus", [-1, 0, 1])
def test_each_part_can_be_had_without_the_others(
    compression: Compression, step: int, surplus: int
) -> None:
    data = b"".join(b"%d," % number for number in range(step // 2))[: 2 * step + surplus]
    raw, _ = _write([FilePiece(data, len(data), "f")], compression)
    decompressor = open_decompressor(raw)
    maker = ChunkMaker(raw)
    for piece in decompressor.feed(raw):
        maker.take(decompressor.stream_start, piece)
    table = maker.finish(len(raw))
    assert table is not None
    assert [table.length(number) for number in range(len(table))] == [
        min(step, len(data) - start) for start in range(0, len(data), step)
    ]
    start, stop = table.blob_range(1)
    assert [*table.decode(range(1, 2), raw[start:stop])] == [data[step : 2 * step]]


@pytest.mark.parametrize(
    ("compression", "command"), [(Compression.GZIP, "-z"), (Compression.ZSTD, "--zstd")]
)
def test_other_tools_read_it_as_one_stream(
    compression: Compression, command: str, tmp_path: Path
) -> None:
    content = b"".join(b"%d," % number for number in range(1_500_000))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("first", "second"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    raw, _ = _write([buffer.getvalue()], compression)
    (tmp_path / "layer").write_bytes(raw)
    subprocess.run(["tar", "-x", command, "-f", "layer"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "second").read_bytes() == content
    if compression is Compression.GZIP:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r|gz") as archive:
            assert archive.getnames() == ["first", "second"]


def test_zstd_finds_again_what_is_anywhere_in_a_frame() -> None:
    generator = random.Random(5)  # noqa: S311 - repeatable, not secret
    once = generator.randbytes(3 * FRAME_BYTES // 8)
    data = once + bytes(FRAME_BYTES // 4) + once
    raw, _ = _write([FilePiece(data, len(data), "f")], Compression.ZSTD)
    assert len(data) == FRAME_BYTES
    assert len(raw) < 1.1 * len(once)


class _Endless:
    """A content that makes its bytes as they are read, and counts the most that were asked for."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.largest = 0

    def read(self, size: int, /) -> bytes:
        self.largest = max(self.largest, size)
        size = min(size, self._left)
        self._left -= size
        return bytes(size)

    def close(self) -> None:
        self._left = 0


class _Counting:
    def __init__(self) -> None:
        self.largest = 0
        self.hash = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        self.largest = max(self.largest, len(data))
        self.hash.update(data)
        return len(data)


def test_a_large_file_passes_in_chunks() -> None:
    size = 10 * MOST_BYTES + 7
    content, output = _Endless(size), _Counting()
    blob = write_layer(
        [FilePiece("big", size, "big")], Compression.NONE, output, lambda _: content
    )
    assert blob.size == size
    assert content.largest <= MOST_BYTES
    assert output.largest <= MOST_BYTES
    assert output.hash.hexdigest() == blob.digest.hex


def test_many_headers_without_contents_pass_in_chunks() -> None:
    def headers() -> Iterator[bytes]:
        for _ in range(10_000):
            yield bytes(512)

    output = _Counting()
    write_layer(headers(), Compression.NONE, output, _open)
    assert output.largest <= MOST_BYTES


@pytest.mark.parametrize(("size", "word"), [(2, "longer"), (4, "shorter")])
def test_content_of_another_size_than_staged_is_an_error(size: int, word: str) -> None:
    with pytest.raises(StorageFailure, match=f"'docs/f' became {word}"):
        _write([FilePiece(b"abc", size, "docs/f")], Compression.GZIP)


def test_contents_are_closed_even_when_they_fail() -> None:
    content = io.BytesIO(b"abc")
    with pytest.raises(StorageFailure):
        write_layer([FilePiece("f", 9, "f")], Compression.NONE, io.BytesIO(), lambda _: content)
    assert content.closed
