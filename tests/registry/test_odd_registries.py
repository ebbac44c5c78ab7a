"""What registries really do, and where a test shows that it is coped with: the whole list.

`ELSEWHERE` names the tests of behaviours that other modules show; those that it takes a registry
of its own kind for are below. Each line of the list is held to name tests that exist.
"""

import ast
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from orasfs.errors import Unsupported
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from tests.fakes.pushable import PushableRegistry
from tests.support.content import Memory, ignore, never
from tests.support.loopback import Exchange
from tests.support.publish import OCI_MANIFEST, manifest_of
from tests.support.remotes import remote_to

TESTS = Path(__file__).parent.parent
REGISTRY = "registry/test_{}.py::test_{}"
ACCEPTANCE = "acceptance/test_{}.py::test_{}"

ELSEWHERE = {
    "there is no catalog": [
        REGISTRY.format("client", "refused_catalog_is_unsupported"),
        ACCEPTANCE.format("browsing", "every_name_is_found_whatever_is_listed"),
    ],
    "pages are found by opaque links only": [
        REGISTRY.format("client", "tags_come_page_by_page"),
        REGISTRY.format("protocol", "link_to_the_next_page"),
    ],
    "nothing is deleted (405)": [
        REGISTRY.format("removal", "a_registry_that_deletes_nothing_keeps_the_tag_all_the_time"),
    ],
    "tags are not deleted, digests are": [
        REGISTRY.format("removal", "where_it_cannot_a_replacement_is_deleted"),
    ],
    "there is no referrers API": [
        REGISTRY.format("client", "without_the_api_the_tag_tells_the_referrers"),
        REGISTRY.format("push", "without_the_api_referrers_gather_under_a_tag"),
    ],
    "a range is answered with 200": [
        REGISTRY.format("bulk", "ignored_range_gives_the_reader_the_whole"),
        REGISTRY.format("bulk", "ignored_range_in_the_middle_is_skipped_to"),
    ],
    "ranges are refused (416)": [
        REGISTRY.format("bulk", "range_that_cannot_be_had_becomes_the_whole"),
    ],
    "signed addresses expire": [
        REGISTRY.format("bulk", "an_address_that_has_expired_is_asked_for_anew"),
        ACCEPTANCE.format(
            "redirects", "a_slow_read_outlives_the_addresses_that_it_is_served_from"
        ),
    ],
    "HEAD is refused, or tells too little": [
        REGISTRY.format("client", "where_head_does_not_tell_get_does"),
        REGISTRY.format("push", "storage_elsewhere_that_refuses_head_is_not_asked_twice"),
    ],
    "tags are immutable": [
        REGISTRY.format("uploads", "a_refused_tag_is_named"),
        ACCEPTANCE.format("registry_faults", "what_a_registry_refuses_keeps_the_draft"),
    ],
    "401 or 403 for what does not exist": [
        REGISTRY.format("push", "a_blob_that_is_refused_may_not_be_there"),
        ACCEPTANCE.format("authentication", "a_name_that_is_refused_with_a_token_is_not_there"),
        ACCEPTANCE.format(
            "authentication", "a_repository_is_begun_where_what_does_not_exist_is_refused"
        ),
    ],
    "chunks are not taken": [REGISTRY.format("upload", "a_blob_takes_two_requests")],
    "a body may not be large": [
        REGISTRY.format("upload", "a_registry_that_refuses_whole_blobs_gets_chunks"),
        REGISTRY.format("upload", "chunks_get_smaller_where_they_are_too_large"),
        REGISTRY.format("upload", "chunks_are_of_the_size_that_the_registry_wants"),
    ],
    "Location is relative, or of another host": [
        REGISTRY.format("uploads", "a_session_is_where_the_answer_says"),
        REGISTRY.format("upload", "a_location_of_another_host_is_refused"),
    ],
    "warnings (299)": [REGISTRY.format("transport", "warnings_are_logged_once_each")],
    "errors that are no JSON, and pages of HTML": [
        REGISTRY.format("protocol", "error_bodies_of_any_format"),
        REGISTRY.format("client", "page_of_a_portal_is_no_manifest"),
    ],
    "quotas": [
        REGISTRY.format("upload", "a_quota_is_told_from_a_refusal"),
        ACCEPTANCE.format("registry_faults", "what_a_registry_refuses_keeps_the_draft"),
    ],
    "rate limits": [
        REGISTRY.format("bulk", "limit_that_lasts_is_rate_limited"),
        REGISTRY.format("transport", "retry_after_is_waited_for"),
    ],
    "every name has a tag list": [
        ACCEPTANCE.format("browsing", "every_name_is_found_whatever_is_listed"),
    ],
}

RAW = manifest_of()
MIB = 1024 * 1024
BLOB = Memory(bytes(range(256)) * (10 * MIB // 256))


@pytest.mark.parametrize("behaviour", ELSEWHERE)
def test_what_shows_it_exists(behaviour: str) -> None:
    for node in ELSEWHERE[behaviour]:
        path, _, name = node.partition("::")
        tree = ast.parse((TESTS / path).read_text("utf-8"))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert name in {each.name for each in tree.body if isinstance(each, functions)}, node


class OddRegistry(PushableRegistry):
    """One whose oddities are those below; each is off at first.

    Attributes:
        page_tokens: the catalog's pages have tokens of their own, and `last` is refused (ECR).
        refuses_open_ranges: 416 to `bytes=N-` (the registry of go-containerregistry).
        chunk_status: what a chunk is answered with.
        keeps_range: from the second chunk on, Range says what it said of the first (ECR).
        largest_patch: 416 to a chunk that is larger (GHCR); 0 is no limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.page_tokens: list[str] = []
        self.refuses_open_ranges = False
        self.chunk_status = 202
        self.keeps_range = False
        self.largest_patch = 0
        self._first_range = ""

    def respond(self, exchange: Exchange) -> None:
        wanted = exchange.headers.get("Range", "")
        if self.refuses_open_ranges and re.fullmatch(r"bytes=\d+-", wanted):
            exchange.answer(416)
            return
        super().respond(exchange)

    def _tag_list(
        self, name: str, path: str, query: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if not self.page_tokens:
            return super()._tag_list(name, path, query)
        token = query.get("next_token", "")
        if "last" in query or (token and token not in self.page_tokens):
            return 405, {"Content-Type": "application/json"}, b'{"errors": []}'
        number = self.page_tokens.index(token) + 1 if token else 0
        body = json.dumps({"name": name, "tags": [f"v{number}"]}).encode()
        headers = {"Content-Type": "application/json"}
        if number < len(self.page_tokens):
            headers["Link"] = f'<{path}?next_token={self.page_tokens[number]}>; rel="next"'
        return 200, headers, body

    def _take_chunk(self, name, session, found, exchange, body):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - the base's
        if self.largest_patch and len(body) > self.largest_patch:
            return 416, {}, b""
        status, headers, content = super()._take_chunk(name, session, found, exchange, body)
        if status == 202:
            status = self.chunk_status
            self._first_range = self._first_range or headers["Range"]
            if self.keeps_range:
                headers["Range"] = self._first_range
        return status, headers, content


@pytest.fixture
def registry() -> Iterator[OddRegistry]:
    with OddRegistry() as registry:
        registry.put_manifest("a/b", "v1", RAW)
        yield registry


@pytest.fixture
async def remote(registry: OddRegistry) -> AsyncIterator[RemoteRegistry]:
    async with remote_to(registry.host, attempts=3) as remote:
        yield remote


@pytest.fixture
def repository(remote: RemoteRegistry) -> RemoteRepository:
    return remote.repository("a/b")


async def push(repository: RemoteRepository, content: Memory) -> None:
    await trio.to_thread.run_sync(repository.push_blob, content.descriptor, content, ignore, never)


def read(repository: RemoteRepository, content: Memory, start: int) -> bytes:
    stream = repository.open_stream(content.descriptor, start)
    found, buffer = b"", bytearray(MIB)
    while count := stream.readinto(memoryview(buffer)):
        found += buffer[:count]
    stream.close()
    return found


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_catalog_that_is_refused_is_not_supported(
    registry: OddRegistry, remote: RemoteRegistry, status: int
) -> None:
    """Docker Hub says 401, GHCR 403, others 404 and 405."""
    registry.fail("_catalog", status=status, times=-1)
    with pytest.raises(Unsupported):
        await remote.list_repositories()


async def test_opaque_page_tokens_are_followed_as_given(
    registry: OddRegistry, repository: RemoteRepository
) -> None:
    """ECR Public's tokens are its own; whoever makes up `last=` gets 405."""
    registry.page_tokens = ["aGVsbG8-d29ybGQ==", "x_1"]
    names: list[str] = []
    page = await repository.list_tags(limit=1)
    names += page.names
    while page.next_token is not None:
        page = await repository.list_tags(page.next_token)
        names += page.names
    assert names == ["v0", "v1", "v2"]
    last = urlsplit(registry.requests[-1][1]).query
    assert parse_qs(last) == {"next_token": ["x_1"]}


async def test_open_ranges_are_never_asked_for_and_accept_ranges_is_not_needed(
    registry: OddRegistry, repository: RemoteRepository
) -> None:
    """Six of eight hosted registries answer ranges without a word of Accept-Ranges."""
    registry.refuses_open_ranges = True
    registry.put_blob("a/b", BLOB.content)
    registry.fail("/blobs/", truncate_after=5 * MIB)
    content = await trio.to_thread.run_sync(read, repository, BLOB, 1000)
    assert content == BLOB.content[1000:]
    ranges = [headers.get("range", "") for headers in registry.request_headers]
    assert ranges == [f"bytes=1000-{10 * MIB - 1}", f"bytes={5 * MIB + 1000}-{10 * MIB - 1}"]


async def test_a_range_of_chunks_that_does_not_advance_is_not_believed(
    registry: OddRegistry, repository: RemoteRepository
) -> None:
    """ECR answers 201, and from the second chunk on the Range of the first; it keeps them all."""
    registry.takes_whole, registry.chunk_status, registry.keeps_range = False, 201, True
    await push(repository, BLOB)
    assert await repository.has_blob(BLOB.descriptor)
    assert registry.received_bytes < 3 * len(BLOB.content)


async def test_chunks_are_no_larger_than_what_every_registry_takes(
    registry: OddRegistry, repository: RemoteRepository
) -> None:
    """GHCR answers 416 to more than 4 MiB."""
    registry.takes_whole, registry.largest_patch = False, 4 * MIB
    await push(repository, BLOB)
    assert registry.count("PATCH") == 3


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", ""])
async def test_a_manifest_of_a_wrong_content_type_is_what_it_says_itself(
    registry: OddRegistry, repository: RemoteRepository, content_type: str
) -> None:
    drops = {"drop_headers": frozenset() if content_type else frozenset({"content-type"})}
    headers = {"Content-Type": content_type} if content_type else {}
    registry.fail("/manifests/", times=-1, headers=headers, **drops)
    found = await repository.resolve("v1")
    assert await repository.fetch_manifest(found) == RAW
    assert found.digest == Digest.of(RAW)
    assert found.media_type == OCI_MANIFEST
