"""Files at the same paths: found by walking two indexes at once."""

from hypothesis import given
from hypothesis import strategies as st

from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.samepaths import same_paths
from orasfs.tree.tar import TarScanner
from tests.support.archives import directory, file, link, tar_of

NAMES = st.sampled_from(["a", "b", "ab", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
KINDS = st.one_of(st.integers(0, 3), st.sampled_from(["directory", "link"]))
TREES = st.dictionaries(PATHS, KINDS, max_size=12)


def index_of(tree: dict[str, int | str]) -> LayerIndex:
    adds = []
    for path, kind in tree.items():
        if kind == "directory":
            adds.append(directory(path))
        elif kind == "link":
            adds.append(link(path, "x"))
        else:
            adds.append(file(path, b"x" * int(kind)))
    scanner = TarScanner()
    scanner.feed(tar_of(*adds))
    return LayerIndex(scanner.finish())


def files_of(index: LayerIndex) -> dict[str, tuple[int, int]]:
    """Return ordinal and size of each file by its path."""
    found, pending = {}, [("", 0)]
    while pending:
        path, number = pending.pop()
        for name, ordinal, kind, _, size, *_ in index.rows(number):
            below = f"{path}/{name.decode()}"
            if kind == 1:
                pending.append((below, ordinal))
            elif kind == 2:
                found[below] = ordinal, size
    return found


@given(TREES, TREES)
def test_what_is_found_is_what_has_the_same_path_and_size(
    ours: dict[str, int | str], theirs: dict[str, int | str]
) -> None:
    one, other = index_of(ours), index_of(theirs)
    there = files_of(other)
    wanted = {
        ordinal: there[path][0]
        for path, (ordinal, size) in files_of(one).items()
        if size and path in there and there[path][1] == size
    }
    found = same_paths(one, other)
    assert len(found) == len(one)
    assert {ordinal: each for ordinal, each in enumerate(found) if each} == wanted


def test_each_name_of_a_file_finds_it() -> None:
    one = index_of({"a": 3, "b": 3})
    scanner = TarScanner()
    scanner.feed(tar_of(file("a", b"xxx"), link("b", "a", b"1")))
    other = LayerIndex(scanner.finish())
    found = same_paths(one, other)
    assert list(filter(None, found)) == [other.locate("a")] * 2
