"""index.json after a push or a removal: what is meant changes, nothing else does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.oci import layoutedit
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.layoutindex import parse_index
from orasfs.oci.manifest import parse_document
from tests.support.publish import GOLDEN_LAYOUT, OCI_MANIFEST, manifest_of

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))
REF_NAME = "org.opencontainers.image.ref.name"


def entry(digest: Digest) -> bytes:
    return layoutedit.entry_of(None, Descriptor(OCI_MANIFEST, digest, 5))


def put(index: bytes, digest: Digest, tag: str | None = None) -> bytes:
    return layoutedit.put(index, digest, entry(digest), tag)


def lines(index: bytes) -> list[tuple[Digest, str]]:
    """Return (digest, tag) of each entry, "" for none."""
    found: list[dict[str, Any]] = json.loads(index)["manifests"]
    return [
        (Digest.parse(one["digest"]), one.get("annotations", {}).get(REF_NAME, ""))
        for one in found
    ]


def build(*entries: tuple[Digest, str | None]) -> bytes:
    index = layoutedit.EMPTY_INDEX
    for digest, tag in entries:
        index = put(index, digest, tag)
    return index


def test_a_tag_is_an_annotation_of_an_entry() -> None:
    index = build((A, "v1"))
    assert json.loads(index) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": str(A),
                "size": 5,
                "annotations": {REF_NAME: "v1"},
            }
        ],
    }


def test_a_manifest_that_gets_a_tag_is_not_listed_without_one_too() -> None:
    assert lines(build((A, None), (A, "v1"))) == [(A, "v1")]


def test_a_tagged_manifest_needs_no_entry_without_a_tag() -> None:
    assert lines(build((A, "v1"), (A, None))) == [(A, "v1")]


def test_two_tags_of_a_manifest_are_two_entries() -> None:
    assert lines(build((A, "v1"), (A, "latest"))) == [(A, "v1"), (A, "latest")]


def test_a_tag_that_moves_leaves_the_old_manifest_without_one() -> None:
    assert sorted(lines(build((A, "v1"), (B, "v1")))) == sorted([(A, ""), (B, "v1")])


def test_a_tag_that_moves_off_a_manifest_with_another_tag_leaves_that() -> None:
    assert lines(build((A, "v1"), (A, "old"), (B, "v1"))) == [(A, "old"), (B, "v1")]


def test_putting_what_is_there_changes_no_byte() -> None:
    index = build((A, "v1"), (B, None))
    assert put(index, A, "v1") == index
    assert put(index, B) == index
    assert put(index, A) == index


def test_a_removed_tag_leaves_the_manifest() -> None:
    assert lines(layoutedit.remove_tag(build((A, "v1"), (B, "v2")), "v1")) == [(B, "v2"), (A, "")]
    assert lines(layoutedit.remove_tag(build((A, "v1"), (A, "v2")), "v1")) == [(A, "v2")]


def test_a_removed_manifest_takes_all_its_entries_along() -> None:
    index = build((A, "v1"), (A, "v2"), (B, "v3"))
    assert lines(layoutedit.remove_manifest(index, A)) == [(B, "v3")]


def test_what_others_wrote_keeps_its_bytes() -> None:
    foreign = b'{"digest" : "sha256:%s","size":1e2, "x":[1.50], "annotations":{"k":"\\u00e9"}}' % (
        b"f" * 64
    )
    index = b'{"zeta":{"b":1, "a":2},"manifests":[%s, 7],"schemaVersion":2}' % foreign
    changed = put(index, A, "v1")
    assert foreign in changed
    assert b'"zeta":{"b":1, "a":2}' in changed
    assert b",7," in changed
    assert list(json.loads(changed)) == ["zeta", "manifests", "schemaVersion"]


def test_a_tag_taken_off_keeps_all_else_of_the_entry() -> None:
    tagged = b'{"digest":"%s","size":5,"x": [1.50],"annotations":{"k":"v","%s":"v1"}}' % (
        str(A).encode(),
        REF_NAME.encode(),
    )
    index = put(b'{"manifests":[%s]}' % tagged, B, "v1")
    kept = json.loads(index)["manifests"][0]
    assert kept == {"digest": str(A), "size": 5, "x": [1.5], "annotations": {"k": "v"}}
    assert b'"x":[1.50]' in index.replace(b" ", b"")


@pytest.mark.parametrize("index", [b'{"manifests":null}', b"{}"])
def test_an_index_without_a_list_is_an_empty_one(index: bytes) -> None:
    assert lines(put(index, A, "v1")) == [(A, "v1")]


@pytest.mark.parametrize("index", [b"", b"[]", b"{", b'{"manifests":7}', b"\xff"])
def test_what_is_no_index_is_not_written_over(index: bytes) -> None:
    with pytest.raises(InvalidContent):
        put(index, A, "v1")


def test_entries_are_those_of_the_reference_client() -> None:
    """All golden entries, which the reference client wrote, come out the same."""
    index = json.loads((GOLDEN_LAYOUT / "index.json").read_bytes())
    for found in index["manifests"]:
        digest = Digest.parse(found["digest"])
        raw = (GOLDEN_LAYOUT / "blobs" / digest.algorithm / digest.hex).read_bytes()
        described = Descriptor(found["mediaType"], digest, len(raw))
        mine = layoutedit.entry_of(parse_document(raw), described)
        tag = found.get("annotations", {}).get(REF_NAME)
        made = layoutedit.put(layoutedit.EMPTY_INDEX, digest, mine, tag)
        assert json.loads(made)["manifests"] == [found]


def test_a_manifest_of_no_known_kind_has_an_entry_too() -> None:
    raw = manifest_of()
    described = Descriptor("application/vnd.example", Digest.of(raw), len(raw))
    assert json.loads(layoutedit.entry_of(None, described))["mediaType"] == described.media_type


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove_tag", "remove_manifest"]),
        st.sampled_from([A, B, C]),
        st.sampled_from([None, "v1", "v2"]),
    )
)


@given(STEPS)
def test_tags_and_manifests_are_those_of_a_model(
    steps: list[tuple[str, Digest, str | None]],
) -> None:
    index, tags, manifests = layoutedit.EMPTY_INDEX, dict[str, Digest](), set[Digest]()
    for kind, digest, tag in steps:
        if kind == "put":
            index = put(index, digest, tag)
            manifests.add(digest)
            if tag is not None:
                tags[tag] = digest
        elif kind == "remove_tag":
            index = layoutedit.remove_tag(index, tag or "none")
            tags.pop(tag or "none", None)
        else:
            index = layoutedit.remove_manifest(index, digest)
            manifests.discard(digest)
            tags = {name: found for name, found in tags.items() if found != digest}
    parsed = parse_index(index)
    assert {name: found.digest for name, found in parsed.tags.items()} == tags
    assert set(parsed.manifests) == manifests
    assert len(lines(index)) == len(set(lines(index)))
