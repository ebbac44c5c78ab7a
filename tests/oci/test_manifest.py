"""Manifests and indexes: what is read, what is refused and with which words."""

import base64
import json
from typing import Any  # JSON documents under construction

import pytest

from orasfs.errors import InvalidContent
from orasfs.oci import mediatype
from orasfs.oci.descriptor import ANNOTATION_CREATED, Platform
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import (
    MAX_MANIFEST_BYTES,
    Index,
    Manifest,
    parse_document,
    parse_rfc3339_ns,
)
from tests.support.golden import GoldenManifest, golden_manifests, golden_tags

EMPTY_DIGEST = str(Digest.of(b"{}"))
Json = dict[str, Any]


def descriptor(**changes: object) -> Json:
    return {"mediaType": "text/plain", "digest": EMPTY_DIGEST, "size": 2} | changes


def manifest(**changes: object) -> Json:
    base = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": descriptor(),
        "layers": [descriptor()],
    }
    return base | changes


def index(**changes: object) -> Json:
    base = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [descriptor(mediaType=mediatype.OCI_MANIFEST)],
    }
    return base | changes


def parse(document: object, media_type: str = "") -> Manifest | Index:
    return parse_document(json.dumps(document).encode(), media_type)


def refusal(document: object, media_type: str = "") -> str:
    with pytest.raises(InvalidContent) as caught:
        parse(document, media_type)
    return str(caught.value)


@pytest.mark.parametrize("golden", golden_manifests(), ids=lambda golden: str(golden.digest)[7:15])
def test_every_golden_manifest_parses_and_keeps_its_bytes(golden: GoldenManifest) -> None:
    document = parse_document(golden.raw, golden.media_type)
    assert document.raw == golden.raw
    assert Digest.of(document.raw) == golden.digest
    assert document.media_type == golden.media_type
    assert parse_document(golden.raw) == document


def test_a_golden_artifact_in_every_field() -> None:
    multi = parse_document(golden_tags()["multi"].raw)
    assert isinstance(multi, Manifest)
    assert [layer.title for layer in multi.layers] == ["artifact.txt", "docs"]
    assert [layer.is_packed_directory for layer in multi.layers] == [False, True]
    assert multi.config is not None
    assert multi.config.media_type == "application/vnd.acme.rocket.config.v1+json"
    assert multi.artifact_type == multi.config.media_type
    assert multi.created_ns == 1_709_251_200_000_000_000
    assert multi.subject is None


def test_html_escapes_of_the_reference_client_are_read() -> None:
    annotated = parse_document(golden_tags()["annotated"].raw)
    assert annotated.annotations["org.example.note"] == "café <&>"


def test_a_golden_referrer_names_its_subject() -> None:
    referrer = next(golden for golden in golden_manifests() if not golden.tag)
    document = parse_document(referrer.raw)
    assert document.subject is not None
    assert document.subject.digest == golden_tags()["single"].digest


def test_the_golden_index_has_two_children_of_a_type_and_no_platform() -> None:
    document = parse_document(golden_tags()["index"].raw)
    assert isinstance(document, Index)
    assert [child.digest for child in document.manifests] == [
        golden_tags()["single"].digest,
        golden_tags()["typed"].digest,
    ]
    assert {child.artifact_type for child in document.manifests} == {
        "application/vnd.acme.rocket.config"
    }
    assert {child.platform for child in document.manifests} == {None}


def test_docker_schema_2_is_read() -> None:
    document = parse(
        manifest(
            mediaType=mediatype.DOCKER_MANIFEST,
            config=descriptor(mediaType=mediatype.DOCKER_CONFIG),
            layers=[descriptor(mediaType="application/vnd.docker.image.rootfs.diff.tar.gzip")],
        )
    )
    assert isinstance(document, Manifest)
    assert mediatype.is_image_layer(document.layers[0].media_type)


def test_a_docker_manifest_list_is_read_with_its_platforms() -> None:
    platform = {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "os.version": "1.2",
        "os.features": ["x"],
    }
    child = descriptor(mediaType=mediatype.DOCKER_MANIFEST, platform=platform)
    document = parse(index(mediaType=mediatype.DOCKER_LIST, manifests=[child]))
    assert isinstance(document, Index)
    assert document.manifests[0].platform == Platform("arm64", "linux", "v8", "1.2", ("x",))


def test_the_removed_artifact_manifest_is_read_by_its_blobs() -> None:
    document = parse(
        {
            "mediaType": mediatype.OCI_ARTIFACT_MANIFEST,
            "artifactType": "application/vnd.acme",
            "blobs": [descriptor(annotations={"org.opencontainers.image.title": "a"})],
            "annotations": {"org.opencontainers.artifact.created": "1970-01-01T00:00:01Z"},
        }
    )
    assert isinstance(document, Manifest)
    assert [layer.title for layer in document.layers] == ["a"]
    assert (document.config, document.created_ns) == (None, 1_000_000_000)


@pytest.mark.parametrize("media_type", ["", mediatype.OCI_INDEX, mediatype.DOCKER_LIST])
def test_an_index_whose_manifests_are_null_is_empty(media_type: str) -> None:
    document = parse({"schemaVersion": 2, "manifests": None}, media_type)
    assert isinstance(document, Index)
    assert document.manifests == ()


def test_null_lists_and_annotations_are_empty() -> None:
    document = parse(manifest(layers=None, annotations=None))
    assert isinstance(document, Manifest)
    assert (document.layers, dict(document.annotations)) == ((), {})


def test_without_media_types_the_fields_decide() -> None:
    bare = manifest()
    del bare["mediaType"]
    assert parse(bare).media_type == mediatype.OCI_MANIFEST
    bare = index()
    del bare["mediaType"]
    assert parse(bare).media_type == mediatype.OCI_INDEX


def test_without_its_own_the_media_type_of_the_header_decides() -> None:
    bare = manifest()
    del bare["mediaType"]
    header = f"{mediatype.DOCKER_MANIFEST}; charset=utf-8"
    assert parse(bare, header).media_type == mediatype.DOCKER_MANIFEST


def test_a_header_of_no_readable_kind_says_nothing() -> None:
    assert parse(manifest(), "application/json").media_type == mediatype.OCI_MANIFEST


def test_unknown_fields_are_ignored() -> None:
    assert parse(manifest(history=[1, {"a": None}], SchemaVersion=1)).media_type


def test_of_a_repeated_key_the_last_one_counts_as_for_the_reference_client() -> None:
    config = json.dumps(descriptor(mediaType="a/last"))
    raw = json.dumps(manifest()).removesuffix("}") + f', "config": {config}}}'
    document = parse_document(raw.encode())
    assert isinstance(document, Manifest)
    assert document.config is not None
    assert document.config.media_type == "a/last"


@pytest.mark.parametrize(
    "document",
    [
        index(layers=[descriptor()]),
        index(config=descriptor()),
        manifest(manifests=[descriptor()]),
        manifest(manifests=[]),
        {"schemaVersion": 2, "layers": [descriptor()], "manifests": [descriptor()]},
        {"schemaVersion": 2, "config": descriptor(), "manifests": [descriptor()]},
    ],
)
def test_a_document_that_could_be_read_as_manifest_and_as_index_is_refused(document: Json) -> None:
    """CVE-2021-41190: two readers would see two artifacts under one digest."""
    assert "does not belong into" in refusal(document)


def test_a_media_type_that_is_not_the_one_it_was_served_as_is_refused() -> None:
    """CVE-2021-41190, the other half."""
    assert "$.mediaType" in refusal(manifest(), mediatype.OCI_INDEX)
    assert "$.mediaType" in refusal(index(), mediatype.OCI_MANIFEST)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (manifest(schemaVersion=1), "$.schemaVersion"),
        (manifest(schemaVersion=None), "$.schemaVersion"),
        (manifest(schemaVersion="2"), "$.schemaVersion"),
        (manifest(mediaType="text/plain"), "$.mediaType"),
        (manifest(mediaType=7), "$.mediaType"),
        (manifest(config=None), "$.config"),
        (manifest(config=[]), "$.config"),
        (manifest(layers={}), "$.layers"),
        (manifest(layers=[descriptor(), descriptor(size="1000")]), "$.layers[1].size"),
        (manifest(layers=[descriptor(size=1000.0)]), "$.layers[0].size"),
        (manifest(layers=[descriptor(size=-1)]), "$.layers[0].size"),
        (manifest(layers=[descriptor(size=2**63)]), "$.layers[0].size"),
        (manifest(layers=[descriptor(size=10**40)]), "$.layers[0].size"),
        (manifest(layers=[descriptor(size=True)]), "$.layers[0].size"),
        (manifest(layers=[descriptor(digest="sha256:short")]), "$.layers[0].digest"),
        (manifest(layers=[descriptor(digest="../../etc/passwd")]), "$.layers[0].digest"),
        (manifest(layers=[descriptor(mediaType="")]), "$.layers[0].mediaType"),
        (manifest(layers=[{"mediaType": "a/b", "size": 1}]), "$.layers[0]"),
        (manifest(layers=[None]), "$.layers[0]"),
        (manifest(config=descriptor(annotations={"a": 1})), "$.config.annotations"),
        (manifest(config=descriptor(data="***")), "$.config.data"),
        (manifest(config=descriptor(data="e30K")), "$.config.data"),
        (manifest(subject=descriptor(digest="x")), "$.subject.digest"),
        (manifest(annotations=[]), "$.annotations"),
        (index(manifests=[descriptor(digest="x")]), "$.manifests[0].digest"),
        (index(manifests=[descriptor(platform="linux")]), "$.manifests[0].platform"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(document: Json, field: str) -> None:
    assert field in refusal(document)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"2",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b'{"schemaVersion":2,"annotations":{"a":"\xff"}}',
        b'{"schemaVersion":2,"annotations":{"a":"\\ud800"}}',
        b'{"schemaVersion":2} trailing',
        b'{"schemaVersion":NaN}',
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b'{"schemaVersion":2,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"schemaVersion":' + b"9" * 100_000 + b"}",
        b'{"schemaVersion":1e400}',
    ],
    ids=range(16),
)
def test_what_is_no_json_object_of_ours_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidContent, match="manifest"):
        parse_document(raw)


def test_the_limit_is_four_mebibytes_exactly() -> None:
    raw = json.dumps(manifest()).encode()
    parse_document(raw.ljust(MAX_MANIFEST_BYTES))
    with pytest.raises(InvalidContent, match="over the limit"):
        parse_document(raw.ljust(MAX_MANIFEST_BYTES + 1))


def test_inline_content_is_decoded_and_checked() -> None:
    content = base64.b64encode(b"{}").decode()
    document = parse(manifest(config=descriptor(data=content)))
    assert isinstance(document, Manifest)
    assert document.config is not None
    assert document.config.data == b"{}"


def test_the_artifact_type_falls_back_to_the_config() -> None:
    assert parse(manifest()).artifact_type == "text/plain"
    assert parse(manifest(artifactType="a/b")).artifact_type == "a/b"


def test_annotations_cannot_be_changed() -> None:
    document = parse(manifest(annotations={"a": "b"}))
    with pytest.raises(TypeError):
        document.annotations["a"] = "c"  # type: ignore[index]  # the point of the test


def test_the_representation_leaves_the_bytes_out() -> None:
    assert "raw" not in repr(parse(manifest()))


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-03-01T00:00:00Z", 1_709_251_200_000_000_000),
        ("2024-03-01T01:00:00+01:00", 1_709_251_200_000_000_000),
        ("2024-02-29T19:30:00-04:30", 1_709_251_200_000_000_000),
        ("2024-03-01t00:00:00z", 1_709_251_200_000_000_000),
        ("2024-03-01T00:00:00.5Z", 1_709_251_200_500_000_000),
        ("2024-03-01T00:00:00.123456789123Z", 1_709_251_200_123_456_789),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
        ("", 0),
        ("yesterday", 0),
        ("2024-03-01", 0),
        ("2024-03-01T00:00:00", 0),
        ("2024-03-01 00:00:00Z", 0),
        ("20240301T000000Z", 0),
        ("2024-W09-5T00:00:00Z", 0),
        ("2024-02-30T00:00:00Z", 0),
        ("2024-03-01T24:00:00Z", 0),
        ("2024-03-01T00:00:00+01", 0),
        ("٢٠٢٤-03-01T00:00:00Z", 0),
        ("2024-03-01T00:00:00Z\n", 0),
    ],
)
def test_times_are_those_of_rfc_3339_or_the_epoch(text: str, expected_ns: int) -> None:
    assert parse_rfc3339_ns(text) == expected_ns
    assert parse(manifest(annotations={ANNOTATION_CREATED: text})).created_ns == expected_ns
