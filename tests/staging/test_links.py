import pytest

from orasfs.errors import InvalidInput
from orasfs.staging.links import check_links, resolve_file
from orasfs.staging.tree import StagedDirectory, StagedFile, StagedNode, StagedSymlink

FILE = StagedFile("key", 3)


def _tree(link: str, **more: StagedNode) -> StagedDirectory:
    docs = StagedDirectory({"readme": FILE, "up": StagedSymlink("..")})
    return StagedDirectory({"link": StagedSymlink(link), "docs": docs, "file": FILE, **more})


@pytest.mark.parametrize(
    "target",
    ["file", "./file", "docs/readme", "docs/../file", "docs//readme", "docs/up/file", "hop"],
)
def test_link_to_a_file_of_the_draft_is_that_file(target: str) -> None:
    tree = _tree(target, hop=StagedSymlink("docs/readme"))
    assert resolve_file(tree, "link") is FILE


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/etc/shadow", "leads out of the draft"),
        ("../other", "leads out of the draft"),
        ("docs/up/../x", "leads out of the draft"),
        ("docs/../../x", "leads out of the draft"),
        ("docs", "leads to a directory"),
        (".", "leads to a directory"),
        ("nothing", "does not lead to a file"),
        ("file/", "does not lead to a file"),
        ("file/below", "does not lead to a file"),
        ("link", "does not lead to a file"),
        ("hop", "leads out of the draft"),
    ],
)
def test_link_to_anything_else_is_refused_with_its_name(target: str, why: str) -> None:
    tree = _tree(target, hop=StagedSymlink("/etc/passwd"))
    with pytest.raises(InvalidInput, match=f"'link' {why}.*replace it"):
        resolve_file(tree, "link")


def test_link_in_a_directory_is_read_from_there() -> None:
    tree = StagedDirectory({"a": StagedDirectory({"l": StagedSymlink("../f")}), "f": FILE})
    assert resolve_file(tree, "a/l") is FILE


def _packed(target: str) -> StagedDirectory:
    deep = StagedDirectory({"l": StagedSymlink(target), "f": FILE})
    return StagedDirectory({"deep": deep, "via": StagedSymlink("deep"), "readme": FILE})


@pytest.mark.parametrize(
    "target",
    ["f", "../readme", "..", ".", "../missing", "../../docs/readme", "../via"],
)
def test_packed_link_within_its_directory_is_packed(target: str) -> None:
    check_links("docs", _packed(target))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/etc/passwd", "absolute target"),
        ("../../x", "leads out of 'docs'"),
        ("../../docs2/x", "leads out of 'docs'"),
        ("../../../x", "leads out of the artifact"),
        ("../via/f", "through the symbolic link 'docs/via'"),
        ("../via/../readme", "through the symbolic link 'docs/via'"),
    ],
)
def test_packed_link_that_no_pull_restores_is_refused(target: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=f"'docs/deep/l' .*{why}.*links=any"):
        check_links("docs", _packed(target))


def test_title_of_several_components_is_the_boundary() -> None:
    check_links("a/b", StagedDirectory({"l": StagedSymlink("../b/x")}))
    with pytest.raises(InvalidInput, match="leads out of 'a/b'"):
        check_links("a/b", StagedDirectory({"l": StagedSymlink("../x")}))
