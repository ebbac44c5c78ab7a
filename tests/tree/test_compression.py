import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.tree.compression import MAX_PIECE_BYTES, open_decompressor

SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"extra"
FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}


def _decompress(blob: bytes, chunk_size: int = 1 << 20) -> bytes:
    decompressor = open_decompressor(blob[:4])
    pieces: list[bytes] = []
    for start in range(0, len(blob), chunk_size):
        for piece in decompressor.feed(memoryview(blob)[start : start + chunk_size]):
            assert 0 < len(piece) <= MAX_PIECE_BYTES
            pieces.append(bytes(piece))
    decompressor.finish()
    return b"".join(pieces)


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=5000), st.integers(1, 700))
def test_every_format_comes_back_whatever_the_chunks(
    form: str, content: bytes, chunk_size: int
) -> None:
    content = b"some/name" + content
    assert _decompress(FORMATS[form](content), chunk_size) == content


@pytest.mark.parametrize("form", ["gzip", "zstd"])
@pytest.mark.parametrize("chunk_size", [1, 7, 1 << 20])
def test_streams_may_follow_one_another(form: str, chunk_size: int) -> None:
    compress = FORMATS[form]
    blob = compress(b"one") + compress(b"") + compress(b"two" * 1000)
    assert _decompress(blob, chunk_size) == b"one" + b"two" * 1000


@pytest.mark.parametrize("chunk_size", [1, 1 << 20])
def test_skippable_frames_are_skipped(chunk_size: int) -> None:
    blob = SKIPPABLE + zstd.compress(b"one") + SKIPPABLE + zstd.compress(b"two") + SKIPPABLE
    assert _decompress(blob, chunk_size) == b"onetwo"


def test_empty_blob_is_empty() -> None:
    assert _decompress(b"") == b""


@pytest.mark.parametrize("chunk_size", [1, 1 << 20])
def test_zero_padding_behind_gzip_is_tolerated(chunk_size: int) -> None:
    assert _decompress(gzip.compress(b"x") + bytes(1000), chunk_size) == b"x"


@pytest.mark.parametrize("chunk_size", [1, 1 << 20])
@pytest.mark.parametrize("form", ["gzip", "zstd"])
@pytest.mark.parametrize("garbage", [b"garbage behind the stream", b"\0\0\0x", b"\x1f"])
def test_garbage_behind_a_stream_is_refused(form: str, garbage: bytes, chunk_size: int) -> None:
    with pytest.raises(InvalidContent):
        _decompress(FORMATS[form](b"x") + garbage, chunk_size)


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_truncated_stream_is_refused_wherever_it_ends(form: str) -> None:
    blob = FORMATS[form](b"some content " * 50)
    for size in range(4, len(blob)):
        with pytest.raises(InvalidContent, match="truncated"):
            _decompress(blob[:size])


@pytest.mark.parametrize("at", [-8, -4])
def test_wrong_gzip_checksum_or_length_is_refused(at: int) -> None:
    blob = bytearray(gzip.compress(b"some content"))
    blob[at] ^= 1
    with pytest.raises(InvalidContent, match="damaged gzip"):
        _decompress(bytes(blob))


def test_zstd_window_over_128_mib_is_refused() -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    blob = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(InvalidContent, match="too much memory"):
        _decompress(blob)


def test_mutated_streams_raise_nothing_but_invalid_content() -> None:
    source = random.Random(3)  # noqa: S311 - a repeatable fuzz, no secret
    refused = 0
    content = b"".join(source.randbytes(20) * 5 for _ in range(40))
    for compress in (gzip.compress, zstd.compress):
        blob = compress(content) + compress(content)
        for _ in range(1500):
            damaged = bytearray(blob)
            for _ in range(source.randint(1, 3)):
                damaged[source.randrange(4, len(damaged))] = source.randrange(256)
            try:
                _decompress(bytes(damaged), source.choice([1 << 20, 97]))
            except InvalidContent:
                refused += 1
    assert refused > 1000


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_gigabyte_of_zeros_in_a_kilobyte_takes_constant_memory(form: str) -> None:
    blob = _bomb(form)
    tracemalloc.start()
    decompressor = open_decompressor(blob[:4])
    size = sum(len(piece) for piece in decompressor.feed(blob))
    decompressor.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 1 << 30
    assert peak < 8 * MAX_PIECE_BYTES


def test_many_tiny_members_take_linear_time() -> None:
    """A mebibyte of empty members once took seconds: each copied all that followed it."""
    blob = gzip.compress(b"") * 50_000
    assert _decompress(blob) == b""


def _bomb(form: str) -> bytes:
    mebibyte = bytes(1 << 20)
    if form == "gzip":
        gzipper = zlib.compressobj(1, zlib.DEFLATED, 31)
        return b"".join([gzipper.compress(mebibyte) for _ in range(1024)] + [gzipper.flush()])
    packer = zstd.ZstdCompressor()
    return b"".join([packer.compress(mebibyte) for _ in range(1024)] + [packer.flush()])
