"""Hostile manifests: only InvalidContent comes out, and what is accepted keeps its invariants."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest, parse_document, parse_rfc3339_ns
from tests.support.fuzz import thousands
from tests.support.golden import GoldenManifest, golden_manifests

pytestmark = pytest.mark.slow

KINDS = sorted(mediatype.MANIFEST_TYPES | mediatype.INDEX_TYPES)
HEADERS = st.sampled_from(["", "application/json", "text/html; charset=utf-8", *KINDS])
EMPTY_DIGEST = str(Digest.of(b"{}"))

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**65),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([*KINDS, EMPTY_DIGEST, "e30=", "2024-03-01T00:00:00Z", "../../x", "true"]),
)
FIELDS = st.sampled_from(
    re.findall(
        r"\S+",
        """schemaVersion mediaType artifactType config layers blobs manifests subject annotations
        digest size urls data platform architecture os variant os.version os.features""",
    )
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(FIELDS | st.text(max_size=5), inner)
    ),
    max_leaves=20,
)
DESCRIPTORS = st.fixed_dictionaries(
    {"mediaType": SCALARS, "digest": st.just(EMPTY_DIGEST) | SCALARS, "size": SCALARS},
    optional={"annotations": ANYTHING, "data": SCALARS, "platform": ANYTHING, "urls": ANYTHING},
)
GOOD = st.fixed_dictionaries(
    {"mediaType": st.just("a/b"), "digest": st.just(EMPTY_DIGEST), "size": st.integers(0, 9)},
    optional={"annotations": st.dictionaries(st.text(max_size=9), st.text(max_size=9))},
)
DOCUMENTS = st.fixed_dictionaries(
    {"schemaVersion": st.just(2) | SCALARS},
    optional={
        "mediaType": st.sampled_from(KINDS) | SCALARS,
        "config": GOOD | DESCRIPTORS | ANYTHING,
        "layers": st.lists(GOOD | DESCRIPTORS, max_size=4) | ANYTHING,
        "blobs": st.lists(GOOD | DESCRIPTORS, max_size=4) | ANYTHING,
        "manifests": st.lists(GOOD | DESCRIPTORS, max_size=4) | ANYTHING,
        "subject": GOOD | DESCRIPTORS | ANYTHING,
        "annotations": st.dictionaries(st.text(max_size=5), st.text(max_size=5)) | ANYTHING,
        "artifactType": SCALARS,
    },
)


def descriptors_of(document: Manifest | Index) -> list[Descriptor]:
    listed = document.manifests if isinstance(document, Index) else document.layers
    config = document.config if isinstance(document, Manifest) else None
    return [one for one in (*listed, config, document.subject) if one is not None]


def check(raw: bytes, media_type: str) -> None:
    """Parse; whatever comes out must be what the rest of the program relies on."""
    try:
        document = parse_document(raw, media_type)
    except InvalidContent:
        return
    assert document.raw is raw
    assert document.media_type in KINDS
    assert isinstance(document, Index) is (document.media_type in mediatype.INDEX_TYPES)
    if mediatype.strip_parameters(media_type) in KINDS:
        assert document.media_type == mediatype.strip_parameters(media_type)
    assert isinstance(document.created_ns, int)
    hash(document)
    for descriptor in descriptors_of(document):
        assert 0 <= descriptor.size < 2**63
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", str(descriptor.digest))
        assert descriptor.media_type
        if descriptor.data is not None:
            assert len(descriptor.data) == descriptor.size
        for key, value in descriptor.annotations.items():
            (key + value).encode()  # no lone surrogates: they are no file names
    again = parse_document(raw, media_type)
    assert again == document


@thousands
@given(DOCUMENTS, HEADERS)
def test_documents_that_resemble_manifests(document: object, media_type: str) -> None:
    check(json.dumps(document).encode(), media_type)


@thousands
@given(st.sampled_from(golden_manifests()), HEADERS, st.data())
def test_golden_manifests_with_bytes_changed(
    golden: GoldenManifest, media_type: str, data: st.DataObject
) -> None:
    raw = bytearray(golden.raw)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        change = data.draw(st.sampled_from(["replace", "delete", "insert", "cut"]))
        if change == "replace":
            raw[position] = data.draw(st.integers(0, 255))
        elif change == "delete":
            del raw[position : position + data.draw(st.integers(1, 40))]
        elif change == "insert":
            raw[position:position] = data.draw(st.binary(max_size=9))
        else:
            del raw[position:]
        if not raw:
            break
    check(bytes(raw), media_type)


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths to every value inside a JSON document."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += paths_of(inner, (*path, number))
    return found


@thousands
@given(st.sampled_from(golden_manifests()), HEADERS, st.data())
def test_golden_manifests_with_a_value_changed(
    golden: GoldenManifest, media_type: str, data: st.DataObject
) -> None:
    document = json.loads(golden.raw)
    *way, last = data.draw(st.sampled_from(paths_of(document)))
    place = document
    for step in way:
        place = place[step]
    if data.draw(st.booleans()):
        place[last] = data.draw(ANYTHING)
    else:
        del place[last]
    check(json.dumps(document).encode(), media_type)


@thousands
@given(st.binary(max_size=300), HEADERS)
def test_bytes_of_any_kind(raw: bytes, media_type: str) -> None:
    check(raw, media_type)


@thousands
@given(st.text(max_size=40) | st.datetimes().map(lambda time: time.isoformat() + "Z"))
def test_a_time_is_always_a_number_that_a_kernel_can_take(text: str) -> None:
    assert -(2**63) < parse_rfc3339_ns(text) // 1_000_000_000 < 2**63
