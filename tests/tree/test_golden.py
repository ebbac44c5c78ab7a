"""What the reference client and other tools made is shown as they would extract it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import parse_document
from orasfs.tree.compression import open_decompressor
from orasfs.tree.layerindex import LayerIndex, MemberKind
from orasfs.tree.merge import (
    Located,
    MemberOf,
    MergedDirectory,
    enter,
    entries,
    required_layers,
)
from orasfs.tree.node import Child, PackedLayer, RawFile
from orasfs.tree.packed import check_packed
from orasfs.tree.tar import TarScanner
from orasfs.tree.views import ViewOptions, build_view, problems_of
from tests.support.tars import content_of

GOLDEN = Path(__file__).parent.parent / "golden"
PULLED = sorted(path.stem for path in (GOLDEN / "pulled").glob("*.json") if path.stem != "index")
SEEKABLE = ["image-estargz", "image-gzip", "image-zstd-chunked"]


class _Layout:
    """An image layout, its layers unpacked in memory."""

    def __init__(self, path: Path) -> None:
        self._blobs = path / "blobs" / "sha256"
        index = json.loads((path / "index.json").read_bytes())
        self.digests: dict[str, str] = {
            child["annotations"]["org.opencontainers.image.ref.name"]: child["digest"]
            for child in index["manifests"]
            if "org.opencontainers.image.ref.name" in child.get("annotations", {})
        }
        self.indexes: dict[PackedLayer, LayerIndex] = {}
        self._slabs: dict[PackedLayer, bytes] = {}

    def enter(self, digest: str) -> MergedDirectory:
        view = build_view(parse_document(self._blob(digest)), ViewOptions())
        assert problems_of(view) == ()
        return enter(view)

    def content(self, located: RawFile | MemberOf) -> bytes:
        if isinstance(located, RawFile):
            return self._blob(str(located.descriptor.digest))
        layer, ordinal = located.layer, located.member.ordinal
        return content_of(self.indexes[layer], ordinal, self._slabs[layer])

    def walk(self, directory: MergedDirectory, prefix: str = "") -> dict[str, Located]:
        found: dict[str, Located] = {}
        for layer in required_layers(directory):
            self._unpack(layer)
        for name, located in entries(directory, self.indexes):
            found[prefix + name] = located
            if isinstance(located, MergedDirectory):
                found |= self.walk(located, f"{prefix}{name}/")
        return found

    def _blob(self, digest: str) -> bytes:
        return (self._blobs / digest.partition(":")[2]).read_bytes()

    def _unpack(self, layer: PackedLayer) -> None:
        if layer in self.indexes:
            return
        blob = self._blob(str(layer.descriptor.digest))
        decompressor = open_decompressor(blob[:4])
        slab = b"".join(decompressor.feed(blob))
        decompressor.finish()
        scanner = TarScanner()
        scanner.feed(slab)
        index = LayerIndex(scanner.finish())
        if not layer.has_whiteouts:
            check_packed(index, layer.root)
            assert layer.content_digest == Digest.of(slab)
        assert index.tar_size == len(slab)
        self.indexes[layer], self._slabs[layer] = index, slab


def _described(layout: _Layout, path: str, located: Located) -> dict[str, Any]:
    """Return the line of pulled/*.json that a node would have, the times of packed files too."""
    if isinstance(located, MergedDirectory):
        return {"path": path, "mode": oct(located.mode), "type": "directory"}
    if isinstance(located, MemberOf) and located.member.kind == MemberKind.SYMLINK:
        target = located.member.target
        return {"path": path, "mode": "0o777", "type": "symlink", "target": target}
    assert isinstance(located, RawFile | MemberOf)
    content = layout.content(located)
    size = located.member.size if isinstance(located, MemberOf) else located.descriptor.size
    mode = located.member.mode if isinstance(located, MemberOf) else located.mode
    described = {
        "path": path,
        "mode": oct(mode),
        "type": "file",
        "size": size,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if isinstance(located, MemberOf):
        described["mtime"] = located.member.mtime_ns // 1_000_000_000
    return described


@pytest.mark.parametrize("tag", PULLED)
def test_view_is_what_the_reference_client_pulls(tag: str) -> None:
    layout = _Layout(GOLDEN / "layout")
    walked = layout.walk(layout.enter(layout.digests[tag]))
    actual = {path: _described(layout, path, located) for path, located in walked.items()}
    expected = {line["path"]: line for line in json.loads(_pulled(tag))}
    for path, line in expected.items():
        if "mtime" not in actual.get(path, {}):
            line.pop("mtime", None)  # a raw layer's is the time of the pull
    assert actual == expected


def test_mtimes_of_packed_directories_are_those_of_the_inputs() -> None:
    layout = _Layout(GOLDEN / "layout")
    walked = layout.walk(layout.enter(layout.digests["two-dirs"]))
    inside = walked["docs/sub"]
    assert isinstance(inside, MergedDirectory)
    assert inside.mtime_ns == 1709210096 * 10**9


def test_index_has_a_child_a_manifest_by_digest() -> None:
    layout = _Layout(GOLDEN / "layout")
    children = dict(entries(layout.enter(layout.digests["index"]), {}))
    expected = {layout.digests[tag].replace(":", "-") for tag in ("single", "typed")}
    assert set(children) == expected
    for child in children.values():
        assert isinstance(child, Child)
        assert isinstance(child.descriptor, Descriptor)


@pytest.mark.parametrize("tag", SEEKABLE)
def test_every_form_of_an_image_shows_the_same_tree(tag: str) -> None:
    layout = _Layout(GOLDEN / "seekable" / "layout")
    walked = layout.walk(layout.enter(layout.digests[tag]))
    expected = {
        line["path"]: line
        for line in json.loads((GOLDEN / "seekable" / "expected.json").read_bytes())
    }
    assert set(walked) == set(expected)
    for path, line in expected.items():
        located = walked[path]
        first = line.pop("hardlink_to", None)
        if first is not None:
            assert located == walked[first]
        actual = _described(layout, path, located)
        if isinstance(located, MergedDirectory):
            actual["mtime"] = located.mtime_ns // 1_000_000_000
        if isinstance(located, MemberOf):
            actual["mtime"] = located.member.mtime_ns // 1_000_000_000
        assert actual == line


def _pulled(tag: str) -> bytes:
    return (GOLDEN / "pulled" / f"{tag}.json").read_bytes()
