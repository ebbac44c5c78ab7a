"""What is known of a layer before its end, and when its index has just been made."""

from collections.abc import Callable

import pytest

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import ROOT, Extent, LayerIndex
from orasfs.tree.node import PackedLayer
from orasfs.tree.partialindex import NotKnownYet, PartialIndex

LAYER = PackedLayer(Descriptor("a/b", Digest.of(b"layer"), 1), "")
Question = Callable[[PartialIndex], object]
QUESTIONS: dict[str, Question] = {
    "find": lambda partial: partial.find(ROOT, "f"),
    "locate": lambda partial: partial.locate("link"),
    "kind": lambda partial: partial.kind_of(ROOT),
    "member": lambda partial: partial.member(2),
    "implicit": lambda partial: partial.is_implicit(1),
    "extents": lambda partial: partial.extents(1),
    "place": lambda partial: partial.place(1),
}


def sample() -> IndexBuilder:
    builder = IndexBuilder()
    extents = (Extent(0, 512, 3), Extent(10, 515, 3))
    builder.add_file(b"f", mode=0o644, mtime_ns=0, size=13, extents=extents)
    builder.add_symlink(b"link", mode=0o777, mtime_ns=0, target=b"f")
    return builder


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_passed_is_told_until_the_index_is_made_and_then_waits_for_it(question: str) -> None:
    ask = QUESTIONS[question]
    builder = sample()
    partial = PartialIndex(builder, LAYER)
    ask(partial)
    sections = builder.sections(2048)
    made = bytes(next(sections))
    ask(partial)
    assert LayerIndex(made + b"".join(sections)).locate("f") == 1
    with pytest.raises(NotKnownYet):
        ask(partial)


def test_builder_of_an_index_that_was_made_keeps_nothing_large() -> None:
    builder = sample()
    builder.finish(2048)
    assert not builder.records
    assert not builder.names.heap


class _MadeBetweenTwoLooks(IndexBuilder):
    """Lets go of what it knows once a record was read, before what that names is."""

    is_about_to_end = False

    def __getattribute__(self, name: str) -> object:
        value = super().__getattribute__(name)
        if name == "records" and self.is_about_to_end:
            self.is_about_to_end = False
            self.finish(2048)
        return value


def test_symlink_is_never_one_to_nothing_while_the_builder_lets_go() -> None:
    for question in ("locate", "member"):
        builder = _MadeBetweenTwoLooks()
        builder.add_symlink(b"first", mode=0o777, mtime_ns=0, target=b"f")
        builder.add_symlink(b"link", mode=0o777, mtime_ns=0, target=b"f")
        builder.is_about_to_end = True
        with pytest.raises(NotKnownYet):
            QUESTIONS[question](PartialIndex(builder, LAYER))
