import json

from orasfs.oci.descriptor import Descriptor, Platform
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import parse_document
from orasfs.vfs import metadata

DESCRIPTOR = Descriptor(
    "application/vnd.oci.image.manifest.v1+json",
    Digest.of(b"x"),
    1,
    annotations={"k": "v"},
    platform=Platform("arm64", "linux", "v8"),
    artifact_type="application/vnd.test",
)


def test_a_descriptor_is_printed_without_its_manifest_too() -> None:
    assert json.loads(metadata.descriptor_json(DESCRIPTOR, None)) == {
        "annotations": {"k": "v"},
        "artifactType": "application/vnd.test",
        "digest": str(Digest.of(b"x")),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"},
        "size": 1,
    }


def test_an_index_has_annotations_and_no_blobs() -> None:
    raw = b'{"schemaVersion": 2, "manifests": [], "annotations": {"b": "2", "a": "1"}}'
    index = parse_document(raw)
    assert metadata.blobs_of(index) == ()
    text = metadata.annotations_json(index).decode()
    assert text == '{\n  "$manifest": {\n    "a": "1",\n    "b": "2"\n  }\n}\n'


def test_the_error_file_has_the_last_error_and_the_problems() -> None:
    assert metadata.error_text("", ()) == b""
    assert metadata.error_text("last\n", ("refused: x", "hidden: y")) == (
        b"last\nrefused: x\nhidden: y\n"
    )
