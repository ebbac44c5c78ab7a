import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from orasfs.errors import InvalidInput
from orasfs.oci.descriptor import (
    ANNOTATION_CONTENT_DIGEST,
    ANNOTATION_INDEX,
    ANNOTATION_MODE,
    Descriptor,
)
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.staging.layerblob import Compression
from orasfs.staging.layers import DirectoryLayer, FileLayer
from orasfs.staging.manifest import ManifestFields, build_manifest
from orasfs.staging.manifestedit import KeptLayer
from orasfs.staging.pack import PackSettings, Plan
from orasfs.staging.revise import Base, plan_revision
from orasfs.staging.tree import StagedDirectory, StagedFile, StagedNode, StagedSymlink, walk
from tests.support.golden import golden_tags
from tests.support.staged import descriptors_of, golden_inputs, staged

FILE = StagedFile("key", 3)
_UNPACK = "io.deis.oras.content.unpack"


def _dir(**entries: StagedNode) -> StagedDirectory:
    return StagedDirectory(entries)


def _layer(title: str, media_type: str = "text/plain", **annotations: str) -> Descriptor:
    titled = {"org.opencontainers.image.title": title} if title else {}
    return Descriptor(media_type, Digest.of(title.encode()), 9, {**titled, **annotations})


def _packed(title: str, media_type: str = "application/vnd.acme+tar") -> Descriptor:
    of_packing = {ANNOTATION_CONTENT_DIGEST: "sha256:00", ANNOTATION_INDEX: "sha256:11"}
    return _layer(title, media_type, **{_UNPACK: "true", **of_packing})


def _base(*layers: Descriptor, unchanged: Iterable[int] = ()) -> Base:
    manifest = parse_document(build_manifest(ManifestFields("a/b"), layers, 0))
    assert isinstance(manifest, Manifest)
    return Base(manifest, frozenset(unchanged))


def _summary(plan: Plan) -> list[str | int]:
    """Return the ordinal of each kept layer and the title of each other."""
    return [
        layer.ordinal if isinstance(layer, KeptLayer) else layer.title for layer in plan.layers
    ]


def _paths(layer: object) -> list[str]:
    assert isinstance(layer, DirectoryLayer)
    return [path for path, _ in walk(layer.title, layer.directory)]


def test_only_changed_layers_are_planned_again_in_their_places() -> None:
    base = _base(_layer("z"), _packed("d"), _layer("a"), unchanged=[0, 2])
    tree = _dir(z=FILE, d=_dir(f=FILE), a=FILE)
    assert _summary(plan_revision(tree, PackSettings(), base)) == [0, "d", 2]


def test_layers_without_a_usable_title_stay() -> None:
    base = _base(_layer(""), _layer("../up"), _layer("a"))
    assert _summary(plan_revision(_dir(a=FILE), PackSettings(), base)) == [0, 1, "a"]


def test_layer_of_a_removed_file_goes() -> None:
    base = _base(_layer("a"), _layer("b"), _packed("d"), unchanged=[1])
    assert _summary(plan_revision(_dir(b=FILE), PackSettings(), base)) == [1]


def test_new_files_and_directories_come_after_by_name() -> None:
    base = _base(_layer("m"), unchanged=[0])
    tree = _dir(m=FILE, z=FILE, a=_dir(f=FILE), b=FILE)
    assert _summary(plan_revision(tree, PackSettings(), base)) == [0, "a", "b", "z"]


def test_new_file_beside_titles_with_slashes_is_a_layer_of_its_own() -> None:
    base = _base(_layer("n/a/old"), unchanged=[0])
    tree = _dir(n=_dir(a=_dir(old=FILE, new=FILE), fresh=_dir(f=FILE)))
    assert _summary(plan_revision(tree, PackSettings(), base)) == [0, "n/a/new", "n/fresh"]


def test_file_that_became_a_directory_is_a_new_layer() -> None:
    base = _base(_layer("x"), _packed("y"))
    tree = _dir(x=_dir(f=FILE), y=FILE)
    planned = plan_revision(tree, PackSettings(), base)
    assert _summary(planned) == ["x", "y"]
    assert [type(layer) for layer in planned.layers] == [DirectoryLayer, FileLayer]


def test_packed_directory_leaves_out_what_other_layers_hold() -> None:
    base = _base(_packed("d"), _layer("d/raw"), _packed("d/s/t"), unchanged=[1, 2])
    tree = _dir(d=_dir(raw=FILE, f=FILE, s=_dir(t=_dir(g=FILE), u=FILE)))
    planned = plan_revision(tree, PackSettings(), base)
    assert _summary(planned) == ["d", 1, 2]
    assert _paths(planned.layers[0]) == ["d", "d/f", "d/s", "d/s/u"]


def test_directory_in_the_place_of_a_raw_layer_is_packed_with_its_parent() -> None:
    base = _base(_packed("d"), _layer("d/raw"))
    planned = plan_revision(_dir(d=_dir(raw=_dir(f=FILE))), PackSettings(), base)
    assert _summary(planned) == ["d"]
    assert _paths(planned.layers[0]) == ["d", "d/raw", "d/raw/f"]


def test_changed_layer_keeps_its_type_and_annotations() -> None:
    base = _base(
        _layer("f", "text/x", note="n", **{ANNOTATION_MODE: "0755"}),
        _packed("d", "application/vnd.acme+tar"),
    )
    planned = plan_revision(_dir(f=FILE, d=_dir()), PackSettings(), base)
    file, directory = planned.layers
    assert isinstance(file, FileLayer)
    assert isinstance(directory, DirectoryLayer)
    assert file.media_type == "text/x"
    assert file.annotations == {"org.opencontainers.image.title": "f", "note": "n"}
    assert not directory.annotations
    assert directory.media_type == "application/vnd.acme+tar"


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        ("application/vnd.oci.image.layer.v1.tar+gzip", Compression.GZIP),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Compression.ZSTD),
        ("application/vnd.oci.image.layer.v1.tar", Compression.NONE),
        ("application/vnd.acme.docs+zstd", Compression.ZSTD),
        ("application/vnd.acme.docs", Compression.GZIP),
    ],
)
def test_directory_is_compressed_as_its_media_type_says(
    media_type: str, compression: Compression
) -> None:
    base = _base(_packed("d", media_type))
    (layer,) = plan_revision(_dir(d=_dir(f=FILE)), PackSettings(), base).layers
    assert isinstance(layer, DirectoryLayer)
    assert (layer.media_type, layer.compression) == (media_type, compression)


def test_settings_change_the_descriptor_of_a_kept_layer_without_its_blob() -> None:
    base = _base(_layer("a", note="old"), _layer("b", note="same"), unchanged=[0, 1])
    settings = PackSettings(
        media_types={"a": "text/markdown", "b": "text/plain"},
        layer_annotations={"a": {"note": "new"}, "b": {"note": "same"}},
    )
    planned = plan_revision(_dir(a=FILE, b=FILE), settings, base)
    first, second = planned.layers
    assert isinstance(first, KeptLayer)
    assert isinstance(second, KeptLayer)
    assert (first.media_type, first.annotations) == ("text/markdown", {"note": "new"})
    assert (second.media_type, second.annotations) == ("", {})


def test_given_order_moves_layers_and_leaves_the_rest_as_it_was() -> None:
    base = _base(_layer("c"), _layer("b"), _layer("a"), unchanged=[0, 1, 2])
    tree = _dir(a=FILE, b=FILE, c=FILE, n=FILE)
    assert _summary(plan_revision(tree, PackSettings(order=("n", "a")), base)) == ["n", 2, 0, 1]


def test_changed_link_must_lead_to_a_file_of_the_draft() -> None:
    with pytest.raises(InvalidInput, match="leads out of the draft"):
        plan_revision(_dir(a=StagedSymlink("/etc/shadow")), PackSettings(), _base(_layer("a")))


def test_empty_directory_of_a_kept_layer_is_no_warning() -> None:
    base = _base(_packed("d"), _layer("n/f"), unchanged=[0])
    planned = plan_revision(_dir(d=_dir(e=_dir()), n=_dir()), PackSettings(), base)
    assert [warning for warning in planned.warnings if "'d" in warning] == []
    assert len(planned.warnings) == 1


_INPUTS = {
    "multi": ("artifact.txt", "docs"),
    "dir-default-type": ("docs",),
    "two-dirs": ("docs", "nested"),
    "nested-titles": ("nested/a/b/c.txt", "nested/a/top.txt", "artifact.txt"),
    "empty-file": ("empty.bin", "zeros.bin"),
}


def _without_content(layer: Mapping[str, object]) -> dict[str, object]:
    """Return a layer's members but for what another content changes."""
    kept = {key: value for key, value in layer.items() if key not in {"digest", "size", "data"}}
    annotations = kept.get("annotations")
    if isinstance(annotations, dict):
        kept["annotations"] = {**annotations, ANNOTATION_CONTENT_DIGEST: ""}
    return kept


@pytest.mark.parametrize("tag", sorted(golden_tags().keys() - {"index", "no-layers"}))
def test_golden_artifact_with_one_layer_changed_differs_in_that_layer_only(
    tag: str, tmp_path: Path
) -> None:
    golden = golden_tags()[tag]
    base = parse_document(golden.raw)
    assert isinstance(base, Manifest)
    draft = tmp_path / "draft"
    golden_inputs(draft, *_INPUTS.get(tag, ("artifact.txt",)))
    changed = len(base.layers) - 1
    title = base.layers[changed].title
    target = draft / title
    (target / "added.txt" if target.is_dir() else target).write_text("changed")
    tree = staged(draft)
    assert isinstance(tree, StagedDirectory)
    unchanged = frozenset(range(len(base.layers))) - {changed}
    planned = plan_revision(tree, PackSettings(), Base(base, unchanged))
    assert _summary(planned) == [*range(changed), title]
    edited = json.loads(planned.manifest(descriptors_of(planned), 0))
    original = json.loads(golden.raw)
    assert edited["layers"][changed]["digest"] != original["layers"][changed]["digest"]
    for document in (edited, original):
        document["layers"][changed] = _without_content(document["layers"][changed])
    assert edited == original


def test_golden_artifact_with_nothing_changed_keeps_its_digest(tmp_path: Path) -> None:
    golden = golden_tags()["multi"]
    base = parse_document(golden.raw)
    assert isinstance(base, Manifest)
    tree = golden_inputs(tmp_path / "draft", *_INPUTS["multi"])
    planned = plan_revision(tree, PackSettings(), Base(base, frozenset({0, 1})))
    assert planned.manifest(descriptors_of(planned), 12345) == golden.raw


def test_first_file_of_an_artifact_without_any_takes_the_place_of_the_placeholder() -> None:
    base = parse_document(golden_tags()["no-layers"].raw)
    assert isinstance(base, Manifest)
    planned = plan_revision(_dir(f=FILE), PackSettings(), Base(base, frozenset()))
    assert _summary(planned) == [0, "f"]
    edited = parse_document(planned.manifest([KeptLayer(0), _layer("f")], 0))
    assert isinstance(edited, Manifest)
    assert edited.layers == (_layer("f"),)
