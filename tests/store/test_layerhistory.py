"""Which layers a directory had: by registry, repository and title, and written seldom."""

from pathlib import Path

import pytest

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.layerhistory import LayerHistory
from orasfs.store.references import References
from orasfs.tree.node import PackedLayer


def layer(content: bytes, title: str = "docs") -> PackedLayer:
    return PackedLayer(Descriptor("a/b", Digest.of(content), len(content)), title)


ONE, TWO, THREE = (layer(content) for content in (b"one", b"two", b"three"))


def test_earlier_layers_are_the_others_of_the_same_name(tmp_path: Path) -> None:
    references = References(tmp_path / "references.sqlite")
    history = LayerHistory(references, "host", "a")
    for each in (ONE, TWO, layer(b"x", "other"), layer(b"image", "")):
        history.note(each)
    assert history.earlier(THREE) == (TWO.descriptor.digest, ONE.descriptor.digest)
    assert history.earlier(TWO) == (ONE.descriptor.digest,)
    assert history.earlier(layer(b"y", "")) == (), "layers of images have no title"
    for registry, repository in (("host", "b"), ("else", "a")):
        assert LayerHistory(references, registry, repository).earlier(THREE) == ()
    references.close()
    again = References(tmp_path / "references.sqlite")
    assert LayerHistory(again, "host", "a").earlier(TWO) == (ONE.descriptor.digest,)
    again.close()


def test_versions_that_are_read_by_turns_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = References(tmp_path / "references.sqlite")
    written: list[Digest] = []
    remember = references.remember_layer

    def note(registry: str, repository: str, title: str, digest: Digest) -> None:
        written.append(digest)
        remember(registry, repository, title, digest)

    monkeypatch.setattr(references, "remember_layer", note)
    history = LayerHistory(references, "host", "a")
    for _ in range(3):
        history.note(ONE)
        history.note(TWO)
    assert written == [ONE.descriptor.digest, TWO.descriptor.digest]
    references.close()
