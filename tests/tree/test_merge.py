from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.merge import (
    Indexes,
    Located,
    MemberOf,
    MergedDirectory,
    attributes,
    enter,
    entries,
    find,
    required_layers,
    sole_branch,
)
from orasfs.tree.node import Broken, Directory, Node, RawFile
from tests.support.layers import index_of, packed_layer, paths_of

RAW = RawFile(Descriptor("text/plain", Digest.of(b"x"), 1))


def _image(*layers: Sequence[str]) -> tuple[MergedDirectory, Indexes]:
    """Return the root of an image of layers, the lowest first, and their indexes."""
    packed = [packed_layer(str(number), has_whiteouts=True) for number in range(len(layers))]
    indexes = {layer: index_of(*paths) for layer, paths in zip(packed, layers, strict=True)}
    return enter(Directory(packed=tuple(reversed(packed)))), indexes


def _check_sole(directory: MergedDirectory, indexes: Indexes) -> None:
    """Check that a directory which is said to be one layer's has that layer's entries."""
    branch = sole_branch(directory, indexes)
    if branch is not None:
        rows = indexes[branch.layer].children(branch.ordinal)
        names = [indexes[branch.layer].name_of(entry) for entry in rows]
        assert names == [name for name, _ in entries(directory, indexes)]


def _walk(directory: MergedDirectory, indexes: Indexes, prefix: str = "") -> dict[str, Located]:
    _check_sole(directory, indexes)
    found: dict[str, Located] = {}
    names: list[bytes] = []
    for name, located in entries(directory, indexes):
        assert find(directory, name, indexes) == located
        names.append(name.encode("utf-8", "surrogateescape"))
        found[prefix + name] = located
        if isinstance(located, MergedDirectory):
            found |= _walk(located, indexes, prefix + name + "/")
    assert names == sorted(names)
    return found


def _names(directory: MergedDirectory, indexes: Indexes) -> set[str]:
    return set(_walk(directory, indexes))


def test_packed_directory_shows_what_is_below_its_root() -> None:
    layer = packed_layer("docs", root="docs")
    root = enter(Directory({"docs": Directory(packed=(layer,))}))
    assert required_layers(root) == ()
    docs = find(root, "docs", {})
    assert isinstance(docs, MergedDirectory)
    assert docs.pending == (layer,)
    assert required_layers(docs) == (layer,)
    indexes = {layer: index_of("docs/", "docs/a", "docs/sub/b")}
    assert _names(docs, indexes) == {"a", "sub", "sub/b"}


def test_attributes_come_from_the_root_member_once_its_index_is_known() -> None:
    layer = packed_layer("docs", root="docs")
    docs = find(enter(Directory({"docs": Directory(packed=(layer,), mtime_ns=5)})), "docs", {})
    assert isinstance(docs, MergedDirectory)
    assert (docs.mode, docs.mtime_ns) == (0o755, 5)
    assert attributes(docs, {}) == (0o755, 5)
    assert attributes(docs, {layer: index_of("x", "docs/")}) == (0o750, 10**9)
    assert attributes(docs, {layer: index_of("docs/a")}) == (0o755, 5)


def test_missing_root_is_an_empty_directory() -> None:
    layer = packed_layer("docs", root="docs")
    docs = enter(Directory(packed=(layer,)))
    assert _names(docs, {layer: index_of()}) == set()
    assert _names(docs, {layer: index_of("docs")}) == set()


def test_raw_title_inside_a_packed_directory_merges_and_goes_first() -> None:
    layer = packed_layer("docs", root="docs")
    static: dict[str, Node] = {"raw": RAW, "a": Broken("why"), "sub": Directory({"deep": RAW})}
    docs = enter(Directory(static, packed=(layer,)))
    indexes = {layer: index_of("docs/a/b", "docs/raw", "docs/sub/c", "docs/z")}
    walked = _walk(docs, indexes)
    assert set(walked) == {"a", "raw", "sub", "sub/c", "sub/deep", "z"}
    assert walked["raw"] == RAW
    assert walked["a"] == Broken("why")


def test_packed_directory_inside_another_goes_before_it() -> None:
    outer, inner = packed_layer("outer", root="d"), packed_layer("inner", root="d/e")
    root = enter(Directory({"e": Directory(packed=(inner,))}, packed=(outer,)))
    indexes = {outer: index_of("d/e/x", "d/e/y", "d/f"), inner: index_of("q", "d/e/", "d/e/x")}
    walked = _walk(root, indexes)
    assert set(walked) == {"e", "e/x", "e/y", "f"}
    file = walked["e/x"]
    assert isinstance(file, MemberOf)
    assert file.layer == inner
    directory = walked["e"]
    assert isinstance(directory, MergedDirectory)
    assert required_layers(directory) == (inner, outer)
    assert (directory.mode, directory.mtime_ns) == (0o750, 10**9)


def test_own_name_that_is_no_directory_is_found_without_any_index() -> None:
    docs = enter(Directory({"raw": RAW}, packed=(packed_layer("docs"),)))
    assert find(docs, "raw", {}) == RAW


def test_static_directory_hides_a_file_of_its_name() -> None:
    layer = packed_layer("docs")
    docs = enter(Directory({"d": Directory({"x": RAW})}, packed=(layer,)))
    assert _names(docs, {layer: index_of("d")}) == {"d", "d/x"}


def test_whiteout_names_are_ordinary_in_a_packed_directory() -> None:
    layer = packed_layer("docs")
    indexes = {layer: index_of(".wh.a", "a", ".wh..wh..opq", "stargz.index.json")}
    assert _names(enter(Directory(packed=(layer,))), indexes) == {
        ".wh.a",
        "a",
        ".wh..wh..opq",
        "stargz.index.json",
    }


def test_upper_layer_shadows_and_directories_merge() -> None:
    root, indexes = _image(["a", "d/x", "d/y"], ["a", "d/", "d/x"])
    walked = _walk(root, indexes)
    assert set(walked) == {"a", "d", "d/x", "d/y"}
    upper = root.pending[0]
    for path in ("a", "d/x"):
        file = walked[path]
        assert isinstance(file, MemberOf)
        assert file.layer == upper


def test_whiteout_deletes_of_lower_layers_only() -> None:
    root, indexes = _image(["a", "d/x", "e/y"], [".wh.a", ".wh.d", "d/z", "e/.wh.y"])
    assert _names(root, indexes) == {"d", "d/z", "e"}


def test_opaque_directory_hides_all_below() -> None:
    root, indexes = _image(["d/x", "d/e/y", "k"], ["d/.wh..wh..opq", "d/e/z"])
    assert _names(root, indexes) == {"d", "d/e", "d/e/z", "k"}


def test_file_over_a_directory_and_back() -> None:
    root, indexes = _image(["d/x"], ["d"], ["d/y"])
    assert _names(root, indexes) == {"d", "d/y"}


def test_deleted_name_of_a_middle_layer_comes_back_on_top() -> None:
    root, indexes = _image(["a", "b"], [".wh.a", ".wh.b"], ["a"])
    assert _names(root, indexes) == {"a"}


def test_symlink_over_a_directory_hides_it() -> None:
    root, indexes = _image(["lib/x"], ["lib->usr/lib"])
    assert _names(root, indexes) == {"lib"}


def test_estargz_extras_are_hidden_at_the_top_only() -> None:
    extras = ["stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"]
    root, indexes = _image([*extras, "d/stargz.index.json"])
    assert _names(root, indexes) == {"d", "d/stargz.index.json"}
    assert find(root, "stargz.index.json", indexes) is None


def test_a_directory_is_one_layer_s_if_that_has_all_its_names() -> None:
    root, indexes = _image(["d/a", "e/.wh.x", "e/y", "f/a"], ["f/b"])
    assert sole_branch(root, indexes) is None
    found = _walk(root, indexes)
    shown = {path: found[path] for path in ("d", "e", "f")}
    is_sole = {
        path: sole_branch(directory, indexes) is not None
        for path, directory in shown.items()
        if isinstance(directory, MergedDirectory)
    }
    assert is_sole == {"d": True, "e": False, "f": False}
    layer = packed_layer("docs", root="docs")
    indexes = {layer: index_of("docs/", "docs/.wh.a")}
    docs = enter(Directory(packed=(layer,)))
    assert sole_branch(docs, indexes) is not None
    assert sole_branch(enter(Directory({"x": RAW}, packed=(layer,))), indexes) is None


def test_whiteout_itself_is_not_found() -> None:
    root, indexes = _image(["a"], [".wh.a"])
    assert find(root, ".wh.a", indexes) is None
    assert find(root, "a", indexes) is None


def test_directory_takes_its_mode_from_the_topmost_layer_that_names_it() -> None:
    root, indexes = _image(["d/", "d/x"], ["d/y"])
    directory = find(root, "d", indexes)
    assert isinstance(directory, MergedDirectory)
    assert directory.mode == 0o750


def test_hard_links_keep_one_ordinal() -> None:
    root, indexes = _image(["a", "b=a"])
    first, second = find(root, "a", indexes), find(root, "b", indexes)
    assert isinstance(first, MemberOf)
    assert first == second
    assert [name for name, _ in entries(root, indexes)] == ["a", "b"]


def test_missing_index_is_not_silently_an_empty_layer() -> None:
    root, _ = _image(["a"])
    with pytest.raises(KeyError):
        find(root, "a", {})
    with pytest.raises(KeyError):
        list(entries(root, {}))


_NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3)
_PATHS = st.one_of(
    _NAMES.map("/".join),
    _NAMES.map(lambda parts: "/".join(parts) + "/"),
    _NAMES.map(lambda parts: "/".join([*parts[:-1], ".wh." + parts[-1]])),
    _NAMES.map(lambda parts: "/".join([*parts[:-1], ".wh..wh..opq"])),
)


@given(st.lists(st.lists(_PATHS, max_size=6), min_size=1, max_size=4))
def test_merged_image_is_what_applying_the_layers_in_order_leaves(
    layers: list[list[str]],
) -> None:
    root, indexes = _image(*layers)
    applied: dict[str, str] = {}
    for layer in reversed(root.pending):
        index = indexes[layer]
        assert isinstance(index, LayerIndex)
        applied = _apply(applied, index)
    shown = {
        path: "d" if isinstance(located, MergedDirectory) else "f"
        for path, located in _walk(root, indexes).items()
    }
    assert shown == applied


def _apply(tree: dict[str, str], index: LayerIndex) -> dict[str, str]:
    """Apply a changeset as image-spec says: deletions of what was there, then the members."""
    members = dict(sorted(paths_of(index).items()))
    tree = dict(tree)
    for path in members:
        parent, _, name = path.rpartition("/")
        prefix = parent + "/" if parent else ""
        if name == ".wh..wh..opq":
            _remove(tree, prefix)
        elif name.startswith(".wh."):
            _remove(tree, prefix + name[4:])
    for path, kind in members.items():
        if any(part.startswith(".wh.") for part in path.split("/")):
            continue
        if (tree.get(path), kind) != ("d", "d"):
            _remove(tree, path)
        tree[path] = kind
    return tree


def _remove(tree: dict[str, str], path: str) -> None:
    for name in list(tree):
        if name == path or name.startswith(path if path.endswith("/") or not path else path + "/"):
            del tree[name]
