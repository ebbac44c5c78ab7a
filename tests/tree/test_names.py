import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import ContentRefused
from orasfs.tree.names import MAX_TITLE_DEPTH, clean_path, clean_title, show


@pytest.mark.parametrize(
    ("title", "path"),
    [
        ("f", "f"),
        ("./f", "f"),
        ("docs/", "docs"),
        ("a//b/./c", "a/b/c"),
        ("a/../b", "b"),
        ("", ""),
        (".", ""),
        ("./", ""),
        ("a/..", ""),
        ("...", "..."),
        ("..a", "..a"),
        ("tab\there", "tab\there"),
        ("new\nline", "new\nline"),
        ("back\\slash", "back\\slash"),
        ("é" * 127, "é" * 127),
        (".oras", ".oras"),
    ],
)
def test_title_is_cleaned(title: str, path: str) -> None:
    assert clean_title(title) == path


@pytest.mark.parametrize(
    "title",
    ["/", "/etc/passwd", "//x", "..", "../x", "a/../../x", "./..", "x\0y", "\0", "é" * 128],
)
def test_title_that_leaves_the_artifact_is_refused(title: str) -> None:
    with pytest.raises(ContentRefused, match="path traversal disallowed"):
        clean_title(title)


def test_title_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ContentRefused, match="not valid Unicode"):
        clean_title("a\ud800")


def test_title_of_too_many_directories_is_refused() -> None:
    clean_title("/".join("a" * MAX_TITLE_DEPTH))
    with pytest.raises(ContentRefused, match="directories within one another"):
        clean_title("/".join("a" * (MAX_TITLE_DEPTH + 1)))


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "c d"]), max_size=8).map("/".join))
def test_cleaned_path_is_the_normalized_one_or_refused(text: str) -> None:
    normal = posixpath.normpath(text) if text else "."
    try:
        cleaned = clean_path(text.encode()).decode()
    except ContentRefused:
        assert text.startswith("/") or normal.split("/")[0] == ".."
        return
    assert cleaned == ("" if normal == "." else normal)


@given(st.binary(max_size=40))
def test_cleaned_path_stays_inside_whatever_the_bytes(raw: bytes) -> None:
    try:
        parts = clean_path(raw).split(b"/")
    except ContentRefused as error:
        str(error).encode()
        return
    assert b".." not in parts
    assert b"." not in parts
    assert parts == [b""] or b"" not in parts


def test_shown_path_is_short_and_printable() -> None:
    assert show(b"\xff\n") == "'\\\\xff\\n'"
    assert len(show(b"x" * 5000)) < 210
