"""Tables of contents of others: where they are, and which are refused."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping

import pytest

from orasfs.errors import InvalidContent
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.tree.layerindex import OWN_BLOB_BYTES, Extent, LayerIndex
from orasfs.tree.toc import (
    ESTARGZ_DIGEST,
    TocForm,
    TocPlace,
    estargz_start,
    find_toc,
    read_contents,
    unpack_estargz,
)
from orasfs.tree.tocentries import Contents
from tests.support.seekable import layer_of

DIGEST = Digest.of(b"a table")
PREFIX = "io.github.containers.zstd-chunked.manifest-"
HASH = f"sha256:{hashlib.sha256(b'x').hexdigest()}"


Entry = dict[str, object]


def make_tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def layer(annotations: Mapping[str, str], size: int = 10_000) -> Descriptor:
    return Descriptor("a/b", Digest.of(b"layer"), size, annotations=annotations)


def zstd_layer(position: str, checksum: str = str(DIGEST)) -> Descriptor:
    return layer({f"{PREFIX}position": position, f"{PREFIX}checksum": checksum})


def read(*entries: Entry, version: int = 1) -> Contents:
    raw = json.dumps({"version": version, "entries": entries}).encode()
    return read_contents(TocPlace(TocForm.ESTARGZ, Digest.of(raw), 0, 1), raw, 1000)


def file(name: str = "f", size: int = 10, **fields: object) -> Entry:
    return {"name": name, "type": "reg", "size": size, "digest": HASH, **fields}


def chunk(at: int, length: int, **fields: object) -> Entry:
    own = {"chunkOffset": at, "chunkSize": length, "chunkDigest": HASH}
    return {"name": "f", "type": "chunk", **own, **fields}


@pytest.mark.parametrize(
    "wrong",
    [
        layer({}),
        layer({ESTARGZ_DIGEST: "sha256:short"}),
        zstd_layer("1:2:3"),
        zstd_layer("1:2:3:2"),
        zstd_layer("9999:2:3:1"),
        zstd_layer("1:0:3:1"),
        zstd_layer("1:20:3:1"),
        zstd_layer(f"1:20:{1 << 40}:1"),
        zstd_layer("1:2:3:1", ""),
    ],
)
def test_layer_whose_annotations_announce_nothing_usable_has_no_table(wrong: Descriptor) -> None:
    assert find_toc(wrong) is None


def test_table_is_where_the_annotations_say() -> None:
    assert find_toc(zstd_layer("100:20:300:1")) == TocPlace(TocForm.ZSTD_CHUNKED, DIGEST, 100, 120)
    for size, start in ((1000, 0), (1 << 20, (1 << 20) - 32768), (1 << 40, (1 << 40) - (2 << 20))):
        found = find_toc(layer({ESTARGZ_DIGEST: str(DIGEST)}, size))
        assert found == TocPlace(TocForm.ESTARGZ, DIGEST, start, size)


def test_every_wrong_bit_of_a_footer_is_seen_or_leads_elsewhere() -> None:
    descriptor, blob = layer_of("image-estargz")
    footer = blob[-51:]
    right = estargz_start(footer, descriptor.size)
    for place in range(51):
        wrong = footer[:place] + bytes([footer[place] ^ 1]) + footer[place + 1 :]
        try:
            assert estargz_start(wrong, descriptor.size) != right
        except InvalidContent:
            continue


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(InvalidContent):
        estargz_start(b"short", 10_000)
    for content in (b"", make_tar("another", b"x"), make_tar("stargz.index.json", b"x" * 600)):
        with pytest.raises(InvalidContent):
            unpack_estargz(gzip.compress(content[:700]))


@pytest.mark.parametrize(
    "entries",
    [
        [file(digest="")],
        [file(digest="sha512:" + "0" * 128)],
        [file(size=-1)],
        [file(offset=1000)],
        [file(size=9 << 20)],
        [file(innerOffset=9 << 20)],
        [file(chunkSize=5)],
        [file(chunkSize=5), chunk(6, 4)],
        [file(chunkSize=5), chunk(5, 6)],
        [file(chunkSize=5, chunkDigest=HASH), chunk(5, 5, name="other")],
        [chunk(0, 5)],
        [{"name": "d", "type": "dir"}, chunk(0, 5)],
        [{"name": "d", "type": "door"}],
        [{"name": "../d", "type": "dir"}],
        [{"name": "link", "type": "hardlink", "linkName": "nothing"}],
        [{"name": "bad\ufffd", "type": "dir"}],
        [{"name": "d", "type": "dir", "modtime": "yesterday"}],
        [{"name": "d", "type": "dir", "modtime": "2024-13-01T00:00:00Z"}],
        [{"type": "dir"}],
    ],
)
def test_table_that_does_not_describe_a_layer_is_refused(entries: list[Entry]) -> None:
    with pytest.raises(InvalidContent):
        read(*entries)


def test_table_of_another_version_or_no_json_is_refused() -> None:
    with pytest.raises(InvalidContent, match="version 2"):
        read(version=2)
    with pytest.raises(InvalidContent, match="table of contents"):
        read_contents(TocPlace(TocForm.ESTARGZ, DIGEST, 0, 1), b"[", 10)


def test_zeros_are_holes_and_chunks_follow_one_another() -> None:
    contents = read(
        file(size=30, chunkSize=10, chunkDigest=HASH, offset=1),
        chunk(10, 10, chunkType="zeros", offset=50),
        chunk(20, 5, offset=60),
        chunk(25, 5, offset=60, innerOffset=5),
    )
    index = LayerIndex(contents.index)
    ordinal = index.locate("f")
    assert ordinal is not None
    assert index.extents(ordinal) == (Extent(0, 0, 10), Extent(20, 10, 10))
    assert [contents.chunks.blob_range(number) for number in range(3)] == [
        (1, 60),
        (60, 1000),
        (60, 1000),
    ]


def test_members_are_what_the_table_says() -> None:
    contents = read(
        {"name": "./d/", "type": "dir", "mode": 0o40755, "modtime": "2024-02-29T12:34:56.5Z"},
        file("d/large", OWN_BLOB_BYTES, mode=0o4711, modtime="2024-02-29T13:34:56+01:00"),
        {"name": "d/empty", "type": "reg", "digest": HASH},
        {"name": "d/link", "type": "symlink", "linkName": "large"},
        {"name": "d/hard", "type": "hardlink", "linkName": "d/large"},
        {"name": "d/device", "type": "char"},
    )
    index = LayerIndex(contents.index)
    top, large = index.locate("d"), index.locate("d/large")
    assert top is not None
    assert large is not None
    assert index.member(top).mtime_ns == 1709210096_500_000_000
    member = index.member(large)
    assert (member.mode, member.link_count) == (0o4711, 2)
    assert member.mtime_ns == 1709210096 * 10**9
    assert str(index.blob(0)) == HASH
    assert index.locate("d/hard") == large
    assert index.locate("d/device") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("1969-12-31T23:59:59.000000001Z", 1 - 10**9),
        ("2024-02-29T12:34:00Z", 1709210040 * 10**9),
        ("2024-02-29T12:34:59Z", 1709210099 * 10**9),
        ("2024-02-29T12:34:59-00:01", 1709210159 * 10**9),
        ("9999-12-31T23:59:59Z", 2**63 - 1),
    ],
)
def test_times_are_those_of_rfc_3339(text: str, expected: int) -> None:
    index = LayerIndex(read({"name": "d", "type": "dir", "modtime": text}).index)
    found = index.locate("d")
    assert found is not None
    assert index.member(found).mtime_ns == expected


@pytest.mark.parametrize(
    "text", ["2024-02-29T12:34:60Z", "2024-02-30T12:34:00Z", "2024-02-29 12:34:00Z", "00Z", "Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidContent, match="no time"):
        read({"name": "d", "type": "dir", "modtime": text})
