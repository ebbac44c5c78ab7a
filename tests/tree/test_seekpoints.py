"""Deflate that begins at any bit, and the windows that are kept for it."""

import gzip
import os
import zlib

import pytest

from orasfs.errors import InvalidContent
from orasfs.tree.seekpoints import WINDOW_BYTES, Windows, inflate

TEXT = b"".join(b"%d is not %d\n" % (number, number * number) for number in range(20_000))


def deflate(content: bytes, window: bytes = b"", level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, window)
    return packer.compress(content) + packer.flush()


def at_bit(bit: int, content: bytes) -> bytes:
    """Return deflate of text (which has no stored blocks) that begins at a bit."""
    raw = deflate(content)
    moved = int.from_bytes(raw, "little") << bit | (1 << bit) - 1
    return moved.to_bytes(len(raw) + 1, "little")


@pytest.mark.parametrize("bit", range(8))
def test_block_begins_at_any_bit(bit: int) -> None:
    found = b"".join(inflate(memoryview(at_bit(bit, TEXT)), bit, b"whatever is before"))
    assert found == TEXT


def test_window_is_what_is_before() -> None:
    window = os.urandom(WINDOW_BYTES)
    raw = memoryview(deflate(window[::-1] + window, window))
    assert b"".join(inflate(raw, 0, window)) == window[::-1] + window
    short = memoryview(deflate(window[-100:] * 2, window[-100:]))
    assert b"".join(inflate(short, 0, window[-100:])) == window[-100:] * 2


def test_members_that_follow_are_decoded() -> None:
    blob = gzip.compress(TEXT) + gzip.compress(b"more") + gzip.compress(TEXT, 0)
    assert b"".join(inflate(memoryview(blob)[10:], 0, b"")) == TEXT + b"more" + TEXT


@pytest.mark.parametrize("behind", [b"", b"1234", b"12345678", b"12345678\0\0", bytes(5000)])
def test_nothing_else_is(behind: bytes) -> None:
    assert b"".join(inflate(memoryview(deflate(TEXT) + behind), 0, b"")) == TEXT


def test_pieces_are_small_whatever_comes_out() -> None:
    raw = memoryview(deflate(bytes(64 << 20)))
    assert max(map(len, inflate(raw, 0, b""))) <= 1 << 20


def test_what_is_no_block_is_refused() -> None:
    for wrong in (b"\xff" * 100, b"\x06" + bytes(100), deflate(TEXT)[50:]):
        with pytest.raises(InvalidContent, match="damaged deflate"):
            [*inflate(memoryview(wrong), 0, b"")]
    assert [*inflate(memoryview(b""), 3, b"")] == []


def test_windows_are_what_was_added() -> None:
    added = [b"", bytes(WINDOW_BYTES), b"", os.urandom(WINDOW_BYTES), b"x"]
    windows = Windows()
    for window in added:
        windows.add(window)
    again = Windows.from_bytes(memoryview(windows.to_bytes()), len(added))
    for each in (windows, again):
        assert [each.window(number) for number in range(len(added))] == added
    assert len(windows.to_bytes()) < 1.02 * WINDOW_BYTES, "zeros take nothing"


def test_damaged_windows_are_refused() -> None:
    windows = Windows()
    windows.add(TEXT[:WINDOW_BYTES])
    raw = windows.to_bytes()
    for place in range(8, len(raw), 50):
        wrong = raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :]
        with pytest.raises(InvalidContent, match="window"):
            Windows.from_bytes(wrong, 1).window(0)
    for other in (raw[:-1], raw + b"x", b"", raw[:4]):
        with pytest.raises(InvalidContent, match="windows"):
            Windows.from_bytes(other, 1)


def test_window_that_is_too_large_is_refused() -> None:
    windows = Windows()
    windows.add(bytes(WINDOW_BYTES + 1))
    with pytest.raises(InvalidContent, match="too large"):
        windows.window(0)
