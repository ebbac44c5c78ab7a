"""What staging packs, the reading half takes: the two judge the same trees, written apart."""

import io

from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidInput
from orasfs.staging.layerblob import Compression, write_layer
from orasfs.staging.pack import PackSettings, packed_layer
from orasfs.staging.tree import StagedDirectory, StagedFile, StagedNode, StagedSymlink, walk
from orasfs.tree.layerindex import LayerIndex, Member, MemberKind
from orasfs.tree.packed import check_packed
from orasfs.tree.tar import TarScanner

_NAMES = st.sampled_from(["a", "b", "l", "é" * 60, "n" * 150])
_TARGETS = st.lists(st.sampled_from(["a", "b", "l", "..", "..", ".", ""]), min_size=1).map(
    "/".join
)
_LEAVES: st.SearchStrategy[StagedNode] = st.builds(
    StagedFile, st.just(b"xyz"), st.just(3), st.integers(0, 0o777)
) | st.builds(StagedSymlink, _TARGETS.filter(bool))
_TREES = st.recursive(
    st.builds(StagedDirectory, st.dictionaries(_NAMES, _LEAVES, max_size=3)),
    lambda inner: st.builds(
        StagedDirectory, st.dictionaries(_NAMES, inner | _LEAVES, min_size=1, max_size=4)
    ),
    max_leaves=5,
)


def _open(key: object) -> io.BytesIO:
    assert isinstance(key, bytes)
    return io.BytesIO(key)


def _index(tree: StagedDirectory, title: str, settings: PackSettings) -> LayerIndex:
    output = io.BytesIO()
    layer = packed_layer(title, tree, settings)
    write_layer(layer.pieces(), Compression.NONE, output, _open)
    scanner = TarScanner()
    scanner.feed(output.getvalue())
    return LayerIndex(scanner.finish())


@given(tree=_TREES, title=st.sampled_from(["docs", "a/b", "l"]))
def test_what_is_packed_is_accepted_when_it_is_read(tree: StagedDirectory, title: str) -> None:
    try:
        index = _index(tree, title, PackSettings())
    except InvalidInput:
        return
    check_packed(index, title)


def _expected(node: StagedNode) -> tuple[object, ...]:
    match node:
        case StagedDirectory():
            return (MemberKind.DIRECTORY, node.mode)
        case StagedFile():
            return (MemberKind.FILE, node.mode, node.size)
        case StagedSymlink():
            return (MemberKind.SYMLINK, node.target)
        case _:
            raise AssertionError


def _found(member: Member) -> tuple[object, ...]:
    if member.kind == MemberKind.SYMLINK:
        return (member.kind, member.target)
    if member.kind == MemberKind.FILE:
        return (member.kind, member.mode, member.size)
    return (member.kind, member.mode)


@given(tree=_TREES)
def test_index_of_what_is_packed_has_every_node(tree: StagedDirectory) -> None:
    index = _index(tree, "docs", PackSettings(allow_links=True))
    for path, node in walk("docs", tree):
        ordinal = index.locate(path)
        assert ordinal is not None
        assert _found(index.member(ordinal)) == _expected(node)
    assert index.problems == ()
