"""The index of a gzip file, as other tools write it."""

import io
import struct

import pytest

from orasfs.errors import InvalidContent
from orasfs.tree.gzidx import Point, read_points

WINDOW = bytes(range(256)) * 128


def written(version: int = 1, window: int = 32768) -> bytes:
    """Return an index with three points, of which the second one has a window."""
    head = struct.pack("<5sBBQQIII", b"GZIDX", version, 0, 900, 5000, 1000, window, 3)
    places = ((10, 0, 0, False), (301, 1500, 3, True), (600, 3000, 0, False))
    body = b"".join(
        struct.pack("<QQB", *place) + (b"" if version == 0 else bytes([has_window]))
        for *place, has_window in places
    )
    return head + body + WINDOW * (1 if version else 2)


def test_points_are_what_was_written() -> None:
    size, points = read_points(io.BytesIO(written()))
    assert size == 5000
    assert [*points] == [
        Point(0, 80, b""),
        Point(1500, 301 * 8 - 3, WINDOW),
        Point(3000, 4800, b""),
    ]


def test_in_the_first_version_all_points_but_the_first_have_windows() -> None:
    _, points = read_points(io.BytesIO(written(version=0)))
    assert [len(point.window) for point in points] == [0, 32768, 32768]


@pytest.mark.parametrize(
    "wrong",
    [b"", b"X" + written()[1:], written(version=2), written(window=1 << 30), written()[:-1]],
    ids=["empty", "magic", "version", "window", "truncated"],
)
def test_another_file_is_refused(wrong: bytes) -> None:
    with pytest.raises(InvalidContent, match="gzip index"):
        [*read_points(io.BytesIO(wrong))[1]]
