"""Every golden tag from its inputs: what the reference client made, we make."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orasfs.oci.descriptor import ANNOTATION_CONTENT_DIGEST, ANNOTATION_CREATED
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.staging.manifest import ImageSpec, ManifestFields, config_descriptor, small_blobs
from orasfs.staging.pack import Packing, PackSettings, plan
from orasfs.staging.tree import (
    StagedDirectory,
    StagedFile,
    StagedNode,
    StagedSpecial,
    StagedSymlink,
)
from tests.support.golden import GOLDEN, golden_tags
from tests.support.staged import GOLDEN_CREATED, descriptors_of, golden_inputs

_CONFIG = config_descriptor(
    (GOLDEN / "inputs" / "config.json").read_bytes(), "application/vnd.acme.rocket.config.v1+json"
)
_ANNOTATIONS = json.loads((GOLDEN / "inputs" / "annotations.json").read_bytes())
_TEXT = {"artifact.txt": "text/plain"}


@dataclass(frozen=True, slots=True)
class Push:
    """The arguments of an `oras push`, as files and settings of a draft."""

    names: tuple[str, ...]
    fields: ManifestFields = field(default_factory=ManifestFields)
    media_types: Mapping[str, str] = field(default_factory=dict)
    layer_annotations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    packing: Packing = Packing.TAR

    def settings(self) -> PackSettings:
        return PackSettings(
            order=self.order,
            packing=self.packing,
            media_types=self.media_types,
            layer_annotations=self.layer_annotations,
            fields=self.fields,
        )


RAW_FILES = {
    "single": Push(("artifact.txt",), ManifestFields("application/vnd.acme.rocket.config")),
    "typed": Push(("artifact.txt",), ManifestFields("application/vnd.acme.rocket.config"), _TEXT),
    "untyped": Push(("artifact.txt",)),
    "config": Push(("artifact.txt",), ManifestFields(config=_CONFIG), _TEXT),
    "config-and-type": Push(
        ("artifact.txt",), ManifestFields("application/vnd.acme.rocket", _CONFIG), _TEXT
    ),
    "nested-titles": Push(
        ("nested/a/b/c.txt", "nested/a/top.txt", "artifact.txt"),
        order=("nested/a/b/c.txt", "nested/a/top.txt", "artifact.txt"),
        packing=Packing.FILES,
    ),
    "empty-file": Push(("empty.bin", "zeros.bin")),
    "no-layers": Push((), ManifestFields("application/vnd.acme.empty")),
    "annotated": Push(
        ("artifact.txt",),
        ManifestFields(
            annotations=_ANNOTATIONS["$manifest"], config_annotations=_ANNOTATIONS["$config"]
        ),
        layer_annotations={"artifact.txt": _ANNOTATIONS["artifact.txt"]},
    ),
    "spec-v1.0": Push(("artifact.txt",), ManifestFields(image_spec=ImageSpec.V1_0), _TEXT),
}
DIRECTORIES = {
    "multi": Push(
        ("artifact.txt", "docs"),
        ManifestFields(config=_CONFIG),
        {**_TEXT, "docs": "application/vnd.acme.rocket.docs.layer.v1+tar"},
    ),
    "dir-default-type": Push(("docs",)),
    "two-dirs": Push(("docs", "nested")),
}


def test_every_golden_artifact_is_made_here() -> None:
    assert RAW_FILES.keys() | DIRECTORIES.keys() == golden_tags().keys() - {"index"}


def _made(tree: StagedDirectory, push: Push) -> Manifest:
    planned = plan(tree, push.settings())
    assert planned.warnings == ()
    raw = planned.manifest(descriptors_of(planned), GOLDEN_CREATED)
    manifest = parse_document(raw)
    assert isinstance(manifest, Manifest)
    return manifest


def _golden(tag: str) -> Manifest:
    manifest = parse_document(golden_tags()[tag].raw)
    assert isinstance(manifest, Manifest)
    return manifest


@pytest.mark.parametrize("tag", RAW_FILES)
def test_raw_files_give_the_reference_clients_digest(tag: str, tmp_path: Path) -> None:
    push = RAW_FILES[tag]
    made = _made(golden_inputs(tmp_path / "draft", *push.names), push)
    assert made.raw == golden_tags()[tag].raw
    assert Digest.of(made.raw) == golden_tags()[tag].digest


@pytest.mark.parametrize("tag", DIRECTORIES)
def test_packed_directories_give_the_reference_clients_content_digest(
    tag: str, tmp_path: Path
) -> None:
    push = DIRECTORIES[tag]
    made = _made(golden_inputs(tmp_path / "draft", *push.names), push)
    expected = _golden(tag)
    digests = [layer.annotations.get(ANNOTATION_CONTENT_DIGEST) for layer in made.layers]
    assert digests == [
        layer.annotations.get(ANNOTATION_CONTENT_DIGEST) for layer in expected.layers
    ]
    # The deflated bytes are another library's; put the golden ones, and all is the same.
    raw = made.raw.decode()
    for ours, theirs in zip(made.layers, expected.layers, strict=True):
        raw = raw.replace(
            f'"digest":"{ours.digest}","size":{ours.size},',
            f'"digest":"{theirs.digest}","size":{theirs.size},',
        )
    assert raw == expected.raw.decode()


@pytest.mark.parametrize("tag", [*RAW_FILES, *DIRECTORIES])
def test_small_blobs_are_those_the_reference_client_pushes(tag: str, golden_layout: Path) -> None:
    blobs = small_blobs(_golden(tag))
    for digest, content in blobs.items():
        assert (golden_layout / "blobs" / "sha256" / digest.hex).read_bytes() == content
    assert bool(blobs) == (tag not in {"config", "config-and-type", "multi"})


def test_epoch_gives_one_digest_whatever_the_mtimes_and_the_clock(tmp_path: Path) -> None:
    tree = golden_inputs(tmp_path / "draft", "docs", "artifact.txt")
    later = dataclasses.replace(
        tree, entries={**tree.entries, "docs": _aged(tree.entries["docs"], 10**15)}
    )
    settings = PackSettings(epoch_seconds=GOLDEN_CREATED - 10**6)
    plans = [plan(each, settings) for each in (tree, later)]
    one, two = (
        planned.manifest(descriptors_of(planned), clock)
        for planned, clock in zip(plans, (1, 2), strict=True)
    )
    assert one == two
    assert parse_document(one).annotations[ANNOTATION_CREATED] == "2024-02-18T10:13:20Z"


def _aged(node: StagedNode, by_ns: int) -> StagedNode:
    match node:
        case StagedDirectory():
            entries = {name: _aged(entry, by_ns) for name, entry in node.entries.items()}
            return StagedDirectory(entries, node.mode, node.mtime_ns + by_ns)
        case StagedFile() | StagedSymlink():
            return dataclasses.replace(node, mtime_ns=node.mtime_ns + by_ns)
        case StagedSpecial():
            return node
