"""Pushing manifests and asking for blobs: which requests, and what refusals mean."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from orasfs.errors import (
    Forbidden,
    NotFound,
    OrasfsError,
    QuotaExceeded,
    RegistryFailure,
    TagImmutable,
    TagMoved,
    TooLarge,
    Unauthorized,
)
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from tests.fakes.pushable import PushableRegistry
from tests.fakes.registry import FakeRegistry
from tests.support.content import Memory, ignore, never
from tests.support.publish import OCI_INDEX, OCI_MANIFEST, digest_of, manifest_of
from tests.support.remotes import remote_to

MANIFESTS = r"/manifests/"
RAW = manifest_of()
DIGEST = Digest.of(RAW)
BLOB = Memory(b"content")


@pytest.fixture
def registry() -> Iterator[PushableRegistry]:
    with PushableRegistry() as registry:
        registry.put_blob("a/b", b"{}")
        registry.put_blob("other", BLOB.content)
        yield registry


@pytest.fixture
async def remote(registry: PushableRegistry) -> AsyncIterator[RemoteRegistry]:
    async with remote_to(registry.host) as remote:
        yield remote


@pytest.fixture
def repository(remote: RemoteRegistry) -> RemoteRepository:
    return remote.repository("a/b")


def words(code: str, message: str = "") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def subject_of(raw: bytes) -> dict[str, object]:
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(raw), "size": len(raw)}


# Blobs


async def test_asking_for_a_blob_is_one_head(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    assert not await repository.has_blob(BLOB.descriptor)
    assert registry.requests == [("HEAD", f"/v2/a/b/blobs/{BLOB.descriptor.digest}")]


async def test_a_blob_that_cannot_be_asked_for_is_not_taken_for_missing(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    for status, error in ((401, Unauthorized), (500, RegistryFailure)):
        registry.fail("/blobs/", status=status, times=2)
        with pytest.raises(error):
            await repository.has_blob(BLOB.descriptor)
        registry.heal()


async def test_a_blob_that_is_refused_may_not_be_there(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    """Registries refuse what does not exist; whether pushing is refused too, that tells."""
    registry.fail("/blobs/sha", status=403, times=-1)
    registry.fail("/manifests/", method="HEAD", status=403, times=2)
    assert not await repository.has_blob(BLOB.descriptor)
    raw = manifest_of()
    await repository.push_manifest(raw, OCI_MANIFEST, "v1", expected=None)
    assert registry.count("PUT") == 1


async def test_storage_elsewhere_that_refuses_head_is_not_asked_twice(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    with FakeRegistry() as storage:
        registry.put_blob("a/b", BLOB.content)
        registry.blob_location = f"http://{storage.host}/storage/"
        storage.fail("/storage/", status=403, times=-1)
        assert await repository.has_blob(BLOB.descriptor)
        assert len(storage.requests) == 1


async def test_a_blob_whose_storage_knows_no_head_is_there(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    """Addresses are signed for one method: GHCR's refuse HEAD."""
    registry.put_blob("a/b", BLOB.content)
    registry.blob_location = f"http://{registry.host}/storage/"
    assert await repository.has_blob(BLOB.descriptor)
    registry.fail("/storage/", status=403)
    assert await repository.has_blob(BLOB.descriptor)


async def test_a_blob_of_another_repository_is_mounted(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    assert await repository.mount_blob(BLOB.descriptor, "other")
    assert len(registry.requests) == 1
    assert await repository.has_blob(BLOB.descriptor)


async def test_the_upload_that_a_registry_begins_instead_is_cancelled(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.mounts = False
    assert not await repository.mount_blob(BLOB.descriptor, "other")
    assert registry.open_sessions == 0
    assert registry.removed_sessions == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_a_mount_that_is_refused_is_no_failure(
    registry: PushableRegistry, repository: RemoteRepository, status: int
) -> None:
    registry.fail("mount=", status=status)
    assert not await repository.mount_blob(BLOB.descriptor, "other")


async def test_a_session_elsewhere_is_not_cancelled(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.mounts, registry.locations = False, "http://127.0.0.1:1"
    assert not await repository.mount_blob(BLOB.descriptor, "other")


# Manifests


async def test_a_manifest_without_an_expectation_is_one_request(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    await repository.push_manifest(RAW, OCI_MANIFEST, "v1")
    assert registry.requests == [("PUT", "/v2/a/b/manifests/v1")]
    assert registry.request_headers[0]["content-type"] == OCI_MANIFEST
    assert (await repository.resolve("v1")).digest == DIGEST


async def test_an_expectation_is_looked_at_before_and_after(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    await repository.push_manifest(RAW, OCI_MANIFEST, "v1", expected=None)
    assert [method for method, _ in registry.requests] == ["HEAD", "PUT", "HEAD"]


async def test_a_tag_that_moved_is_not_put(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.put_manifest("a/b", "v1", RAW)
    other = manifest_of(annotations={"a": "b"})
    with pytest.raises(TagMoved) as caught:
        await repository.push_manifest(other, OCI_MANIFEST, "v1", expected=Digest.of(b"base"))
    assert caught.value.found == str(DIGEST)
    assert registry.count("PUT") == 0


async def test_a_tag_that_somebody_moves_at_the_same_moment_is_noticed(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    theirs = manifest_of(annotations={"by": "them"})
    answer = registry.put_manifest

    def put_then_lose(repository: str, reference: str, raw: bytes, media_type: str = "") -> str:
        digest = answer(repository, reference, raw, media_type)
        answer(repository, reference, theirs, OCI_MANIFEST)
        return digest

    registry.put_manifest = put_then_lose  # type: ignore[method-assign]  # the race to be lost
    with pytest.raises(TagMoved) as caught:
        await repository.push_manifest(RAW, OCI_MANIFEST, "v1", expected=None)
    assert caught.value.found == digest_of(theirs)


async def test_a_registry_that_still_answers_the_old_digest_is_believed_to_be_slow(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.put_manifest("a/b", "v1", RAW)
    registry.fail("/v1$", method="PUT", status=201)
    other = manifest_of(annotations={"a": "b"})
    await repository.push_manifest(other, OCI_MANIFEST, "v1", expected=DIGEST)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (
            400,
            words("TAG_INVALID", "cannot be overwritten: repository is immutable"),
            TagImmutable,
        ),
        (412, words("PRECONDITION", "'v1' configured as immutable"), TagImmutable),
        (409, words("TAG_ALREADY_EXISTS"), TagImmutable),
        (403, words("DENIED", "requested access to the resource is denied"), Forbidden),
        (403, words("DENIED", "quota exceeded"), QuotaExceeded),
        (507, b"", QuotaExceeded),
        (413, b"", TooLarge),
        (404, words("NAME_UNKNOWN", "create the repository first"), NotFound),
        (404, words("MANIFEST_BLOB_UNKNOWN"), RegistryFailure),
        (400, words("MANIFEST_BLOB_UNKNOWN"), RegistryFailure),
        (400, words("MANIFEST_INVALID"), RegistryFailure),
        (401, b"", Unauthorized),
        (307, b"", RegistryFailure),
    ],
)
async def test_a_refusal_says_why(
    registry: PushableRegistry,
    repository: RemoteRepository,
    status: int,
    body: bytes,
    error: type[OrasfsError],
) -> None:
    registry.fail(MANIFESTS, status=status, body=body, times=-1)
    with pytest.raises(error, match=r"a/b:v1: .") as caught:
        await repository.push_manifest(RAW, OCI_MANIFEST, "v1")
    assert type(caught.value) is error


async def test_a_digest_is_never_an_immutable_tag(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(MANIFESTS, status=400, body=words("MANIFEST_INVALID", "immutable"))
    with pytest.raises(RegistryFailure):
        await repository.push_manifest(RAW, OCI_MANIFEST, str(DIGEST))


async def test_a_passing_fault_is_got_over(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(MANIFESTS, status=503)
    await repository.push_manifest(RAW, OCI_MANIFEST, "v1")
    assert registry.count("PUT") == 2


async def test_a_manifest_of_any_size_is_refused_before_it_is_sent(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    with pytest.raises(TooLarge):
        await repository.push_manifest(RAW + b" " * 4 * 1024 * 1024, OCI_MANIFEST, "v1")
    assert registry.requests == []


async def test_a_registry_that_stores_something_else_is_noticed(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    other = {"Docker-Content-Digest": digest_of(b"other")}
    registry.fail(MANIFESTS, status=201, headers=other)
    with pytest.raises(RegistryFailure, match="stored it as"):
        await repository.push_manifest(RAW, OCI_MANIFEST, "v1")


async def test_a_manifest_of_an_unknown_kind_is_pushed_as_it_is(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    await repository.push_manifest(b'{"schemaVersion":1}', "application/vnd.example+json", "old")
    assert (await repository.resolve("old")).media_type == "application/vnd.example+json"


# Referrers


async def test_a_registry_with_referrers_needs_to_be_told_nothing(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    raw = manifest_of(subject=subject_of(RAW))
    await repository.push_manifest(raw, OCI_MANIFEST, "sig")
    assert [method for method, _ in registry.requests] == ["PUT"]
    assert [entry.digest for entry in await repository.list_referrers(DIGEST)] == [Digest.of(raw)]


async def test_a_registry_with_the_api_but_without_the_header_is_left_alone(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.sends_subject = False
    raw = manifest_of(subject=subject_of(RAW))
    await repository.push_manifest(raw, OCI_MANIFEST, "sig")
    assert [method for method, _ in registry.requests] == ["PUT", "GET"]


async def test_without_the_api_referrers_gather_under_a_tag(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.has_referrers = False
    pushed = [
        manifest_of(subject=subject_of(RAW), annotations={"n": str(number)}) for number in range(3)
    ]
    for raw in (*pushed, pushed[0]):
        await repository.push_manifest(raw, OCI_MANIFEST, str(Digest.of(raw)))
    found = await repository.list_referrers(DIGEST)
    assert [entry.digest for entry in found] == [Digest.of(raw) for raw in pushed]
    tagged = await repository.resolve(f"sha256-{DIGEST.hex}")
    assert tagged.media_type == OCI_INDEX


async def test_referrers_that_are_pushed_at_once_do_not_undo_each_other(
    registry: PushableRegistry, remote: RemoteRegistry
) -> None:
    registry.has_referrers = False
    raws = [
        manifest_of(subject=subject_of(RAW), annotations={"n": str(number)}) for number in range(5)
    ]
    async with trio.open_nursery() as nursery:
        for number, raw in enumerate(raws):
            push = remote.repository("a/b").push_manifest
            nursery.start_soon(push, raw, OCI_MANIFEST, f"sig-{number}")
    found = await remote.repository("a/b").list_referrers(DIGEST)
    assert {entry.digest for entry in found} == {Digest.of(raw) for raw in raws}


async def test_a_change_of_the_referrers_that_was_lost_is_made_again(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.has_referrers = False
    registry.fail("/manifests/sha256-", method="PUT", status=201, times=2)
    raw = manifest_of(subject=subject_of(RAW))
    await repository.push_manifest(raw, OCI_MANIFEST, "sig")
    assert [entry.digest for entry in await repository.list_referrers(DIGEST)] == [Digest.of(raw)]
    assert registry.count("PUT", "sha256-") == 3


async def test_referrers_that_cannot_be_recorded_fail_the_push(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.has_referrers = False
    registry.fail("/manifests/sha256-", method="PUT", status=201, times=-1)
    with pytest.raises(RegistryFailure, match="referrers"):
        await repository.push_manifest(manifest_of(subject=subject_of(RAW)), OCI_MANIFEST, "sig")


async def test_what_is_pushed_first_is_there_first(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    """A registry may refuse a manifest whose blobs it lacks; the blob makes it right."""
    layer = Memory(b"layer")
    raw = manifest_of(
        {"mediaType": "a/b", "digest": str(layer.descriptor.digest), "size": layer.size}
    )
    with pytest.raises(RegistryFailure, match="MANIFEST_BLOB_UNKNOWN"):
        await repository.push_manifest(raw, OCI_MANIFEST, "v1")
    await trio.to_thread.run_sync(repository.push_blob, layer.descriptor, layer, ignore, never)
    await repository.push_manifest(raw, OCI_MANIFEST, "v1")
