import json
import os
import shutil
from pathlib import Path

import pytest

from orasfs.errors import ContentMismatch, InvalidContent, InvalidName, NotFound
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.layoutindex import parse_index
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.store.layout import InPlace, LayoutRegistry, LayoutSource

GOLDEN = Path(__file__).parent.parent / "golden" / "layout"


def golden() -> LayoutSource:
    return LayoutRegistry(GOLDEN).repository("")


def make_layout(path: Path, manifests: object) -> Path:
    path.mkdir(exist_ok=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    write_index(path, manifests)
    return path


def write_index(path: Path, manifests: object) -> None:
    temporary = path / "index.json.new"
    temporary.write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    temporary.rename(path / "index.json")


def entry(raw: bytes, tag: str | None) -> dict[str, object]:
    made: dict[str, object] = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(Digest.of(raw)),
        "size": len(raw),
    }
    if tag is not None:
        made["annotations"] = {"org.opencontainers.image.ref.name": tag}
    return made


async def test_tags_are_listed_in_order_and_in_pages() -> None:
    source = golden()
    page = await source.list_tags()
    assert page.next_token is None
    assert list(page.names) == sorted(page.names)
    assert {"single", "multi", "index", "no-layers"} <= set(page.names)
    first = await source.list_tags(limit=3)
    rest = await source.list_tags(first.next_token)
    assert [*first.names, *rest.names] == list(page.names)


async def test_every_golden_manifest_resolves_by_tag_and_by_digest() -> None:
    source = golden()
    for tag in (await source.list_tags()).names:
        descriptor = await source.resolve(tag)
        assert await source.resolve(str(descriptor.digest)) == descriptor
        raw = await source.fetch_manifest(descriptor)
        assert Digest.of(raw) == descriptor.digest
        assert parse_document(raw).media_type == descriptor.media_type


async def test_referrers_are_found_by_subject() -> None:
    source = golden()
    single = await source.resolve("single")
    referrers = await source.list_referrers(single.digest)
    assert len(referrers) == 2
    for referrer in referrers:
        document = parse_document(await source.fetch_manifest(referrer))
        assert document.subject is not None
        assert document.subject.digest == single.digest
        assert referrer.artifact_type == document.artifact_type
    assert await source.list_referrers(Digest.of(b"nothing")) == ()


async def test_manifest_that_only_an_index_lists_resolves_by_digest(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    shutil.copytree(GOLDEN, layout)
    single = await golden().resolve("single")
    write_index(layout, None)
    source = LayoutRegistry(layout).repository("")
    assert (await source.list_tags()).names == []
    assert await source.resolve(str(single.digest)) == single
    layer = parse_document(await source.fetch_manifest(single))
    assert isinstance(layer, Manifest)
    with pytest.raises(NotFound, match="no manifest"):
        await source.resolve(str(layer.layers[0].digest))


async def test_changed_index_is_read_again(tmp_path: Path) -> None:
    source = LayoutRegistry(make_layout(tmp_path, [entry(b"a", "one")])).repository("")
    assert (await source.resolve("one")).digest == Digest.of(b"a")
    write_index(tmp_path, [entry(b"b", "one"), entry(b"c", "two")])
    assert (await source.resolve("one")).digest == Digest.of(b"b")
    assert (await source.list_tags()).names == ["one", "two"]


async def test_last_of_two_entries_with_one_tag_counts(tmp_path: Path) -> None:
    layout = make_layout(tmp_path, [entry(b"a", "v1"), entry(b"b", "v1"), entry(b"c", None)])
    source = LayoutRegistry(layout).repository("")
    assert (await source.resolve("v1")).digest == Digest.of(b"b")


def test_entries_that_are_not_valid_are_left_out() -> None:
    good = entry(b"a", "good")
    raw = json.dumps(
        {"manifests": [good, entry(b"b", "not a tag"), {"digest": "md5:1", "size": 1}, 7]}
    )
    index = parse_index(raw.encode())
    assert list(index.tags) == ["good"]
    assert set(index.manifests) == {Digest.of(b"a"), Digest.of(b"b")}


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"manifests": 3}', b"\xff\xfe", b"[" * 100_000])
def test_index_that_is_none_is_invalid_content(raw: bytes) -> None:
    with pytest.raises(InvalidContent):
        parse_index(raw)


async def test_missing_tag_and_missing_blob_are_not_found(tmp_path: Path) -> None:
    source = LayoutRegistry(make_layout(tmp_path, [entry(b"a", "v1")])).repository("")
    with pytest.raises(NotFound):
        await source.resolve("v2")
    with pytest.raises(NotFound):
        await source.resolve(str(Digest.of(b"z")))
    with pytest.raises(NotFound):
        await source.fetch_manifest(await source.resolve("v1"))


async def test_layout_that_lost_its_index_has_no_tags(tmp_path: Path) -> None:
    source = LayoutRegistry(make_layout(tmp_path, [])).repository("")
    (tmp_path / "index.json").unlink()
    with pytest.raises(NotFound):
        await source.list_tags()


async def test_damaged_manifest_is_a_mismatch(tmp_path: Path) -> None:
    source = LayoutRegistry(make_layout(tmp_path, [entry(b"good", "v1")])).repository("")
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "blobs/sha256" / Digest.of(b"good").hex).write_bytes(b"evil")
    with pytest.raises(ContentMismatch):
        await source.fetch_manifest(await source.resolve("v1"))


@pytest.mark.parametrize(
    ("marker", "words"),
    [(None, "oci-layout"), ('{"imageLayoutVersion": "9"}', "version"), ("nonsense", "oci-layout")],
)
def test_directory_that_is_no_layout_says_so(
    tmp_path: Path, marker: str | None, words: str
) -> None:
    if marker is not None:
        (tmp_path / "oci-layout").write_text(marker)
    with pytest.raises(InvalidName, match=words):
        LayoutRegistry(tmp_path)
    with pytest.raises(InvalidName, match="no such directory"):
        LayoutRegistry(tmp_path / "missing")


def test_blobs_are_offered_in_place_and_as_streams(tmp_path: Path) -> None:
    source = LayoutSource(tmp_path)
    content = os.urandom(3000)
    descriptor = Descriptor("x/y", Digest.of(content), len(content))
    assert isinstance(source, InPlace)
    assert source.blob_path(descriptor) is None
    with pytest.raises(NotFound):
        source.open_stream(descriptor)
    path = tmp_path / "blobs/sha256" / descriptor.digest.hex
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert source.blob_path(descriptor) == path
    stream = source.open_stream(descriptor, 1000, 2500)
    buffer = bytearray(4000)
    assert stream.offset == 1000
    assert stream.readinto(memoryview(buffer)) == 1500
    assert bytes(buffer[:1500]) == content[1000:2500]
    assert stream.readinto(memoryview(buffer)) == 0
    stream.close()
    stream.close()


async def test_layout_is_one_repository_without_a_catalog() -> None:
    registry = LayoutRegistry(GOLDEN)
    assert registry.repository("") is registry.repository("anything")
    assert (await registry.list_repositories()).names == ()
