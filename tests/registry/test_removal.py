"""Removing a tag: by itself, by a replacement, or not at all; never a sibling."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from orasfs.errors import Busy, Forbidden, NotFound, TagImmutable, Unsupported
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRepository
from tests.fakes.pushable import PushableRegistry
from tests.support.publish import OCI_MANIFEST, manifest_of
from tests.support.remotes import remote_to

RAW = manifest_of()
DIGEST = Digest.of(RAW)


@pytest.fixture
def registry() -> Iterator[PushableRegistry]:
    with PushableRegistry() as registry:
        registry.put_blob("a/b", b"{}")
        registry.put_manifest("a/b", "v1", RAW)
        registry.tag("a/b", "v1", "latest")
        yield registry


@pytest.fixture
async def repository(registry: PushableRegistry) -> AsyncIterator[RemoteRepository]:
    async with remote_to(registry.host) as remote:
        yield remote.repository("a/b")


def tags(registry: PushableRegistry) -> dict[str, str]:
    return dict(registry._tags["a/b"])


async def test_a_registry_that_removes_tags_is_asked_for_that(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    await repository.delete_tag("v1")
    assert registry.requests == [
        ("HEAD", "/v2/a/b/manifests/v1"),
        ("DELETE", "/v2/a/b/manifests/v1"),
    ]
    assert tags(registry) == {"latest": str(DIGEST)}


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_where_it_cannot_a_replacement_is_deleted(
    registry: PushableRegistry, repository: RemoteRepository, status: int
) -> None:
    registry.fail("/v1$", method="DELETE", status=status)
    await repository.delete_tag("v1")
    assert tags(registry) == {"latest": str(DIGEST)}
    assert list(registry._manifests["a/b"]) == [str(DIGEST)]
    assert registry.count("DELETE", str(DIGEST)) == 0


async def test_the_config_that_a_replacement_needs_is_pushed(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.deletes_tags = False
    registry._blobs["a/b"].clear()
    await repository.delete_tag("v1")
    assert tags(registry) == {"latest": str(DIGEST)}


async def test_a_registry_that_deletes_nothing_keeps_the_tag_all_the_time(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.deletes = False
    with pytest.raises(Unsupported):
        await repository.delete_tag("v1")
    assert tags(registry) == {"v1": str(DIGEST), "latest": str(DIGEST)}
    assert registry.count("PUT", "/v1$") == 0


@pytest.mark.parametrize("failing", [{"method": "PUT", "path": "/v1$"}, {"method": "DELETE"}])
async def test_a_removal_that_fails_half_way_is_undone(
    registry: PushableRegistry, repository: RemoteRepository, failing: dict[str, str]
) -> None:
    registry.deletes_tags = False
    order = registry._delete
    deleted: list[str] = []

    def fail_second(name: str, reference: str) -> tuple[int, dict[str, str], bytes]:
        if ":" in reference:
            deleted.append(reference)
            if len(deleted) == 2:
                return 403, {}, b""
        return order(name, reference)

    if failing["method"] == "PUT":
        registry.fail(failing["path"], method="PUT", status=403)
    else:
        registry._delete = fail_second  # type: ignore[method-assign]  # a fault of its own
    with pytest.raises(Busy, match="403"):
        await repository.delete_tag("v1")
    assert tags(registry) == {"v1": str(DIGEST), "latest": str(DIGEST)}


async def test_what_cannot_be_undone_says_what_was_there(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.deletes_tags = False
    registry.fail("sha256:", method="DELETE", times=0)
    order = registry._delete

    def fail_all_after_first(name: str, reference: str) -> tuple[int, dict[str, str], bytes]:
        if registry.count("PUT", "/v1$"):
            registry.fail("/v1$", method="PUT", status=403, times=-1)
            return 403, {}, b""
        return order(name, reference)

    registry._delete = fail_all_after_first  # type: ignore[method-assign]  # a fault of its own
    with pytest.raises(Busy, match=str(DIGEST)):
        await repository.delete_tag("v1")


async def test_who_gives_up_half_way_leaves_nothing_half_done(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.deletes_tags = False
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(repository.delete_tag, "v1")
            with trio.fail_after(10):
                while not registry.count("PUT", "/v1$"):  # noqa: ASYNC110 - no one tells us
                    await trio.sleep(0.001)
            scope.cancel()
    assert tags(registry) == {"latest": str(DIGEST)}


async def test_refusals_are_named(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail("/v1$", method="DELETE", status=403)
    with pytest.raises(Forbidden):
        await repository.delete_tag("v1")
    registry.fail("/v1$", method="DELETE", status=412, body=b"configured as immutable")
    with pytest.raises(TagImmutable):
        await repository.delete_tag("v1")
    registry.deletes = False
    with pytest.raises(Unsupported):
        await repository.delete_manifest(DIGEST)
    with pytest.raises(NotFound):
        await repository.delete_manifest(Digest.of(b"none"))


async def test_a_removed_referrer_is_taken_out_of_the_list(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.has_referrers = False
    subject = {"mediaType": OCI_MANIFEST, "digest": str(DIGEST), "size": len(RAW)}
    raw = manifest_of(subject=subject)
    await repository.push_manifest(raw, OCI_MANIFEST, "sig")
    await repository.delete_manifest(Digest.of(raw))
    assert await repository.list_referrers(DIGEST) == ()
