from orasfs.tree.ancestry import Ancestry
from orasfs.tree.layerindex import ROOT
from tests.support.layers import index_of


def test_every_member_has_the_path_at_which_it_is_found() -> None:
    index = index_of("d/", "d/f", "d/e/", "d/e/g", "h/i", "d/link->f")
    ancestry = Ancestry(index)
    assert ancestry.path(ROOT) == ()
    for path in ("d", "d/f", "d/e", "d/e/g", "h", "h/i", "d/link"):
        ordinal = index.locate(path)
        assert ordinal is not None
        assert "/".join(ancestry.path(ordinal)) == path


def test_hard_links_are_at_the_first_of_their_names() -> None:
    index = index_of("d/b", "a=d/b", "c=d/b")
    ordinal = index.locate("c")
    assert ordinal is not None
    assert Ancestry(index).path(ordinal) == ("a",)


def test_a_member_whose_name_another_took_has_no_path() -> None:
    index = index_of("b", "b")
    now = index.locate("b")
    assert [Ancestry(index).path(each) for each in range(1, len(index)) if each != now] == [()]
