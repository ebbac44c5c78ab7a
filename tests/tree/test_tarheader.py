"""Header blocks: numbers are the same however they are read, and sums are exact."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.tree import tarheader
from orasfs.tree.tarheader import BLOCK, Header, parse_header

_NEVER = re.compile(rb"(?!)")
_ENDS = st.sampled_from([b"", b"\0", b" ", b" \0", b"\0 ", b"  "])


def _field(width: int) -> st.SearchStrategy[bytes]:
    """Return what programs write into a field, and what they should not."""
    digits = st.text("01234567", min_size=width - 2, max_size=width).map(str.encode)
    usual = st.builds(lambda number, end: number[: width - len(end)] + end, digits, _ENDS)
    strange = st.text("0178 \0_+-xob\x80\xff", min_size=width, max_size=width)
    filled = st.one_of(usual, strange.map(lambda text: text.encode("latin-1")))
    return filled.map(lambda field: field[:width].ljust(width, b"\0"))


def _block(mode: bytes, size: bytes, mtime: bytes, end: bytes = b"\0 ", error: int = 0) -> bytes:
    block = bytearray(b"name".ljust(100, b"\0") + mode + b"0" * 16 + size + mtime)
    block += b" " * 8 + b"0" + b"\xe9" * (BLOCK - 157)
    block[148:156] = (b"%06o" % (sum(block) + error)) + end
    return bytes(block)


def _parsed(block: bytes) -> Header | str:
    try:
        return parse_header(block, 512)
    except InvalidContent as error:
        return str(error)


@settings(max_examples=300)
@given(
    fields=st.tuples(_field(8), _field(12), _field(12)),
    end=st.sampled_from([b"\0 ", b" \0", b"\0\0", b"  ", b"\0x"]),
    error=st.sampled_from([0, 0, 0, 1, 65521, -65521]),
)
def test_numbers_are_the_same_in_the_usual_form_and_in_any(
    fields: tuple[bytes, bytes, bytes], end: bytes, error: int
) -> None:
    block = _block(*fields, end, error)
    found = _parsed(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarheader, "_PLAIN", _NEVER)
        assert _parsed(block) == found


def test_usual_form_is_what_programs_write() -> None:
    plain = _block(b"0000644\0", b"00000001234\0", b"14524770000\0")
    header = parse_header(plain, 0)
    assert (header.mode, header.size, header.mtime) == (0o644, 0o1234, 0o14524770000)
    spaced = _block(b"000644 \0", b"00000001234 ", b"14524770000 ")  # as BSD does
    assert parse_header(spaced, 0)[3:6] == header[3:6]


@pytest.mark.parametrize("error", [1, -1, 256, 65521, -65521])
def test_sum_that_is_not_the_sum_is_refused(error: int) -> None:
    block = _block(b"0000644\0", b"00000001234\0", b"14524770000\0", error=error)
    with pytest.raises(InvalidContent, match="wrong checksum"):
        parse_header(block, 0)


def test_sum_of_the_highest_bytes_is_right() -> None:
    block = bytearray(b"\xff" * BLOCK)
    block[100:108], block[124:136], block[136:148] = b"0000644\0", b"0" * 12, b"0" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert parse_header(bytes(block), 0).name == b"\xff" * 100
