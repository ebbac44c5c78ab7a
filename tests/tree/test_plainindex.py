"""The short way to an index gives what the long way gives, or nothing."""

import contextlib
import itertools
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.tree import plainindex
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import OWN_BLOB_BYTES, LayerIndex
from orasfs.tree.plainindex import NotPlain, PlainIndex
from orasfs.tree.tocentries import Entry, contents_of, read_entries

HASH = "sha256:" + "5a" * 32
OWN_HASH = "sha256:" + "a5" * 32
PARTS = st.sampled_from(["a", "b", "c", ".d", "é", "a" * 40, "", ".", ".."])
PATHS = st.one_of(st.lists(PARTS, min_size=1, max_size=4).map("/".join), st.just("x" * 300))
TIMES = st.sampled_from(["", "2024-01-01T00:00:00Z", "1969-12-31T23:59:59.5+01:00"])
SIZES = st.sampled_from([0, 1, 1000, OWN_BLOB_BYTES - 1, OWN_BLOB_BYTES])


@st.composite
def members(draw: st.DrawFn) -> list[Entry]:
    """Make a member as tables have it, with chunks if it is a file of several."""
    kind = draw(st.sampled_from(["reg", "reg", "dir", "symlink", "hardlink", "char"]))
    path, time = draw(PATHS), draw(TIMES)
    target = draw(st.one_of(PATHS, st.just("a\0b"), st.just("t" * 5000)))
    mode = draw(st.sampled_from([0o644, 0o4755, 0o100600]))
    first = Entry(name=path, type=kind, modtime=time, mode=mode, link_name=target)
    if kind != "reg":
        return [first]
    first.size, first.digest = draw(SIZES), OWN_HASH
    first.offset, first.chunk_digest = draw(st.integers(0, 900)), HASH
    if first.size < 2 or draw(st.booleans()):
        return [first]
    half = first.size // 2
    kinds = draw(st.lists(st.sampled_from(["", "zeros"]), min_size=2, max_size=2))
    first.chunk_size, first.chunk_type = half, kinds[0]
    last = Entry(name=path, type="chunk", chunk_offset=half, chunk_size=first.size - half)
    last.chunk_digest, last.chunk_type, last.offset = HASH, kinds[1], first.offset
    return [first, last]


@given(st.lists(members(), max_size=8))
def test_index_is_the_one_that_the_builder_makes(made: list[list[Entry]]) -> None:
    entries = list(itertools.chain.from_iterable(made))
    try:
        expected = read_entries(IndexBuilder(), list(entries), 1000)
    except InvalidContent:
        with pytest.raises((InvalidContent, NotPlain)):
            read_entries(PlainIndex(), list(entries), 1000)
        return
    with contextlib.suppress(NotPlain):
        assert read_entries(PlainIndex(), list(entries), 1000).index == expected.index
    contents = contents_of(lambda: list(entries), 1000)
    assert contents.index == expected.index
    assert [contents.chunks.start(n) for n in range(len(contents.chunks))] == [
        expected.chunks.start(n) for n in range(len(expected.chunks))
    ]


def test_ordinary_layer_takes_the_short_way() -> None:
    entries = [
        Entry(name="usr/", type="dir", mode=0o755),
        Entry(name="./usr/file", type="reg", size=5, digest=HASH),
        Entry(name="usr/large", type="reg", size=OWN_BLOB_BYTES, digest=OWN_HASH, offset=9),
        Entry(name="usr/again", type="hardlink", link_name="usr/file"),
        Entry(name="usr/link", type="symlink", link_name="file"),
        Entry(name="usr/", type="dir", mode=0o700),
        Entry(name="not/announced/empty", type="reg"),
        Entry(name="dev/null", type="char"),
    ]
    contents = read_entries(PlainIndex(), list(entries), 1000)
    assert contents.index == read_entries(IndexBuilder(), list(entries), 1000).index
    index = LayerIndex(contents.index)
    found = [index.locate(path) for path in ("usr/file", "usr/again", "usr", "not/announced")]
    assert None not in found
    assert found[0] == found[1]
    assert [index.member(number or 0).link_count for number in found] == [2, 2, 1, 1]
    assert index.member(found[2] or 0).mode == 0o700
    assert index.is_implicit(found[3] or 0)
    assert str(index.blob(0)) == OWN_HASH


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(name="f", type="reg"), Entry(name="f", type="reg")],
        [Entry(name="f", type="reg"), Entry(name="f", type="dir")],
        [Entry(name="d", type="dir"), Entry(name="d", type="reg")],
        [Entry(name="f", type="reg"), Entry(name="f/g", type="reg")],
        [Entry(name="l", type="symlink", link_name="d"), Entry(name="l/g/h", type="dir")],
        [Entry(name="l", type="symlink")],
        [Entry(name="l", type="hardlink", link_name="l")],
        [Entry(name="d", type="dir"), Entry(name="l", type="hardlink", link_name="d")],
        [Entry(name="./", type="reg")],
        [Entry(name="../f", type="reg")],
        [Entry(name="/dev/null", type="char")],
    ],
)
def test_what_depends_on_other_members_is_left_to_the_builder(entries: list[Entry]) -> None:
    with pytest.raises(NotPlain):
        read_entries(PlainIndex(), list(entries), 1000)


def test_layer_of_too_many_members_is_left_to_the_builder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plainindex, "_MOST_MEMBERS", 10)
    for paths in ([f"f{number}" for number in range(20)], ["/".join("d" * 20)]):
        entries = [Entry(name=path, type="reg") for path in paths]
        with pytest.raises(NotPlain):
            read_entries(PlainIndex(), list(entries), 1000)
        index = LayerIndex(contents_of(partial(list, entries), 1000).index)
        assert index.locate(paths[-1]) is not None
