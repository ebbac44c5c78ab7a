import json

import pytest

from orasfs.errors import InvalidInput
from orasfs.oci.descriptor import ANNOTATION_CREATED, Descriptor, Platform
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.staging.gojson import dumps
from orasfs.staging.manifest import (
    ImageSpec,
    ManifestFields,
    build_manifest,
    config_descriptor,
    descriptor_value,
    small_blobs,
)

LAYER = Descriptor("text/plain", Digest.of(b"x"), 1, {"org.opencontainers.image.title": "x"})


def _built(fields: ManifestFields, *layers: Descriptor) -> Manifest:
    manifest = parse_document(build_manifest(fields, layers, 0))
    assert isinstance(manifest, Manifest)
    return manifest


def test_created_is_added_unless_given() -> None:
    assert _built(ManifestFields()).annotations == {ANNOTATION_CREATED: "1970-01-01T00:00:00Z"}
    given = ManifestFields(annotations={ANNOTATION_CREATED: "2024-03-01T00:00:00.5+01:00"})
    assert _built(given).annotations == given.annotations


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2024-03-01", "2024-03-01 00:00:00Z", "2024-03-01T00:00:00",
        "2024-02-30T00:00:00Z", "2024-03-01T24:00:00Z", "2024-03-01t00:00:00z",
        "2024-03-01T00:00:00+24:00", "٢٠٢٤-03-01T00:00:00Z",
    ],
)  # fmt: skip
def test_created_that_is_no_time_is_refused(text: str) -> None:
    fields = ManifestFields(annotations={ANNOTATION_CREATED: text})
    with pytest.raises(InvalidInput, match="no RFC 3339 time"):
        build_manifest(fields, [LAYER], 0)


def test_config_type_alone_makes_an_old_manifest() -> None:
    config = config_descriptor(media_type="application/vnd.acme.config")
    raw = json.loads(build_manifest(ManifestFields(config=config), [], 0))
    assert "artifactType" not in raw
    assert raw["layers"] == []
    assert raw["config"] == {
        "mediaType": "application/vnd.acme.config",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }


def test_old_manifest_has_the_artifact_type_in_its_config() -> None:
    fields = ManifestFields("application/vnd.acme", image_spec=ImageSpec.V1_0)
    manifest = _built(fields, LAYER)
    assert manifest.config == config_descriptor(media_type="application/vnd.acme")
    assert small_blobs(manifest) == {Digest.of(b"{}"): b"{}"}


def test_subject_goes_before_the_annotations() -> None:
    raw = build_manifest(ManifestFields("a/b", subject=LAYER), [LAYER], 0)
    assert list(json.loads(raw)) == [
        "schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations",
    ]  # fmt: skip


def test_subject_without_a_type_of_its_own_is_refused() -> None:
    fields = ManifestFields(config=config_descriptor(), subject=LAYER)
    with pytest.raises(InvalidInput, match="artifact type"):
        build_manifest(fields, [LAYER], 0)


@pytest.mark.parametrize(
    ("fields", "layer", "what"),
    [
        (ManifestFields("nonsense"), "a/b", "artifact type"),
        (ManifestFields("a/b", config_descriptor(media_type="a/b/c")), "a/b", "config"),
        (ManifestFields(), "text plain", "media type of 'x'"),
        (ManifestFields(), "a/" + "b" * 128, "media type of 'x'"),
    ],
)
def test_malformed_media_type_is_refused(fields: ManifestFields, layer: str, what: str) -> None:
    layers = [Descriptor(layer, LAYER.digest, 1, LAYER.annotations)]
    with pytest.raises(InvalidInput, match=what):
        build_manifest(fields, layers, 0)


def test_manifest_over_four_mebibytes_is_refused_with_advice() -> None:
    with pytest.raises(InvalidInput, match="pack directories"):
        build_manifest(ManifestFields(annotations={"a": "x" * (4 << 20)}), [LAYER], 0)


def test_descriptor_members_are_in_the_order_of_the_reference_client() -> None:
    descriptor = Descriptor(
        "a/b", LAYER.digest, 3, {"b": "1", "a": "2"}, ("http://u",), b"abc",
        Platform("arm64", "linux", "v8", "1", ("f",)), "c/d",
    )  # fmt: skip
    assert dumps(descriptor_value(descriptor)).decode() == (
        f'{{"mediaType":"a/b","digest":"{LAYER.digest}","size":3,"urls":["http://u"],'
        '"annotations":{"a":"2","b":"1"},"data":"YWJj","platform":{"architecture":"arm64",'
        '"os":"linux","os.version":"1","os.features":["f"],"variant":"v8"},"artifactType":"c/d"}'
    )
