import pytest

from orasfs.errors import InvalidInput
from orasfs.oci.descriptor import ANNOTATION_CREATED, ANNOTATION_MODE
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.staging.layerblob import Compression, LayerBlob
from orasfs.staging.layers import DirectoryLayer, FileLayer, PlannedLayer, made_of_nothing
from orasfs.staging.manifest import ManifestFields
from orasfs.staging.manifestedit import KeptLayer
from orasfs.staging.pack import Packing, PackSettings, Plan, plan
from orasfs.staging.revise import Base, plan_revision
from orasfs.staging.tree import StagedDirectory, StagedFile, StagedSpecial, StagedSymlink

FILE = StagedFile("key", 3)
DIGEST = Digest.of(b"")
BLOB = LayerBlob(DIGEST, 1, DIGEST, 2)


def _title(layer: PlannedLayer) -> str:
    assert not isinstance(layer, KeptLayer)
    return layer.title


def _titles(planned: Plan) -> list[str]:
    return [_title(layer) for layer in planned.layers]


def _file_layer(planned: Plan) -> FileLayer:
    (layer,) = planned.layers
    assert isinstance(layer, FileLayer)
    return layer


def test_layers_are_in_byte_order_of_name() -> None:
    tree = StagedDirectory(dict.fromkeys(["é", "b", "B", "a", "a.b", "\U0001f600"], FILE))
    assert _titles(plan(tree, PackSettings())) == ["B", "a", "a.b", "b", "é", "\U0001f600"]


def test_order_goes_first_and_the_rest_follows_by_name() -> None:
    tree = StagedDirectory(dict.fromkeys("abcd", FILE))
    assert _titles(plan(tree, PackSettings(order=("d", "b")))) == ["d", "b", "a", "c"]


def test_order_of_a_directory_stands_for_its_files() -> None:
    tree = StagedDirectory({"d": StagedDirectory({"y": FILE, "x": FILE}), "dd": FILE, "a": FILE})
    settings = PackSettings(packing=Packing.FILES, order=("d",))
    assert _titles(plan(tree, settings)) == ["d/x", "d/y", "a", "dd"]


def test_order_that_names_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="order names 'gone'"):
        plan(StagedDirectory({"a": FILE}), PackSettings(order=("gone",)))


def test_a_directory_is_one_layer_unless_it_is_packed_as_files() -> None:
    tree = StagedDirectory(
        {"one": StagedDirectory({"f": FILE}), "many": StagedDirectory({"g": FILE, "f": FILE})}
    )
    planned = plan(tree, PackSettings(packing_of={"many": Packing.FILES}))
    assert _titles(planned) == ["many/f", "many/g", "one"]
    assert [type(layer) for layer in planned.layers] == [FileLayer, FileLayer, DirectoryLayer]


def test_directory_can_be_packed_though_files_are_the_default() -> None:
    tree = StagedDirectory({"one": StagedDirectory({"f": FILE})})
    settings = PackSettings(packing=Packing.FILES, packing_of={"one": Packing.TAR})
    assert _titles(plan(tree, settings)) == ["one"]


def test_empty_directories_that_no_layer_holds_are_named() -> None:
    tree = StagedDirectory({"d": StagedDirectory({"e": StagedDirectory()}), "f": FILE})
    assert plan(tree, PackSettings()).warnings == ()
    (warning,) = plan(tree, PackSettings(packing=Packing.FILES)).warnings
    assert "'d/e' is empty" in warning


@pytest.mark.parametrize(
    ("compression", "media_type", "warnings"),
    [
        (Compression.GZIP, "application/vnd.oci.image.layer.v1.tar+gzip", 0),
        (Compression.ZSTD, "application/vnd.oci.image.layer.v1.tar+zstd", 1),
        (Compression.NONE, "application/vnd.oci.image.layer.v1.tar", 1),
    ],
)
def test_compression_gives_the_media_type_and_a_warning_where_oras_cannot_unpack(
    compression: Compression, media_type: str, warnings: int
) -> None:
    tree = StagedDirectory({"d": StagedDirectory({"f": FILE})})
    planned = plan(tree, PackSettings(compression=compression))
    (layer,) = planned.layers
    assert isinstance(layer, DirectoryLayer)
    assert layer.descriptor(BLOB).media_type == media_type
    assert len(planned.warnings) == warnings


@pytest.mark.parametrize(
    ("mode", "annotation"),
    [(0o644, None), (0o100644, None), (0o755, "0755"), (0o600, "0600"), (0o4755, "4755")],
)
def test_mode_of_a_file_is_an_annotation_unless_it_is_the_usual_one(
    mode: int, annotation: str | None
) -> None:
    layer = _file_layer(plan(StagedDirectory({"f": StagedFile("key", 3, mode)}), PackSettings()))
    assert layer.descriptor(DIGEST).annotations.get(ANNOTATION_MODE) == annotation


def test_link_to_a_file_is_pushed_as_the_file() -> None:
    target = StagedFile("target", 9, 0o755)
    tree = StagedDirectory(
        {"run": StagedSymlink("bin/tool"), "bin": StagedDirectory({"tool": target})}
    )
    layer = plan(tree, PackSettings()).layers[1]
    assert isinstance(layer, FileLayer)
    assert (layer.title, layer.content, layer.size) == ("run", "target", 9)
    assert layer.annotations == {ANNOTATION_MODE: "0755"}


def test_link_that_leaves_a_packed_directory_is_refused_unless_allowed() -> None:
    tree = StagedDirectory({"d": StagedDirectory({"l": StagedSymlink("/etc")})})
    with pytest.raises(InvalidInput, match="links=any"):
        plan(tree, PackSettings())
    allowed = plan(tree, PackSettings(allow_links=True))
    assert _titles(allowed) == ["d"]
    (warning,) = allowed.warnings
    assert "no mount shows what is in it" in warning


@pytest.mark.parametrize(
    "tree",
    [
        StagedDirectory({"pipe": StagedSpecial("FIFO")}),
        StagedDirectory({"d": StagedDirectory({"pipe": StagedSpecial("FIFO")})}),
    ],
)
@pytest.mark.parametrize("packing", Packing)
def test_special_file_is_refused(tree: StagedDirectory, packing: Packing) -> None:
    with pytest.raises(InvalidInput, match=r"pipe' is a FIFO.*remove it"):
        plan(tree, PackSettings(packing=packing))


@pytest.mark.parametrize("node", [FILE, StagedDirectory({"f": FILE})])
def test_name_that_is_not_utf8_cannot_be_a_title(node: StagedFile | StagedDirectory) -> None:
    with pytest.raises(InvalidInput, match=r"udcff.*rename it"):
        plan(StagedDirectory({"\udcff": node}), PackSettings())


def test_annotations_of_a_file_may_give_it_another_title() -> None:
    settings = PackSettings(
        layer_annotations={"f": {"org.opencontainers.image.title": "g", "k": "v"}}
    )
    layer = _file_layer(plan(StagedDirectory({"f": FILE}), settings))
    assert layer.descriptor(DIGEST).title == "g"


@pytest.mark.parametrize("name", ["io.deis.oras.content.unpack", "io.orasfs.layer.index"])
def test_annotations_that_packing_decides_cannot_be_given_to_a_directory(name: str) -> None:
    settings = PackSettings(layer_annotations={"d": {name: "false"}})
    with pytest.raises(InvalidInput, match="set by packing"):
        plan(StagedDirectory({"d": StagedDirectory()}), settings)


@pytest.mark.parametrize("has_base", [False, True])
def test_a_manifest_that_would_be_too_large_is_refused_before_there_are_digests(
    *, has_base: bool
) -> None:
    names = [f"{number:05}-{'x' * 200}" for number in range(12_000)]
    tree = StagedDirectory({"d": StagedDirectory(dict.fromkeys(names, FILE))})
    planned = plan(tree, PackSettings(packing=Packing.FILES))
    if has_base:
        base = parse_document(plan(StagedDirectory({}), PackSettings()).manifest([], 0))
        assert isinstance(base, Manifest)
        planned = plan_revision(tree, PackSettings(packing=Packing.FILES), Base(base, frozenset()))
    with pytest.raises(InvalidInput, match=r"over the limit of 4194304: .*user\.oras\.pack=tar"):
        planned.check_manifest()
    plan(tree, PackSettings()).check_manifest()


def test_the_size_of_a_manifest_is_found_to_the_byte_without_digests() -> None:
    tree = StagedDirectory({"f": FILE, "g": StagedFile("g", 10**9, mode=0o755)})
    planned = plan(tree, PackSettings())
    layers = [made_of_nothing(layer) for layer in planned.layers]
    made = [layer.descriptor(DIGEST) for layer in planned.layers if isinstance(layer, FileLayer)]
    assert len(planned.manifest(layers, 0)) == len(planned.manifest(made, 0))


def test_given_created_wins_over_the_epoch() -> None:
    created = "2001-01-01T00:00:00Z"
    settings = PackSettings(
        epoch_seconds=5, fields=ManifestFields(annotations={ANNOTATION_CREATED: created})
    )
    raw = plan(StagedDirectory(), settings).manifest([], 0)
    assert parse_document(raw).annotations[ANNOTATION_CREATED] == created
