"""Uploads against faults: what is sent again, how often, and what the caller hears."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Self

import pytest
import trio

from orasfs.errors import (
    Aborted,
    ConnectionBroken,
    ConnectionRefused,
    ContentMismatch,
    Forbidden,
    NotFound,
    OrasfsError,
    QuotaExceeded,
    RateLimited,
    RegistryFailure,
    TimedOut,
    TooLarge,
    Unauthorized,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.staging.contents import StreamContent
from tests.fakes.pushable import PushableRegistry
from tests.fakes.source import MemorySource
from tests.support.content import Memory, ignore, never
from tests.support.docker_registry import free_port

UPLOADS = r"/uploads/"
MIB = 1024 * 1024
BLOB = Memory(bytes(range(256)) * (10 * MIB // 256))  # more than two chunks
SMALL = Memory(b"small")
ATTEMPTS = 3


@pytest.fixture
def registry() -> Iterator[PushableRegistry]:
    with PushableRegistry() as registry:
        yield registry


def settings(seconds: float = 30.0) -> RegistrySettings:
    policy = RetryPolicy(attempts=ATTEMPTS, base_seconds=0.001, cap_seconds=0.01)
    return RegistrySettings(
        retry=policy, connect_seconds=10, read_seconds=seconds, commit_seconds=seconds
    )


@pytest.fixture
async def repository(registry: PushableRegistry) -> AsyncIterator[RemoteRepository]:
    remote = RemoteRegistry(registry.host, settings())
    yield remote.repository("a/b")
    await remote.aclose()


@pytest.fixture
async def impatient(registry: PushableRegistry) -> AsyncIterator[RemoteRepository]:
    remote = RemoteRegistry(registry.host, settings(0.5))
    yield remote.repository("a/b")
    await remote.aclose()


async def push(
    repository: RemoteRepository,
    content: Memory = BLOB,
    on_progress: Callable[[int], None] = ignore,
    is_cancelled: Callable[[], bool] = never,
) -> None:
    await trio.to_thread.run_sync(
        repository.push_blob, content.descriptor, content, on_progress, is_cancelled
    )


def has(registry: PushableRegistry, content: Memory = BLOB) -> bool:
    return registry._blobs["a/b"].get(str(content.descriptor.digest)) == content.content


def uploads(registry: PushableRegistry) -> list[str]:
    return [method for method, path in registry.requests if "/uploads/" in path]


async def test_a_blob_takes_two_requests(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    await push(repository)
    assert has(registry)
    assert uploads(registry) == ["POST", "PUT"]
    assert registry.request_headers[1]["content-length"] == str(BLOB.size)
    assert registry.request_headers[1]["content-type"] == "application/octet-stream"
    assert registry.open_sessions == 0


async def test_memory_is_bounded_by_a_piece(repository: RemoteRepository) -> None:
    class Watched(Memory):
        largest = 0

        def open(self) -> "Reader":  # type: ignore[override]  # only what is used of a file
            return Reader(self)

    class Reader:
        def __init__(self, content: Watched) -> None:
            self.content, self.offset = content, 0

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def seek(self, offset: int) -> None:
            self.offset = offset

        def read(self, size: int) -> bytes:
            self.content.largest = max(self.content.largest, size)
            found = self.content.content[self.offset : self.offset + size]
            self.offset += len(found)
            return found

    content = Watched(BLOB.content)
    await push(repository, content)
    assert content.largest == MIB


# Chunks


async def test_a_registry_that_refuses_whole_blobs_gets_chunks(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole = False
    await push(repository)
    assert has(registry)
    assert uploads(registry) == [
        *("POST", "PUT", "DELETE"),
        *("POST", "PATCH", "PATCH", "PATCH", "PUT"),
    ]
    spans = [
        headers["content-range"]
        for headers in registry.request_headers
        if "content-range" in headers
    ]
    assert spans == [
        f"0-{4 * MIB - 1}",
        f"{4 * MIB}-{8 * MIB - 1}",
        f"{8 * MIB}-{10 * MIB - 1}",
    ]


async def test_it_is_not_asked_again_for_the_next_blob(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole = False
    await push(repository)
    registry.forget_requests()
    other = Memory(BLOB.content[:-1])
    await push(repository, other)
    assert has(registry, other)
    assert uploads(registry) == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]


async def test_chunks_are_of_the_size_that_the_registry_wants(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole, registry.minimum_chunk = False, 6 * MIB
    await push(repository)
    assert has(registry)
    assert uploads(registry).count("PATCH") == 2


async def test_chunks_get_smaller_where_they_are_too_large(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole, registry.largest_chunk = False, 2 * MIB
    await push(repository)
    assert has(registry)


async def test_what_a_registry_did_not_keep_of_a_chunk_is_sent_again(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole, registry.takes_part = False, 3 * MIB
    await push(repository)
    assert has(registry)
    assert uploads(registry).count("PATCH") == 4


async def test_a_registry_that_does_not_tell_what_it_has_is_believed(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole, registry.tells_range = False, False
    await push(repository)
    assert has(registry)


async def test_too_large_in_any_form_is_said(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole, registry.largest_chunk = False, 1
    with pytest.raises(TooLarge):
        await push(repository)


async def test_a_small_blob_that_is_too_large_is_not_tried_in_chunks(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole = False
    with pytest.raises(TooLarge):
        await push(repository, SMALL)
    assert uploads(registry) == ["POST", "PUT", "DELETE"]


# Connections that break


async def test_a_connection_that_breaks_half_way_is_resumed(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, 5 * MIB)
    await push(repository)
    assert has(registry)
    assert uploads(registry) == ["POST", "PUT", "GET", "PATCH", "PATCH", "PUT"]
    assert registry.received_bytes == BLOB.size


async def test_where_nothing_was_kept_it_begins_anew(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, 5 * MIB, is_kept=False)
    await push(repository)
    assert has(registry)
    assert uploads(registry) == ["POST", "PUT", "GET", "DELETE", "POST", "PUT"]


async def test_a_chunk_that_breaks_is_resumed_in_its_middle(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.takes_whole = False
    await push(repository, Memory(BLOB.content[: 9 * MIB]))
    registry.forget_requests()
    registry.break_body(UPLOADS, 3 * MIB)
    await push(repository)
    assert has(registry)
    assert uploads(registry) == ["POST", "PATCH", "GET", "PATCH", "PATCH", "PUT"]


async def test_a_lost_session_begins_anew(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="GET", status=404)
    registry.break_body(UPLOADS, 5 * MIB)
    await push(repository)
    assert has(registry)
    assert uploads(registry) == ["POST", "PUT", "GET", "POST", "PUT"]


async def test_a_blob_that_was_kept_while_the_answer_was_lost_is_not_sent_again(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="PUT", truncate_after=0)
    await push(repository)
    assert has(registry)
    assert [method for method, _ in registry.requests] == ["POST", "PUT", "GET", "HEAD"]


async def test_breaks_without_end_are_given_up(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, 5 * MIB, times=-1, is_kept=False)
    with pytest.raises(ConnectionBroken):
        await push(repository)
    assert uploads(registry).count("PUT") == ATTEMPTS


async def test_breaks_that_let_something_through_are_borne(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, MIB, times=2 * ATTEMPTS)
    await push(repository)
    assert has(registry)


# Answers that are failures


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_passing_fault_is_got_over(
    registry: PushableRegistry, repository: RemoteRepository, method: str, status: int
) -> None:
    registry.fail(UPLOADS, method=method, status=status, times=ATTEMPTS - 1)
    await push(repository)
    assert has(registry)
    assert uploads(registry).count(method) == ATTEMPTS


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("status", "error", "times"),
    [
        (500, RegistryFailure, ATTEMPTS),
        (503, RegistryFailure, ATTEMPTS),
        (429, RateLimited, ATTEMPTS),
        (401, Unauthorized, 1),
        (403, Forbidden, 1),
        (404, NotFound, 1),
        (507, QuotaExceeded, ATTEMPTS),
    ],
)
async def test_a_lasting_fault_is_named_after_so_many_requests(
    registry: PushableRegistry,
    repository: RemoteRepository,
    method: str,
    status: int,
    error: type[OrasfsError],
    times: int,
) -> None:
    registry.fail(UPLOADS, method=method, status=status, times=-1)
    with pytest.raises(error, match="a/b@sha256:"):
        await push(repository)
    assert uploads(registry).count(method) == times
    registry.heal()
    await push(repository)
    assert has(registry)


async def test_retry_after_is_waited_for(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="PUT", status=429, headers={"Retry-After": "1"})
    began = trio.current_time()
    await push(repository)
    assert trio.current_time() - began >= 1
    assert has(registry)


async def test_a_quota_is_told_from_a_refusal(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"will exceed the configured upper limit"}]}'
    registry.fail(UPLOADS, method="PUT", status=403, body=body)
    with pytest.raises(QuotaExceeded, match="upper limit"):
        await push(repository)


async def test_content_that_the_registry_finds_wrong_is_no_fault_of_the_registry(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    class Changed(Memory):
        @property
        def descriptor(self) -> Descriptor:
            return Memory(b"other").descriptor

    with pytest.raises(ContentMismatch):
        await push(repository, Changed(b"bytes"))
    assert registry.open_sessions == 0


async def test_nobody_listening_is_said_at_once() -> None:
    remote = RemoteRegistry(f"127.0.0.1:{free_port()}", settings())
    with pytest.raises(ConnectionRefused):
        await push(remote.repository("a/b"))
    await remote.aclose()


async def test_a_registry_that_stalls_is_given_up(
    registry: PushableRegistry, impatient: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="PUT", stall_after=0, times=-1)
    with pytest.raises(TimedOut):
        await push(impatient, SMALL)


# Where it goes


async def test_a_location_of_another_host_is_refused(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.locations = "http://127.0.0.1:1"
    with pytest.raises(RegistryFailure, match=r"sent to http://127\.0\.0\.1:1"):
        await push(repository)
    assert uploads(registry) == ["POST"]


async def test_an_absolute_location_of_the_same_host_is_followed(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.locations = f"http://{registry.host}"
    await push(repository)
    assert has(registry)


# Progress and giving up


async def test_progress_goes_back_when_an_attempt_begins_anew(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, 5 * MIB, is_kept=False)
    seen: list[int] = []
    await push(repository, on_progress=seen.append)
    assert seen.count(0) == 2
    assert seen[-1] == BLOB.size


async def test_giving_up_ends_the_session(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    # More than what buffers hold: the registry has seen the request before all of it is sent.
    with pytest.raises(Aborted):
        await push(repository, is_cancelled=lambda: registry.count("PUT") > 0)
    assert uploads(registry) == ["POST", "PUT", "DELETE"]


async def test_giving_up_does_not_wait_for_the_next_attempt(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="PUT", status=503, headers={"Retry-After": "30"})
    with trio.fail_after(5), pytest.raises(Aborted):
        await push(repository, SMALL, is_cancelled=lambda: registry.count("PUT") > 0)


async def test_closing_the_registry_ends_its_uploads(registry: PushableRegistry) -> None:
    remote = RemoteRegistry(registry.host, settings())
    await remote.aclose()
    with pytest.raises(Aborted):
        await push(remote.repository("a/b"))


@pytest.mark.parametrize("ignores_ranges", [False, True])
async def test_a_blob_that_is_streamed_from_elsewhere_goes_on_from_where_it_broke(
    registry: PushableRegistry,
    repository: RemoteRepository,
    ignores_ranges: bool,  # noqa: FBT001
) -> None:
    source = MemorySource()
    source.ignores_ranges = ignores_ranges
    blob = source.add_blob(BLOB.content)
    registry.break_body(UPLOADS, after=6 * MIB)
    content = StreamContent(source, blob)
    await trio.to_thread.run_sync(repository.push_blob, blob, content, ignore, never)
    assert await repository.has_blob(blob)
    assert registry.received_bytes < 2 * blob.size
    assert len(source.streams) == 2
    assert source.streams[1].start > 0
