import dataclasses
import json

import pytest

from orasfs.errors import InvalidInput
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.staging.manifest import EMPTY_DESCRIPTOR, config_descriptor
from orasfs.staging.manifestedit import KeptLayer, ManifestChanges, edit_manifest
from tests.support.golden import GoldenManifest, golden_manifests, golden_tags

LAYER = Descriptor("text/plain", Digest.of(b"x"), 1, {"org.opencontainers.image.title": "x"})
NO_CHANGES = ManifestChanges()


def _parsed(raw: bytes) -> Manifest:
    manifest = parse_document(raw)
    assert isinstance(manifest, Manifest)
    return manifest


def _golden(tag: str) -> Manifest:
    return _parsed(golden_tags()[tag].raw)


def _all_of(base: Manifest) -> list[KeptLayer | Descriptor]:
    return [KeptLayer(ordinal) for ordinal in range(len(base.layers))]


_GOLDEN = [golden for golden in golden_manifests() if golden.media_type == mediatype.OCI_MANIFEST]


@pytest.mark.parametrize("golden", _GOLDEN, ids=lambda golden: golden.tag or golden.digest.hex[:8])
def test_edit_that_changes_nothing_keeps_the_bytes(golden: GoldenManifest) -> None:
    base = _parsed(golden.raw)
    assert edit_manifest(base, _all_of(base), NO_CHANGES) == golden.raw
    # The same content committed again is no change either.
    assert edit_manifest(base, list(base.layers), NO_CHANGES) == golden.raw
    same = ManifestChanges(annotations=base.annotations, config=base.config)
    assert edit_manifest(base, _all_of(base), same) == golden.raw


@pytest.mark.parametrize("golden", _GOLDEN, ids=lambda golden: golden.tag or golden.digest.hex[:8])
def test_replacing_a_layer_keeps_all_else_byte_for_byte(golden: GoldenManifest) -> None:
    base = _parsed(golden.raw)
    old = base.layers[-1]
    new = dataclasses.replace(old, digest=Digest.of(b"new"), size=77, data=None)
    raw = edit_manifest(base, [*_all_of(base)[:-1], new], NO_CHANGES)
    before, found, after = golden.raw.rpartition(
        f'"digest":"{old.digest}","size":{old.size}'.encode()
    )
    assert found
    assert raw.startswith(before + f'"digest":"{Digest.of(b"new")}","size":77'.encode())
    assert raw.endswith(after.removeprefix(b',"data":"e30="'))


FOREIGN = b"""{
  "annotations": {"k": "v"},
  "schemaVersion": 2,
  "x-unknown": {"pi": 3.1400, "big": 123456789012345678901234567890},
  "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
  "config": {"mediaType": "application/json", "size": 2, "x": null,
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
  "layers": [
    {"mediaType": "a/b", "size": 2, "x": [],
      "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}
  ]
}"""


def test_what_is_not_understood_is_kept_as_it_was_written() -> None:
    base = _parsed(FOREIGN)
    assert edit_manifest(base, [KeptLayer(0)], NO_CHANGES) == FOREIGN
    raw = edit_manifest(base, [KeptLayer(0), LAYER], NO_CHANGES)
    assert b'"x-unknown":{"pi":3.1400,"big":123456789012345678901234567890}' in raw
    assert list(json.loads(raw)) == list(json.loads(FOREIGN))
    assert json.loads(raw)["layers"][0] == json.loads(FOREIGN)["layers"][0]


def test_kept_layer_may_get_another_type_and_annotation() -> None:
    base = _parsed(FOREIGN)
    raw = edit_manifest(base, [KeptLayer(0, "c/d", {"n": "1"})], NO_CHANGES)
    expected = {**json.loads(FOREIGN)["layers"][0], "mediaType": "c/d", "annotations": {"n": "1"}}
    assert json.loads(raw)["layers"] == [expected]


def test_field_that_was_missing_is_put_where_the_reference_client_has_it() -> None:
    base = _golden("config")
    raw = edit_manifest(base, [KeptLayer(0)], ManifestChanges(artifact_type="a/b"))
    assert list(json.loads(raw)) == [
        "schemaVersion", "mediaType", "artifactType", "config", "layers", "annotations",
    ]  # fmt: skip


def test_fields_can_be_changed_and_removed() -> None:
    base = _golden("single")
    changes = ManifestChanges("", config_descriptor(b"new", "a/b"), {})
    raw = json.loads(edit_manifest(base, [KeptLayer(0)], changes))
    assert list(raw) == ["schemaVersion", "mediaType", "config", "layers"]
    assert raw["config"]["mediaType"] == "a/b"


def test_placeholder_makes_room_for_the_first_layer() -> None:
    base = _golden("no-layers")
    assert _parsed(edit_manifest(base, [KeptLayer(0), LAYER], NO_CHANGES)).layers == (LAYER,)


def test_placeholder_stands_in_when_the_last_layer_goes() -> None:
    assert _parsed(edit_manifest(_golden("single"), [], NO_CHANGES)).layers == (EMPTY_DESCRIPTOR,)
    assert _parsed(edit_manifest(_golden("spec-v1.0"), [], NO_CHANGES)).layers == ()


def test_removed_artifact_manifest_is_edited_in_its_own_form() -> None:
    raw = (
        b'{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"a/b",'
        b'"subject":{"mediaType":"a/b","digest":"%s","size":1}}' % str(LAYER.digest).encode()
    )
    base = _parsed(raw)
    assert edit_manifest(base, [], NO_CHANGES) == raw
    edited = json.loads(edit_manifest(base, [LAYER], NO_CHANGES))
    assert list(edited) == ["mediaType", "artifactType", "blobs", "subject"]
    assert edited["blobs"][0]["digest"] == str(LAYER.digest)


@pytest.mark.parametrize(
    "changes",
    [
        ManifestChanges(artifact_type="nonsense"),
        ManifestChanges(annotations={"org.opencontainers.image.created": "now"}),
    ],
)
def test_malformed_changes_are_refused(changes: ManifestChanges) -> None:
    with pytest.raises(InvalidInput):
        edit_manifest(_golden("single"), [KeptLayer(0)], changes)
