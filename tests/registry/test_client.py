"""How many and which requests an operation takes, and what odd answers mean."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from orasfs.errors import (
    ContentMismatch,
    Forbidden,
    InvalidContent,
    NotFound,
    RateLimited,
    RegistryFailure,
    Unauthorized,
    Unsupported,
)
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from tests.fakes.registry import FakeRegistry
from tests.support.publish import OCI_INDEX, OCI_MANIFEST, descriptor_of, manifest_of
from tests.support.remotes import remote_to

MANIFESTS = r"/manifests/"
RAW = manifest_of()
DIGEST = Digest.of(RAW)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_manifest("a/b", "v1", RAW)
        yield registry


@pytest.fixture
async def remote(registry: FakeRegistry) -> AsyncIterator[RemoteRegistry]:
    async with remote_to(registry.host) as remote:
        yield remote


@pytest.fixture
def repository(remote: RemoteRegistry) -> RemoteRepository:
    return remote.repository("a/b")


async def test_resolving_is_one_head(registry: FakeRegistry, repository: RemoteRepository) -> None:
    found = await repository.resolve("v1")
    assert (found.digest, found.size, found.media_type) == (DIGEST, len(RAW), OCI_MANIFEST)
    assert registry.requests == [("HEAD", "/v2/a/b/manifests/v1")]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 405},
        {"drop_headers": frozenset({"docker-content-digest"})},
        {"drop_headers": frozenset({"content-type"})},
        {"drop_headers": frozenset({"content-length"})},
        {"headers": {"Docker-Content-Digest": "nonsense"}},
    ],
)
async def test_where_head_does_not_tell_get_does(
    registry: FakeRegistry, repository: RemoteRepository, fault: dict[str, object]
) -> None:
    registry.fail(MANIFESTS, method="HEAD", times=-1, **fault)
    found = await repository.resolve("v1")
    assert (found.digest, found.size, found.media_type) == (DIGEST, len(RAW), OCI_MANIFEST)
    assert registry.count("GET", MANIFESTS) == 1


async def test_head_of_another_digest_than_asked_is_a_mismatch(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    other = {"Docker-Content-Digest": str(Digest.of(b"other"))}
    registry.fail(MANIFESTS, headers=other)
    with pytest.raises(ContentMismatch):
        await repository.resolve(str(DIGEST))


async def test_get_of_another_content_than_asked_is_a_mismatch(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    registry.fail(MANIFESTS, method="HEAD", status=405, times=-1)
    registry.put_manifest_as("a/b", str(DIGEST), RAW + b" ")
    for reference in (str(DIGEST), "v1"):
        with pytest.raises(ContentMismatch):
            await repository.resolve(reference)


async def test_page_of_a_portal_is_no_manifest(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    """A network that wants a login answers everything with 200 and HTML."""
    registry.fail(
        MANIFESTS, times=-1, status=200, headers={"Content-Type": "text/html"}, body=b"<html>"
    )
    with pytest.raises(InvalidContent):
        await repository.resolve("v1")


async def test_wrong_manifest_is_never_returned(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    found = await repository.resolve("v1")
    registry.put_manifest_as("a/b", str(DIGEST), RAW.replace(b"test", b"evil"))
    with pytest.raises(ContentMismatch):
        await repository.fetch_manifest(found)


async def test_manifest_over_four_mebibytes_is_refused(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    raw = RAW + b" " * (4 * 1024 * 1024)
    registry.put_manifest("a/b", "huge", raw)
    found = await repository.resolve("huge")
    with pytest.raises(InvalidContent, match="limit"):
        await repository.fetch_manifest(found)


async def test_manifest_is_asked_for_by_digest_and_with_its_type(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    found = replace(await repository.resolve("v1"), media_type="application/vnd.example+json")
    await repository.fetch_manifest(found)
    assert registry.requests[-1] == ("GET", f"/v2/a/b/manifests/{DIGEST}")
    assert "application/vnd.example+json" in registry.request_headers[-1]["accept"]


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (401, Unauthorized, 1),
        (403, Forbidden, 1),
        (404, NotFound, 1),
        (429, RateLimited, 2),
        (500, RegistryFailure, 2),
    ],
)
async def test_failures_carry_the_registrys_words(
    registry: FakeRegistry,
    repository: RemoteRepository,
    status: int,
    kind: type[Exception],
    requests: int,
) -> None:
    body = json.dumps({"errors": [{"code": "WHY", "message": "because"}]}).encode()
    registry.fail("tags/list", status=status, body=body, times=-1)
    with pytest.raises(kind, match=rf"^{registry.host}/a/b: tags: .*WHY: because"):
        await repository.list_tags()
    assert registry.count() == requests


async def test_tags_come_page_by_page(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    tags = [f"t{number:05}" for number in range(25)]
    registry.tag("a/b", "v1", *tags)
    registry.page_size = 10
    page = await repository.list_tags()
    assert list(page.names) == tags[:10]
    assert registry.count() == 1
    names = list(page.names)
    while page.next_token is not None:
        page = await repository.list_tags(page.next_token)
        names += page.names
    assert names == [*tags, "v1"]
    assert registry.count() == 3


async def test_limit_is_asked_for_only_where_given(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    await repository.list_tags()
    await repository.list_tags(limit=1)
    assert [path for _, path in registry.requests] == [
        "/v2/a/b/tags/list",
        "/v2/a/b/tags/list?n=1",
    ]


async def test_null_tags_are_none(registry: FakeRegistry, repository: RemoteRepository) -> None:
    registry.fail("tags/list", replace=b'{"name":"a/b","tags":null}')
    page = await repository.list_tags()
    assert (list(page.names), page.next_token) == ([], None)


async def test_page_token_of_another_host_is_not_followed(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    registry.fail("tags/list", headers={"Link": "<http://evil.example/>; rel=next"})
    with pytest.raises(RegistryFailure, match="another host"):
        await repository.list_tags()
    with pytest.raises(RegistryFailure, match="another host"):
        await repository.list_tags("http://evil.example/")


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_refused_catalog_is_unsupported(
    registry: FakeRegistry, remote: RemoteRegistry, status: int
) -> None:
    registry.fail("_catalog", status=status, body=b"go away")
    with pytest.raises(Unsupported, match="go away"):
        await remote.list_repositories()


async def test_failing_catalog_is_a_failure(
    registry: FakeRegistry, remote: RemoteRegistry
) -> None:
    registry.fail("_catalog", status=503, times=-1)
    with pytest.raises(RegistryFailure):
        await remote.list_repositories()


def referrer(number: int) -> bytes:
    subject = {"mediaType": OCI_MANIFEST, "digest": str(DIGEST), "size": len(RAW)}
    return manifest_of(subject=subject, annotations={"number": str(number)})


def index_of(*manifests: bytes) -> bytes:
    entries = [descriptor_of(raw, OCI_MANIFEST) for raw in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


async def test_referrers_are_read_to_the_last_page(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    for number in range(2):
        link = {"Link": f"</v2/a/b/referrers/{DIGEST}?page={number + 1}>; rel=next"}
        registry.fail(
            "/referrers/",
            status=200,
            headers={"Content-Type": OCI_INDEX} | (link if number == 0 else {}),
            body=index_of(referrer(number)),
        )
    found = await repository.list_referrers(DIGEST)
    assert [one.digest for one in found] == [Digest.of(referrer(n)) for n in range(2)]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 404},
        {"status": 405},
        {"status": 501},
        {"status": 200, "headers": {"Content-Type": "text/html"}, "body": b"<html>"},
    ],
)
async def test_without_the_api_the_tag_tells_the_referrers(
    registry: FakeRegistry, repository: RemoteRepository, fault: dict[str, object]
) -> None:
    registry.fail("/referrers/", times=-1, **fault)
    assert await repository.list_referrers(DIGEST) == ()
    registry.put_manifest("a/b", str(DIGEST).replace(":", "-"), index_of(referrer(1)), OCI_INDEX)
    (found,) = await repository.list_referrers(DIGEST)
    assert found.digest == Digest.of(referrer(1))


async def test_referrers_tag_on_no_index_is_none(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    """GitLab resolves `sha256-<hex>` to the subject itself."""
    registry.has_referrers = False
    registry.tag("a/b", "v1", str(DIGEST).replace(":", "-"))
    assert await repository.list_referrers(DIGEST) == ()


async def test_referrers_in_an_unknown_repository_are_not_found(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    """It is the API that answers so; asking for the tag would tell nothing more."""
    body = b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}'
    registry.fail("/referrers/", status=404, body=body)
    with pytest.raises(NotFound, match="NAME_UNKNOWN"):
        await repository.list_referrers(DIGEST)
    assert registry.count() == 1


async def test_refused_referrers_are_refused(
    registry: FakeRegistry, repository: RemoteRepository
) -> None:
    registry.fail("/referrers/", status=403)
    with pytest.raises(Forbidden):
        await repository.list_referrers(DIGEST)


async def test_endless_referrers_end(
    registry: FakeRegistry, repository: RemoteRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orasfs.registry.client._MAX_REFERRER_PAGES", 4)
    for number in range(6):
        link = f"</v2/a/b/referrers/{DIGEST}?page={number}>; rel=next"
        registry.fail(
            "/referrers/",
            status=200,
            headers={"Content-Type": OCI_INDEX, "Link": link},
            body=index_of(),
        )
    with pytest.raises(RegistryFailure, match="pages"):
        await repository.list_referrers(DIGEST)
    assert registry.count() == 4


async def test_what_is_no_registry_does_not_ping(
    registry: FakeRegistry, remote: RemoteRegistry
) -> None:
    registry.fail("/v2/", status=404)
    with pytest.raises(NotFound):
        await remote.ping()


async def test_names_are_for_people(remote: RemoteRegistry, registry: FakeRegistry) -> None:
    assert repr(remote) == f"RemoteRegistry({registry.host})"
    assert repr(remote.repository("a/b")) == f"RemoteRepository({registry.host}/a/b)"


async def test_closing_twice_is_harmless(remote: RemoteRegistry) -> None:
    await remote.ping()
    await remote.aclose()
    await remote.aclose()
