"""The index of referrers: read leniently, changed without loss."""

import json

import pytest

from orasfs.oci.digest import Digest
from orasfs.registry import referrers
from orasfs.registry.protocol import Answer
from tests.support.publish import OCI_INDEX, descriptor_of, manifest_of

RAW = manifest_of(annotations={"b": "2", "a": "1"})
DIGEST = Digest.of(RAW)


def entry(raw: bytes = RAW) -> dict[str, object]:
    document = referrers.read_document(raw)
    assert document is not None
    return referrers.entry_of(document, Digest.of(raw))


def test_an_entry_carries_type_and_annotations() -> None:
    assert entry() == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(DIGEST),
        "size": len(RAW),
        "annotations": {"a": "1", "b": "2"},
        "artifactType": "application/vnd.example.test",
    }


def test_the_type_of_a_manifest_without_one_is_that_of_its_config() -> None:
    raw = manifest_of(artifactType="", config=descriptor_of(b"{}", "application/vnd.x+json"))
    assert entry(raw)["artifactType"] == "application/vnd.x+json"


@pytest.mark.parametrize(
    "raw", [None, b"", b"{", b"[]", b'{"manifests":7}', manifest_of(), b'{"manifests":null}']
)
def test_what_is_no_index_counts_as_an_empty_one(raw: bytes | None) -> None:
    made = referrers.with_entry(raw, entry())
    assert made is not None
    assert json.loads(made)["manifests"] == [entry()]


def test_an_index_keeps_what_others_put_there() -> None:
    other = {"mediaType": "a/b", "digest": "sha256:x", "size": 1, "x": [1]}
    old = json.dumps({"schemaVersion": 2, "manifests": [other, 7], "y": {"z": 1}}).encode()
    made = referrers.with_entry(old, entry())
    assert made is not None
    assert json.loads(made) == {
        "schemaVersion": 2,
        "manifests": [other, 7, entry()],
        "y": {"z": 1},
    }
    removed = referrers.without_entry(made, DIGEST)
    assert removed is not None
    assert json.loads(removed) == json.loads(old)


def test_nothing_is_to_be_done_twice() -> None:
    made = referrers.with_entry(None, entry())
    assert referrers.with_entry(made, entry()) is None
    assert referrers.without_entry(None, DIGEST) is None


def test_a_document_of_no_known_kind_refers_to_nothing() -> None:
    assert referrers.read_document(b'{"schemaVersion":1}') is None


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (404, {}, b"404 page not found", True),
        (404, {}, b'{"errors":[{"code":"NAME_UNKNOWN","message":"m"}]}', False),
        (405, {}, b"", True),
        (200, {"content-type": OCI_INDEX}, b"", False),
        (200, {"content-type": "text/html"}, b"", True),
        (500, {}, b"", False),
    ],
)
def test_the_lack_of_the_api_is_told_from_its_answers(
    status: int, headers: dict[str, str], body: bytes, *, expected: bool
) -> None:
    assert referrers.lacks_api(Answer("", status, headers, body)) is expected
