"""What any target must do for a commit: fake registries, docker-registry and a layout alike."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from orasfs.errors import (
    Aborted,
    ContentMismatch,
    InvalidName,
    NotFound,
    OrasfsError,
    TagMoved,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import Target
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.settings import RegistrySettings
from orasfs.store.layout import LayoutSource
from orasfs.store.layoutwriter import LayoutTarget, create_layout
from tests.fakes.pushable import PushableRegistry
from tests.support.content import Memory, ignore, never
from tests.support.docker_registry import DockerRegistry
from tests.support.publish import OCI_INDEX, OCI_MANIFEST, descriptor_of, manifest_of

KINDS = ["fake", "fake-by-digest", "layout", "docker-registry"]
EMPTY = Memory(b"{}")


@pytest.fixture(scope="module")
def docker() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.registry] if kind == "docker-registry" else [])
        for kind in KINDS
    ]
)
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    """A target of each kind, empty."""
    if request.param == "layout":
        create_layout(tmp_path / "layout")
        yield LayoutTarget(tmp_path / "layout")
        return
    if request.param == "docker-registry":
        host = request.getfixturevalue("docker").host
    else:
        fake = request.getfixturevalue("fake")
        fake.deletes_tags = request.param == "fake"
        fake.has_referrers = request.param == "fake"
        host = fake.host
    remote = RemoteRegistry(host, RegistrySettings())
    yield remote.repository(tmp_path.name.replace("_", "-").lower().strip("-"))
    await remote.aclose()


@pytest.fixture
def fake() -> Iterator[PushableRegistry]:
    with PushableRegistry() as registry:
        yield registry


async def push(target: Target, content: Memory) -> Descriptor:
    await trio.to_thread.run_sync(target.push_blob, content.descriptor, content, ignore, never)
    return content.descriptor


async def put(target: Target, tag: str, **fields: object) -> Digest:
    """Push a manifest without layers under a tag; return its digest."""
    await push(target, EMPTY)
    raw = manifest_of(**fields)
    await target.push_manifest(raw, OCI_MANIFEST, tag)
    return Digest.of(raw)


@pytest.mark.parametrize("size", [0, 1, 100_000, 9_000_000])
async def test_a_pushed_blob_is_there(target: Target, size: int) -> None:
    content = Memory(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    assert not await target.has_blob(content.descriptor)
    seen: list[int] = []
    await trio.to_thread.run_sync(
        target.push_blob, content.descriptor, content, seen.append, never
    )
    assert await target.has_blob(content.descriptor)
    assert seen[-1] == size
    assert seen == sorted(seen)


async def test_a_blob_can_be_pushed_twice(target: Target) -> None:
    for _ in range(2):
        await push(target, Memory(b"twice"))
    assert await target.has_blob(Memory(b"twice").descriptor)


async def test_content_that_is_not_what_was_said_is_refused(target: Target) -> None:
    said = Memory(b"said").descriptor
    for other in (b"SAID", b"longer than said", b""):
        with pytest.raises(ContentMismatch):
            await trio.to_thread.run_sync(target.push_blob, said, Memory(other), ignore, never)
    assert not await target.has_blob(said)


async def test_a_file_that_became_shorter_is_refused(target: Target) -> None:
    class Shorter(Memory):
        @property
        def size(self) -> int:
            return 100_000

    whole = Memory(b"x" * 100_000).descriptor
    with pytest.raises(ContentMismatch):
        await trio.to_thread.run_sync(
            target.push_blob, whole, Shorter(b"x" * 50_000), ignore, never
        )
    assert not await target.has_blob(whole)


async def test_a_push_that_is_given_up_leaves_nothing(target: Target) -> None:
    content = Memory(b"z" * 5_000_000)
    seen: list[int] = []
    with pytest.raises(Aborted):
        await trio.to_thread.run_sync(
            target.push_blob,
            content.descriptor,
            content,
            seen.append,
            lambda: any(seen),
        )
    assert max(seen) < content.size
    assert not await target.has_blob(content.descriptor)


async def test_a_manifest_is_found_by_tag_and_by_digest(target: Target) -> None:
    await push(target, EMPTY)
    raw = manifest_of()
    for reference in (str(Digest.of(raw)), "v1"):
        await target.push_manifest(raw, OCI_MANIFEST, reference)
        found = await target.resolve(reference)
        assert (found.digest, found.size, found.media_type) == (
            Digest.of(raw),
            len(raw),
            OCI_MANIFEST,
        )
        assert await target.fetch_manifest(found) == raw


async def test_an_index_with_its_child_is_taken(target: Target) -> None:
    await push(target, EMPTY)
    child = manifest_of()
    await target.push_manifest(child, OCI_MANIFEST, str(Digest.of(child)))
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptor_of(child, OCI_MANIFEST)],
        }
    ).encode()
    await target.push_manifest(index, OCI_INDEX, "all")
    assert (await target.resolve("all")).media_type == OCI_INDEX


async def test_a_manifest_under_a_digest_that_is_not_its_own_is_refused(target: Target) -> None:
    with pytest.raises(ContentMismatch):
        await target.push_manifest(manifest_of(), OCI_MANIFEST, str(Digest.of(b"other")))


async def test_a_tag_moves_only_from_where_it_was_expected(target: Target) -> None:
    first = await put(target, "v1", annotations={"n": "1"})
    second = manifest_of(annotations={"n": "2"})
    for wrong in (None, Digest.of(b"other")):
        with pytest.raises(TagMoved) as caught:
            await target.push_manifest(second, OCI_MANIFEST, "v1", expected=wrong)
        assert caught.value.found == str(first)
        assert (await target.resolve("v1")).digest == first
    await target.push_manifest(second, OCI_MANIFEST, "v1", expected=first)
    assert (await target.resolve("v1")).digest == Digest.of(second)
    with pytest.raises(TagMoved):
        await target.push_manifest(second, OCI_MANIFEST, "new", expected=first)
    await target.push_manifest(second, OCI_MANIFEST, "new", expected=None)


async def test_what_a_tag_names_already_can_be_put_again(target: Target) -> None:
    """As after a commit whose answer was lost."""
    digest = await put(target, "v1")
    await target.push_manifest(manifest_of(), OCI_MANIFEST, "v1", expected=None)
    assert (await target.resolve("v1")).digest == digest


async def test_a_removed_tag_leaves_its_siblings(target: Target) -> None:
    digest = await put(target, "v1")
    await target.push_manifest(manifest_of(), OCI_MANIFEST, "latest")
    await target.delete_tag("v1")
    with pytest.raises(NotFound):
        await target.resolve("v1")
    assert (await target.resolve("latest")).digest == digest
    assert (await target.resolve(str(digest))).digest == digest
    with pytest.raises(NotFound):
        await target.delete_tag("v1")


async def test_a_removed_manifest_takes_its_tags_along(target: Target) -> None:
    digest = await put(target, "v1")
    await target.push_manifest(manifest_of(), OCI_MANIFEST, "latest")
    other = await put(target, "other", annotations={"n": "2"})
    await target.delete_manifest(digest)
    for gone in ("v1", "latest", str(digest)):
        with pytest.raises(NotFound):
            await target.resolve(gone)
    assert (await target.resolve("other")).digest == other
    with pytest.raises(NotFound):
        await target.delete_manifest(digest)


async def test_referrers_are_found_until_they_are_removed(target: Target) -> None:
    digest = await put(target, "v1")
    subject = {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": len(manifest_of())}
    referrers = [
        await put(target, f"r{n}", subject=subject, annotations={"n": str(n)}) for n in range(2)
    ]
    source = getattr(target, "list_referrers", None)
    if source is None:
        assert isinstance(target, LayoutTarget)
        source = LayoutSource(target.path).list_referrers
    found = await source(digest)
    assert sorted(entry.digest for entry in found) == sorted(referrers)
    assert {entry.annotations["n"] for entry in found} == {"0", "1"}
    assert {entry.artifact_type for entry in found} == {"application/vnd.example.test"}
    await target.delete_manifest(referrers[0])
    assert [entry.digest for entry in await source(digest)] == [referrers[1]]


async def test_a_tag_that_is_none_is_refused(target: Target) -> None:
    await push(target, EMPTY)
    with pytest.raises(OrasfsError) as caught:
        await target.push_manifest(manifest_of(), OCI_MANIFEST, ".not a tag")
    assert isinstance(caught.value, InvalidName)
