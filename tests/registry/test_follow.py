"""Blobs that are sent while they are written: as they grow, resumed, and given up in time."""

import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import BinaryIO

import pytest
import trio

from orasfs.errors import Aborted, ConnectionBroken, OrasfsError, TooLarge, Unsupported
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from tests.fakes.pushable import PushableRegistry
from tests.support.content import ignore, never

MIB = 1024 * 1024
CONTENT = bytes(range(256)) * (3 * MIB // 256)
UPLOADS = r"/uploads/"


class Growing:
    """A content of which a test says how far it is written.

    Attributes:
        waits: the offsets that requests were begun at.
        flows: those at which one that was under way asked for more.
        pause: the offset where the writer pauses for too long for that; 0 for none.
    """

    def __init__(self, *stops: int, digest: Digest | None = None, pause: int = 0) -> None:
        self.content = CONTENT
        self.digest = digest or Digest.of(CONTENT)
        self.waits: list[int] = []
        self.flows: list[int] = []
        self.pause = pause
        self._stops = stops or (len(CONTENT),)
        self._is_whole = False
        self.gone = threading.Event()

    def rewrite_after(self, offset: int) -> Callable[[int], None]:
        """Return what is to be told of progress: it is to be followed no more from there on."""

        def tell(sent: int) -> None:
            if sent >= offset:
                self.gone.set()

        return tell

    def wait(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        self.waits.append(offset)
        return self._next(offset, is_cancelled)

    def flow(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        self.flows.append(offset)
        return offset if offset == self.pause > 0 else self._next(offset, is_cancelled)

    def _next(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        if self.gone.is_set() or is_cancelled():
            raise Aborted("the test ordered it")
        further = [stop for stop in self._stops if stop > offset]
        self._is_whole = not further or further[0] == len(CONTENT)
        return further[0] if further else len(CONTENT)

    def digest_now(self) -> Digest | None:
        return self.digest if self._is_whole else None

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)


@pytest.fixture
def registry() -> Iterator[PushableRegistry]:
    with PushableRegistry() as registry:
        yield registry


@pytest.fixture
async def repository(registry: PushableRegistry) -> AsyncIterator[RemoteRepository]:
    policy = RetryPolicy(attempts=3, base_seconds=0.001, cap_seconds=0.01)
    remote = RemoteRegistry(registry.host, RegistrySettings(retry=policy))
    yield remote.repository("a/b")
    await remote.aclose()


async def follow(
    repository: RemoteRepository,
    content: Growing,
    on_progress: Callable[[int], None] = ignore,
    is_cancelled: Callable[[], bool] = never,
) -> None:
    await trio.to_thread.run_sync(repository.follow_blob, content, on_progress, is_cancelled)


def has(registry: PushableRegistry) -> bool:
    return registry._blobs["a/b"].get(str(Digest.of(CONTENT))) == CONTENT


def uploads(registry: PushableRegistry) -> list[str]:
    return [method for method, path in registry.requests if "/uploads/" in path]


@pytest.fixture
def chunked(registry: PushableRegistry) -> PushableRegistry:
    """Return the registry, which wants to know how long bodies are."""
    registry.refuses_streams = 411
    return registry


def ranges_of(registry: PushableRegistry) -> list[str | None]:
    """Return the Content-Range of each PATCH."""
    requests = zip(registry.requests, registry.request_headers, strict=True)
    return [fields.get("content-range") for (method, _), fields in requests if method == "PATCH"]


async def test_what_is_written_goes_in_one_body_and_the_digest_at_the_end(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    seen: list[int] = []
    content = Growing(MIB, 2 * MIB, 3 * MIB)
    await follow(repository, content, seen.append)
    assert has(registry)
    assert uploads(registry) == ["POST", "PATCH", "PUT"]
    patch = registry.request_headers[1]
    assert patch["transfer-encoding"] == "chunked"
    assert "content-length" not in patch
    assert content.flows == [0, MIB, 2 * MIB, 3 * MIB]
    assert seen[-1] == len(CONTENT)
    assert registry.open_sessions == 0


async def test_writer_who_pauses_ends_the_body_and_goes_on_in_chunks(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    content = Growing(MIB, 2 * MIB, 3 * MIB, pause=MIB)
    await follow(repository, content)
    assert has(registry)
    assert uploads(registry) == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
    chunks = [f"{n * MIB}-{(n + 1) * MIB - 1}" for n in (1, 2)]
    assert ranges_of(registry) == [None, *chunks]


@pytest.mark.parametrize("status", [400, 405, 411, 413, 416, 501])
async def test_registry_that_wants_lengths_gets_chunks_and_is_not_asked_again(
    registry: PushableRegistry, repository: RemoteRepository, status: int
) -> None:
    registry.refuses_streams = status
    await follow(repository, Growing(MIB, 2 * MIB, 3 * MIB))
    assert has(registry)
    chunks = [f"{n * MIB}-{(n + 1) * MIB - 1}" for n in range(3)]
    assert ranges_of(registry) == [None, *chunks]
    assert registry.open_sessions == 0
    registry._blobs.clear()
    await follow(repository, Growing())
    assert has(registry)
    assert ranges_of(registry)[4:] == [f"0-{len(CONTENT) - 1}"]


async def test_body_that_broke_goes_on_in_chunks_where_the_registry_is(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, after=700_000)
    await follow(repository, Growing(MIB, 2 * MIB, 3 * MIB))
    assert has(registry)
    assert ranges_of(registry)[:2] == [None, f"700000-{MIB - 1}"]
    assert registry.received_bytes == len(CONTENT)


async def test_body_of_which_nothing_is_kept_is_sent_in_chunks(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, after=700_000, is_kept=False)
    await follow(repository, Growing())
    assert has(registry)
    assert ranges_of(registry) == [None, f"0-{len(CONTENT) - 1}"]


async def test_rewritten_file_ends_a_body_that_is_under_way(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    content = Growing(MIB, 2 * MIB, 3 * MIB)
    with pytest.raises(Aborted):
        await follow(repository, content, content.rewrite_after(2 * MIB))
    assert content.flows[-1] == 2 * MIB
    assert not registry._blobs["a/b"]


async def test_a_broken_chunk_goes_on_where_the_registry_is(
    chunked: PushableRegistry, repository: RemoteRepository
) -> None:
    await follow(repository, Growing())  # it is known now what it refuses
    chunked._blobs.clear()
    before = chunked.received_bytes
    chunked.break_body(UPLOADS, after=700_000)
    content = Growing()
    await follow(repository, content)
    assert has(chunked)
    assert 0 < content.waits[1] <= 700_000
    assert chunked.received_bytes - before < len(CONTENT) + 700_000


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_lost_session_begins_anew(
    registry: PushableRegistry, repository: RemoteRepository, *, is_chunked: bool
) -> None:
    class Forgotten(Growing):
        def _next(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
            if len(self.waits if is_chunked else self.flows) == 2:
                registry.forget_sessions()
            return super()._next(offset, is_cancelled)

    registry.refuses_streams = 411 * is_chunked
    await follow(repository, Forgotten(MIB, 3 * MIB))
    assert has(registry)
    assert uploads(registry).count("POST") == 2 + is_chunked


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_what_is_not_to_be_followed_any_more_ends_the_session(
    registry: PushableRegistry, repository: RemoteRepository, *, is_chunked: bool
) -> None:
    registry.refuses_streams = 411 * is_chunked
    if is_chunked:
        await follow(repository, Growing())  # it is known now what it refuses
        registry._blobs.clear()
    ended = uploads(registry).count("DELETE")
    content = Growing(MIB, 2 * MIB, 3 * MIB)
    with pytest.raises(Aborted):
        await follow(repository, content, content.rewrite_after(2 * MIB))
    # What is broken off may be read later than the request that ends the session.
    assert uploads(registry).count("DELETE") == ended + 1
    assert registry.open_sessions == 0
    assert not has(registry)


async def test_bytes_that_changed_after_they_were_sent_are_refused(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    content = Growing(digest=Digest.of(b"another"))
    with pytest.raises(OrasfsError):
        await follow(repository, content)
    assert not registry._blobs["a/b"]


async def test_a_registry_without_chunks_is_told(
    chunked: PushableRegistry, repository: RemoteRepository
) -> None:
    chunked.fail(UPLOADS, method="PATCH", status=405, times=9)
    with pytest.raises(Unsupported):
        await follow(repository, Growing())
    assert chunked.open_sessions == 0


async def test_chunks_that_are_too_large_get_smaller(
    chunked: PushableRegistry, repository: RemoteRepository
) -> None:
    chunked.fail(UPLOADS, method="PATCH", status=413, times=6)
    await follow(repository, Growing())
    assert has(chunked)
    # A stream; then chunks of 64 MiB, five times halved, of 2 MiB.
    assert chunked.count("PATCH", UPLOADS) == 1 + 5 + 2


async def test_no_chunk_is_small_enough_for_some(
    chunked: PushableRegistry, repository: RemoteRepository
) -> None:
    chunked.fail(UPLOADS, method="PATCH", status=413, times=99)
    with pytest.raises(TooLarge):
        await follow(repository, Growing())


async def test_breaks_without_end_are_given_up(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, after=1000, times=99, is_kept=False)
    with pytest.raises(ConnectionBroken):
        await follow(repository, Growing())
