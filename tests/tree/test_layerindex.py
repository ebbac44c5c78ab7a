import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import ContentRefused, InvalidContent
from orasfs.tree import indexbuilder
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import HEADER, RECORD, ROOT, Extent, LayerIndex, MemberKind
from tests.support.layers import add, index_of, paths_of


def test_children_are_contiguous_and_in_byte_order() -> None:
    index = index_of("b", "a/", "é", "Z", "a-b", "a/2", "a/10")
    assert [index.name_of(entry) for entry in index.children(ROOT)] == ["Z", "a", "a-b", "b", "é"]
    directory = index.locate("a")
    assert directory is not None
    assert [index.name_of(entry) for entry in index.children(directory)] == ["10", "2"]


def test_member_has_what_the_tar_said() -> None:
    index = index_of("skip", "x/y->../skip")
    ordinal = index.locate("x/y")
    assert ordinal is not None
    member = index.member(ordinal)
    assert (member.kind, member.mode, member.mtime_ns) == (MemberKind.SYMLINK, 0o777, 10**9)
    assert (member.target, member.size, member.link_count) == ("../skip", 7, 1)


def test_find_of_missing_and_of_unencodable_name_is_none() -> None:
    index = index_of("a", "c")
    assert index.find(ROOT, "b") is None
    assert index.find(ROOT, "d") is None
    assert index.find(ROOT, "\ud800") is None
    assert index.locate("a/b") is None


def test_name_that_is_no_utf8_is_found_by_its_surrogate_escapes() -> None:
    builder = IndexBuilder()
    builder.add_file(b"r\xe9", mode=0o644, mtime_ns=0, size=0, extents=())
    index = LayerIndex(builder.finish(0))
    assert index.name_of(0) == "r\udce9"
    assert index.find(ROOT, "r\udce9") == 1


def test_implicit_parent_is_0755_at_the_epoch() -> None:
    index = index_of("x", "a/b/c")
    ordinal = index.locate("a/b")
    assert ordinal is not None
    member = index.member(ordinal)
    assert (member.kind, member.mode, member.mtime_ns) == (MemberKind.DIRECTORY, 0o755, 0)
    assert index.is_implicit(ordinal)


def test_repeated_directory_keeps_its_children_and_takes_the_last_mode() -> None:
    index = index_of("a/b", "a/")
    ordinal = index.locate("a")
    assert ordinal is not None
    assert (index.member(ordinal).mode, index.member(ordinal).mtime_ns) == (0o750, 10**9)
    assert not index.is_implicit(ordinal)
    assert index.locate("a/b") is not None


def test_last_member_of_a_name_wins() -> None:
    index = index_of("a", "a")
    ordinal = index.find(ROOT, "a")
    assert ordinal is not None
    assert index.member(ordinal).mtime_ns == 10**9
    assert index.extents(ordinal) == (Extent(0, 512, 5),)


def test_file_replaces_a_directory_with_all_below_it() -> None:
    assert paths_of(index_of("a/b/c", "a/b/d", "a", "x")) == {"a": "f", "x": "f"}


def test_directory_replaces_a_file_and_a_symlink() -> None:
    assert paths_of(index_of("a", "a/", "a/b", "l->x", "l/", "l/m")) == {
        "a": "d",
        "a/b": "f",
        "l": "d",
        "l/m": "f",
    }


def test_a_directory_that_came_back_does_not_get_its_old_children() -> None:
    assert paths_of(index_of("a/b/c", "a", "a/", "a/d")) == {"a": "d", "a/d": "f"}


def test_rows_say_what_names_and_members_say() -> None:
    index = index_of("d/", "d/f", "d/e/", "d/e/g", "d/link->f", "d/hard=d/f", "h/i", "d/é")
    for path in ("", "d", "d/e", "h", "d/f"):
        directory = index.locate(path)
        assert directory is not None
        expected = []
        for entry in index.children(directory):
            member = index.member(index.resolve(entry))
            name = index.name_of(entry).encode("utf-8", "surrogateescape")
            attributes = member.mode, member.size, member.mtime_ns, member.link_count
            expected.append((name, member.ordinal, member.kind, *attributes))
        assert list(index.rows(directory)) == expected
        assert list(index.rows(directory, 2)) == expected[2:]
        assert list(index.rows(directory, 100)) == []


def test_hard_links_are_one_ordinal_with_a_link_count() -> None:
    index = index_of("b", "a=b", "z/c=a")
    ordinals = {index.locate(path) for path in ("a", "b", "z/c")}
    assert len(ordinals) == 1
    ordinal = ordinals.pop()
    assert ordinal is not None
    assert index.member(ordinal).link_count == 3
    assert [index.name_of(entry) for entry in index.children(ROOT)] == ["a", "b", "z"]
    assert [index.resolve(entry) for entry in index.children(ROOT)[:2]] == [ordinal, ordinal]


def test_hard_link_outlives_the_name_it_was_made_from() -> None:
    index = index_of("b", "a=b", "b")
    first, second = index.locate("a"), index.locate("b")
    assert first is not None
    assert second is not None
    assert index.extents(first) == (Extent(0, 0, 5),)
    assert index.extents(second) == (Extent(0, 1024, 5),)
    assert index.member(first).link_count == 1


def test_hard_link_to_a_symlink_is_that_symlink() -> None:
    index = index_of("l->t", "m=l")
    ordinal = index.locate("m")
    assert ordinal is not None
    assert (index.member(ordinal).target, index.member(ordinal).link_count) == ("t", 2)
    assert index.problems == ()


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (("/etc/passwd",), "absolute path '/etc/passwd'"),
        (("../x",), "leaves the directory: '../x'"),
        (("a/../../x",), "leaves the directory"),
        (("a=b",), "no earlier file 'b'"),
        (("d/", "a=d"), "no earlier file 'd'"),
        (("a=../b",), "leaves the directory: '../b'"),
        (("l->d", "l/x"), "no symbolic link allowed on the way to 'l/x'"),
        (("f", "f/x"), "not a directory: 'f' on the way to 'f/x'"),
        (("x" * 256,), "name over 255 bytes"),
        (("y/" * 2048 + "z",), "path of 4097 bytes"),
        (("l->",), "no valid target"),
        (("l->" + "t" * 4096,), "no valid target"),
        (("./->x",), "not a directory: the top of the archive"),
    ],
)
def test_harmful_member_is_a_problem_and_left_out(paths: tuple[str, ...], problem: str) -> None:
    index = index_of(*paths)
    assert len(index.problems) == 1
    assert problem in index.problems[0]
    assert paths[0 if len(paths) == 1 else 1] not in paths_of(index)


def test_hard_link_to_a_later_member_is_a_problem() -> None:
    index = index_of("a=b", "b")
    assert index.problems == ("hard link 'a': no earlier file 'b'",)
    assert paths_of(index) == {"b": "f"}


def test_only_the_first_hundred_problems_are_kept() -> None:
    assert len(index_of(*("/x",) * 300).problems) == 100


def test_sparse_file_keeps_its_extents() -> None:
    builder = IndexBuilder()
    extents = (Extent(10, 1000, 5), Extent(30, 1005, 5))
    builder.add_file(b"s", mode=0o644, mtime_ns=0, size=100, extents=extents)
    builder.add_file(b"hole", mode=0o644, mtime_ns=0, size=100, extents=())
    index = LayerIndex(builder.finish(2000))
    assert index.extents(1) == extents
    assert index.extents(2) == ()
    assert index.member(2).size == 100


def test_extents_of_a_directory_and_of_an_empty_file_are_none() -> None:
    builder = IndexBuilder()
    builder.add_file(b"empty", mode=0o644, mtime_ns=0, size=0, extents=())
    index = LayerIndex(builder.finish(0))
    assert index.extents(ROOT) == ()
    assert index.extents(1) == ()


def test_ordinals_out_of_range_are_index_errors() -> None:
    index = index_of("a")
    for number in (-1, 2, 10**9):
        with pytest.raises(IndexError):
            index.member(number)


def test_repr_tells_the_size() -> None:
    assert repr(index_of("a")) == "LayerIndex(ordinals=2, tar_size=1048576)"


def test_truncated_or_lengthened_index_is_invalid() -> None:
    built = bytes(_sample())
    for size in range(len(built)):
        with pytest.raises(InvalidContent):
            LayerIndex(built[:size])
    with pytest.raises(InvalidContent):
        LayerIndex(built + b"x")


def test_changed_header_is_invalid() -> None:
    built = _sample()
    for position in range(HEADER.size):
        damaged = bytearray(built)
        damaged[position] ^= 0x40
        with pytest.raises(InvalidContent):
            LayerIndex(bytes(damaged))


def test_root_that_is_no_directory_is_invalid() -> None:
    built = _sample()
    built[HEADER.size + RECORD.size - 2] = 2
    with pytest.raises(InvalidContent, match="root"):
        LayerIndex(bytes(built))


def test_walk_over_a_damaged_index_ends_with_invalid_content_or_nothing() -> None:
    """Whatever bits flip behind the header: no other exception, no endless walk."""
    source = random.Random(7)  # noqa: S311 - a repeatable fuzz, no secret
    built = _sample()
    failures = 0
    for _ in range(3000):
        damaged = bytearray(built)
        for _ in range(source.randint(1, 4)):
            damaged[source.randrange(HEADER.size, len(damaged))] = source.randrange(256)
        try:
            index = LayerIndex(bytes(damaged))
            assert isinstance(index.problems, tuple)
            _walk(index)
        except InvalidContent:
            failures += 1
    assert failures > 100


def test_header_of_an_impossible_count_is_invalid() -> None:
    fields = [b"ORASFSLI", 2, RECORD.size, 2**60, 0, 0, 0, 0, 0, 0, 0]
    head = struct.pack("<8sIIQQQQQQQQ", *fields)
    with pytest.raises(InvalidContent):
        LayerIndex(head + struct.pack("<I", zlib.crc32(head)) + bytes(100))


_NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
_MEMBERS = st.one_of(
    _NAMES,
    _NAMES.map(lambda path: path + "/"),
    st.tuples(_NAMES, _NAMES).map("=".join),
    _NAMES.map(lambda path: path + "->x"),
)


@given(st.lists(_MEMBERS, max_size=12))
def test_every_sequence_of_members_gives_a_sound_index(members: list[str]) -> None:
    index = index_of(*members)
    counts: dict[int, int] = {}
    for path, kind in paths_of(index).items():
        ordinal = index.locate(path)
        assert ordinal is not None
        if kind != "d":
            counts[ordinal] = counts.get(ordinal, 0) + 1
    assert all(index.member(number).link_count == count for number, count in counts.items())


@given(st.lists(_MEMBERS, max_size=12))
def test_index_is_what_a_model_of_extraction_leaves(members: list[str]) -> None:
    assert paths_of(index_of(*members)) == _extracted(members)


def _extracted(members: list[str]) -> dict[str, str]:
    """Extract in order into a dictionary, leaving out what could not be made."""
    tree: dict[str, str] = {}
    for text in members:
        path, target = text.rstrip("/"), ""
        kind = "d" if text.endswith("/") else "f"
        if "->" in text:
            path, kind = text.partition("->")[0], "l"
        elif "=" in text:
            path, _, target = text.partition("=")
            kind = tree.get(target, "d")
            if kind == "d":
                continue
        parents = [path[:at] for at, letter in enumerate(path) if letter == "/"]
        made: dict[str, str] = {}
        for parent in parents:
            if tree.get(parent, "d") != "d":
                break
            made[parent] = "d"
        else:
            tree |= made
            if kind != "d" and tree.get(path) == "d":
                tree = {name: k for name, k in tree.items() if not name.startswith(path + "/")}
            tree[path] = kind
            continue
        tree |= made
    return tree


def _sample() -> bytearray:
    builder = IndexBuilder()
    for number, path in enumerate(("d/", "d/a", "d/b=d/a", "d/l->a", "e/f/g", "/bad", "h")):
        add(builder, path, number)
    extents = (Extent(10, 1000, 5), Extent(30, 1005, 5))
    builder.add_file(b"s", mode=0o644, mtime_ns=0, size=100, extents=extents)
    return bytearray(builder.finish(1 << 20))


def _walk(index: LayerIndex) -> None:
    stack = [ROOT]
    while stack:
        ordinal = stack.pop()
        for entry in index.children(ordinal):
            name = index.name_of(entry)
            index.find(ordinal, name)
            found = index.resolve(entry)
            member = index.member(found)
            index.extents(found)
            if member.kind == MemberKind.DIRECTORY:
                stack.append(found)


def test_top_of_the_archive_takes_its_mode_from_its_member() -> None:
    index = index_of("a", "./")
    assert (index.member(ROOT).mode, index.member(ROOT).mtime_ns) == (0o750, 10**9)
    assert not index.is_implicit(ROOT)


def test_ordinals_are_those_of_the_tar_whatever_the_names_are() -> None:
    """So a member's number is known when it passes, and when its layer is read again."""
    index = index_of("z", "b/c", "a", "m=z")
    numbers = [index.locate(path) for path in ("z", "b", "b/c", "a", "m")]
    assert numbers == [1, 2, 3, 4, 1]


def test_directory_that_leaves_the_archive_is_a_problem() -> None:
    index = index_of("../d/", "f", "f/d/")
    assert len(index.problems) == 2
    assert paths_of(index) == {"f": "f"}


def test_damaged_problems_are_invalid() -> None:
    damaged = _sample()
    at = damaged.rindex(b"absolute path") - 4
    damaged[at : at + 4] = b"\x1b\0\0\0"
    with pytest.raises(InvalidContent, match="damaged problems"):
        LayerIndex(bytes(damaged)).problems  # noqa: B018 - the property raises


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_MEMBERS", 3, "more than 3 members"),
        ("MAX_TEXT_BYTES", 5, "more than 5 bytes of names and targets"),
        ("MAX_EXTENTS", 1, "more than 1 segments"),
    ],
)
def test_limits_are_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str
) -> None:
    monkeypatch.setattr(indexbuilder, limit, value)
    builder = IndexBuilder()
    extents: tuple[Extent, ...] = (Extent(1, 0, 1), Extent(3, 1, 1))
    if limit != "MAX_EXTENTS":
        extents = ()
        for name in (b"a", b"bb", b"cc")[: 3 if limit == "MAX_MEMBERS" else 2]:
            builder.add_file(name, mode=0o644, mtime_ns=0, size=9, extents=extents)
    with pytest.raises(ContentRefused, match=message):
        builder.add_file(b"dddd", mode=0o644, mtime_ns=0, size=9, extents=extents)


def test_repetitions_of_a_member_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of gzip holds millions of headers of one name, each of which takes memory."""
    monkeypatch.setattr(indexbuilder, "MAX_MEMBERS", 3)
    with pytest.raises(ContentRefused, match="repetitions"):
        index_of(*["a"] * 10)


_ODD = st.sampled_from(["a", "b", "a", "", ".", "..", ".c", "n\0l", "x" * 130, "y" * 256])
_PARENTS = st.one_of(st.lists(_ODD, max_size=3), st.just([""]))
_SIBLINGS = st.lists(st.tuples(_PARENTS, st.lists(_ODD, min_size=1, max_size=4)), max_size=5).map(
    lambda groups: [
        "/".join([*parent, name]) + tail
        for parent, names in groups
        for name, tail in zip(names, ("", "/", "->a", "=b"), strict=False)
    ]
)


@given(_SIBLINGS)
def test_files_beside_one_another_are_where_each_would_be_alone(paths: list[str]) -> None:
    """Most files are where the last one was, which is not looked for anew."""
    found = index_of(*paths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexbuilder, "_MOST_QUICK_BYTES", -1)
        assert found.buffer == index_of(*paths).buffer
