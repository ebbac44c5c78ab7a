import pytest

from orasfs.errors import ContentRefused
from orasfs.tree.packed import check_packed
from tests.support.layers import index_of


@pytest.mark.parametrize(
    "paths",
    [
        (),
        ("docs/",),
        ("docs/", "docs/a", "docs/sub/b", "docs/l->a", "docs/sub/up->../a"),
        ("docs/a", "docs/h=docs/a"),
        ("docs/sub/b", "docs/loop->loop", "docs/dangling->nowhere"),
        ("docs/", "docs/back->../docs/a", "docs/dot->."),
        ("docs/d/x", "docs/l->d", "docs/through->l/x"),
        ("docs/..a", "docs/l->..a"),
        ("docs/l->nowhere/../a", "docs/m->sub/../a", "docs/sub/a"),
    ],
)
def test_well_behaved_layer_passes(paths: tuple[str, ...]) -> None:
    check_packed(index_of(*paths), "docs")


def test_root_with_slashes_passes() -> None:
    check_packed(index_of("a/b/", "a/b/c", "a/b/l->c"), "a/b")


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (("docs/a", "/etc/passwd"), "absolute path '/etc/passwd'"),
        (("docs/a", "../x"), "leaves the directory: '../x'"),
        (("docs/a", "docs/../../x"), "leaves the directory"),
        (("docs/a", "other"), "'other' is outside of it"),
        (("docs/a", "docs/../x"), "'x' is outside of it"),
        (("a",), "'a' is outside of it"),
        (("docs",), "'docs' is no directory"),
        (("docs->x",), "'docs' is no directory"),
        (("docs/l->/etc",), "symlink 'docs/l' is absolute"),
        (("docs/l->../x",), "symlink 'docs/l' leads outside of it: '../x'"),
        (("docs/l->..",), "leads outside of it"),
        (("docs/sub/l->../../x",), "leads outside of it"),
        (("docs/l->../../docs/x",), "leads outside of it"),
        (("docs/l->../docsx",), "leads outside of it"),
        (("docs/l->sub", "docs/l/x"), "no symbolic link allowed on the way to 'docs/l/x'"),
        (("docs/h=../x",), "leaves the directory: '../x'"),
        (("docs/h=/etc/passwd",), "absolute path '/etc/passwd'"),
        (("docs/h=docs/later", "docs/later"), "no earlier file"),
        (("docs/a/b/l->../../x", "docs/h=docs/a/b/l"), "symlink 'docs/h' leads outside"),
    ],
)
def test_what_would_leave_the_directory_is_refused(paths: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ContentRefused) as caught:
        check_packed(index_of(*paths), "docs")
    assert reason in str(caught.value)


def test_explicit_parent_of_the_root_is_outside() -> None:
    with pytest.raises(ContentRefused, match="'a' is outside of it"):
        check_packed(index_of("x/../a/", "a/b/c"), "a/b")


@pytest.mark.parametrize(
    "paths",
    [
        ("docs/a/b/c/l1->../../..", "docs/l2->a/b/c/l1/../.."),
        ("docs/d/x->..", "docs/l->d", "docs/evil->l/x/.."),
        ("docs/d/y", "docs/l->d", "docs/evil->./l/.."),
    ],
)
def test_chain_of_symlinks_that_escapes_is_refused(paths: tuple[str, ...]) -> None:
    """Each link stays inside by its words; followed one after the other they do not."""
    with pytest.raises(ContentRefused, match="no symbolic link allowed in"):
        check_packed(index_of(*paths), "docs")
