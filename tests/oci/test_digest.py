"""Digests and the check of bytes against them."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import ContentMismatch, InvalidName
from orasfs.oci.digest import Digest, Verifier, verify

HEX64 = "a" * 64


@pytest.mark.parametrize("text", [f"sha256:{HEX64}", f"sha512:{'0' * 128}"])
def test_registered_digests_parse_and_print_as_they_were(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        HEX64,
        f"sha256:{HEX64[1:]}",
        f"sha256:{HEX64}0",
        f"sha256:{HEX64.upper()}",
        f"sha256:{HEX64[1:]}\n",
        f"sha256:{HEX64[1:]}/",
        f"SHA256:{HEX64}",
        f"sha384:{'0' * 96}",
        f"md5:{'0' * 32}",
        f"sha512:{HEX64}",
        f"sha256:../{HEX64[3:]}",
        f"sha256:{'٣' * 64}",
    ],
)
def test_anything_else_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidName, match="digest"):
        Digest.parse(text)


def test_the_error_does_not_repeat_a_huge_input() -> None:
    with pytest.raises(InvalidName) as caught:
        Digest.parse("sha256:" + "z" * 1_000_000)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=200))
def test_parsing_text_gives_a_digest_that_prints_the_same_or_invalid_name(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidName:
        return
    assert str(digest) == text


@given(st.binary(max_size=2000), st.sampled_from(["sha256", "sha512"]))
def test_what_is_computed_parses_and_verifies(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.hex == hashlib.new(algorithm, content).hexdigest()
    verify(content, digest, len(content))


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=5))
def test_the_pieces_of_a_stream_do_not_matter(content: bytes, cuts: list[int]) -> None:
    verifier = Verifier(Digest.of(content), len(content))
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    for start, stop in pairwise(edges):
        verifier.update(memoryview(content)[start:stop])
    verifier.finish()


@given(st.binary(min_size=1, max_size=500), st.data())
def test_one_changed_byte_is_a_mismatch(content: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ContentMismatch, match="the content's digest is"):
        verify(bytes(changed), Digest.of(content), len(content))


def test_missing_bytes_are_a_mismatch_that_tells_both_sizes() -> None:
    with pytest.raises(ContentMismatch, match="2 bytes instead of the 3"):
        verify(b"ab", Digest.of(b"ab"), 3)


def test_too_many_bytes_are_a_mismatch_at_once() -> None:
    verifier = Verifier(Digest.of(b"abc"), 3)
    verifier.update(b"ab")
    with pytest.raises(ContentMismatch, match="more than the 3 bytes"):
        verifier.update(b"cd")
