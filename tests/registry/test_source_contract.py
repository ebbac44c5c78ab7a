"""What any registry must give through the client: the fake one as docker-registry."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Protocol

import pytest

from orasfs.errors import ContentMismatch, InvalidName, NotFound
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest, parse_document
from orasfs.oci.storage import Page, Source
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.settings import RegistrySettings
from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import DockerRegistry
from tests.support.publish import (
    GOLDEN_LAYOUT,
    OCI_INDEX,
    Registry,
    descriptor_of,
    layout_tags,
    manifest_of,
    publish_files,
    publish_layout,
)

CONTENT = bytes(range(256)) * 4096  # 1 MiB
REPOSITORIES = ["a", "a/b", "a/b/c", "team/hello"]


@pytest.fixture(
    scope="module",
    params=["fake", pytest.param("docker-registry", marks=pytest.mark.registry)],
)
def filled(request: pytest.FixtureRequest) -> Iterator[Registry]:
    """A registry with the same content, of each kind."""
    with FakeRegistry() if request.param == "fake" else DockerRegistry() as registry:
        for repository in REPOSITORIES[:3]:
            publish_files(registry, repository, "v1", **{"artifact.txt": repository.encode()})
        for tag in ("single", "multi", "index", "empty-file"):
            publish_layout(registry, GOLDEN_LAYOUT, tag, "team/hello")
        registry.put_blob("team/hello", CONTENT)
        registry.put_blob("team/hello", b"")
        yield registry


@pytest.fixture
async def remote(filled: Registry) -> AsyncIterator[RemoteRegistry]:
    """A client of it."""
    registry = RemoteRegistry(filled.host, RegistrySettings())
    yield registry
    await registry.aclose()


@pytest.fixture
def source(remote: RemoteRegistry) -> Source:
    return remote.repository("team/hello")


def blob(content: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(content), len(content))


def read_all(source: Source, descriptor: Descriptor, *span: int, step: int = 100_000) -> bytes:
    stream = source.open_stream(descriptor, *span)
    buffer = memoryview(bytearray(step))
    found = bytearray()
    try:
        while count := stream.readinto(buffer):
            found += buffer[:count]
        return bytes(found)
    finally:
        stream.close()


class Lister(Protocol):
    async def __call__(self, token: str | None = None) -> Page: ...


async def all_names(lister: Lister) -> list[str]:
    page = await lister()
    names = list(page.names)
    while page.next_token is not None:
        page = await lister(page.next_token)
        names += page.names
    return names


async def test_ping_finds_a_registry(remote: RemoteRegistry) -> None:
    await remote.ping()


@pytest.mark.parametrize("tag", ["single", "multi", "index"])
async def test_tag_resolves_to_type_digest_and_size(source: Source, tag: str) -> None:
    expected = layout_tags()[tag]
    found = await source.resolve(tag)
    assert (found.media_type, str(found.digest), found.size) == (
        expected["mediaType"],
        expected["digest"],
        expected["size"],
    )


async def test_digest_resolves_to_the_same_as_its_tag(source: Source) -> None:
    found = await source.resolve("multi")
    assert await source.resolve(str(found.digest)) == found


async def test_missing_tag_digest_and_repository_are_not_found(
    remote: RemoteRegistry, source: Source
) -> None:
    with pytest.raises(NotFound, match="team/hello:none"):
        await source.resolve("none")
    with pytest.raises(NotFound, match="@sha256:"):
        await source.resolve(str(Digest.of(b"none")))
    with pytest.raises(NotFound):
        await remote.repository("no/such").resolve("v1")


def test_invalid_repository_name_is_refused_without_a_request() -> None:
    with pytest.raises(InvalidName):
        RemoteRegistry("localhost:1", RegistrySettings()).repository("../etc")


async def test_manifests_come_as_stored(source: Source, golden_layout: object) -> None:
    for tag, kind in (("multi", Manifest), ("index", Index)):
        raw = await source.fetch_manifest(await source.resolve(tag))
        assert isinstance(parse_document(raw), kind)
        assert str(Digest.of(raw)) == layout_tags()[tag]["digest"]


async def test_manifest_of_another_size_than_described_is_refused(source: Source) -> None:
    found = await source.resolve("multi")
    with pytest.raises(ContentMismatch):
        await source.fetch_manifest(replace(found, size=found.size - 1))


async def test_missing_manifest_is_not_found(source: Source) -> None:
    with pytest.raises(NotFound):
        await source.fetch_manifest(blob(b"no manifest"))


async def test_tags_are_listed(source: Source) -> None:
    assert sorted(await all_names(source.list_tags)) == ["empty-file", "index", "multi", "single"]


async def test_pages_of_a_limited_list_make_the_whole(source: Source) -> None:
    page = await source.list_tags(limit=2)
    names = list(page.names)
    while page.next_token is not None:
        page = await source.list_tags(page.next_token)
        names += page.names
    assert sorted(names) == ["empty-file", "index", "multi", "single"]


async def test_tags_of_an_unknown_repository_are_not_found(remote: RemoteRegistry) -> None:
    with pytest.raises(NotFound, match="NAME_UNKNOWN"):
        await remote.repository("team/none").list_tags()


async def test_a_namespace_has_no_tags(remote: RemoteRegistry) -> None:
    with pytest.raises(NotFound):
        await remote.repository("team").list_tags()


async def test_repositories_are_listed(remote: RemoteRegistry) -> None:
    assert sorted(await all_names(remote.list_repositories)) == REPOSITORIES


async def test_nothing_refers_to_an_artifact_without_referrers(source: Source) -> None:
    assert await source.list_referrers((await source.resolve("single")).digest) == ()


async def test_referrers_are_listed_with_types_and_annotations(
    filled: Registry, remote: RemoteRegistry
) -> None:
    """By the API where there is one, else by the tag; docker-registry has the tag only."""
    digest = publish_files(filled, "a/b/c", "subject", **{"artifact.txt": b"subject"})
    annotations = {"org.example.note": "signed"}
    subject = {"mediaType": OCI_INDEX, "digest": digest, "size": 1}
    raw = manifest_of(
        subject=subject, annotations=annotations, artifactType="application/vnd.example.signature"
    )
    filled.put_manifest("a/b/c", str(Digest.of(raw)), raw)
    if not isinstance(filled, FakeRegistry):
        entry = descriptor_of(raw, "application/vnd.oci.image.manifest.v1+json")
        entry |= {
            "annotations": annotations,
            "artifactType": "application/vnd.example.signature",
        }
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        tag = digest.replace(":", "-")
        filled.put_manifest("a/b/c", tag, json.dumps(index).encode(), OCI_INDEX)
    (found,) = await remote.repository("a/b/c").list_referrers(Digest.parse(digest))
    assert found.digest == Digest.of(raw)
    assert found.size == len(raw)
    assert found.annotations == annotations
    assert found.artifact_type == "application/vnd.example.signature"


async def test_blob_is_read_whole(source: Source) -> None:
    assert read_all(source, blob(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (1, 2), (1000, 500_000), (0, 1 << 20), ((1 << 20) - 1, 1 << 20)]
)
async def test_blob_is_read_by_range(source: Source, start: int, stop: int) -> None:
    assert read_all(source, blob(CONTENT), start, stop) == CONTENT[start:stop]


async def test_blob_is_read_from_an_offset_to_the_end(source: Source) -> None:
    assert read_all(source, blob(CONTENT), 700_000) == CONTENT[700_000:]


async def test_stream_knows_its_offset(source: Source) -> None:
    stream = source.open_stream(blob(CONTENT), 10, 20)
    assert stream.offset == 10
    assert stream.readinto(memoryview(bytearray(4))) == 4
    assert stream.offset == 14
    stream.close()
    stream.close()


async def test_empty_blob_and_empty_range_are_empty(source: Source) -> None:
    assert read_all(source, blob(b"")) == b""
    assert read_all(source, blob(CONTENT), 5, 5) == b""
    assert read_all(source, blob(CONTENT), len(CONTENT)) == b""


async def test_missing_blob_is_not_found(source: Source) -> None:
    with pytest.raises(NotFound):
        source.open_stream(blob(b"none"))
    with pytest.raises(NotFound):
        source.open_stream(blob(b"none and more"), 3, 5)


async def test_blob_shorter_than_described_ends_early(source: Source) -> None:
    """Whoever verifies it sees that bytes are missing; no retry makes them come."""
    described = replace(blob(CONTENT), size=len(CONTENT) + 100)
    assert read_all(source, described) == CONTENT


async def test_blob_longer_than_described_shows_one_byte_more(source: Source) -> None:
    described = replace(blob(CONTENT), size=1000)
    assert read_all(source, described) == CONTENT[:1001]


async def test_range_of_a_blob_of_another_size_is_a_mismatch(source: Source) -> None:
    with pytest.raises(ContentMismatch):
        source.open_stream(replace(blob(CONTENT), size=1000), 10, 20)


async def test_loopback_is_trusted(source: Source) -> None:
    assert source.is_trusted
