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
    """A content of which a test says how far it is written; `waits` are the offsets asked for."""

    def __init__(self, *stops: int, digest: Digest | None = None) -> None:
        self.content = CONTENT
        self.digest = digest or Digest.of(CONTENT)
        self.waits: list[int] = []
        self._stops = stops or (len(CONTENT),)
        self._is_whole = False
        self.gone = threading.Event()

    def wait(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        self.waits.append(offset)
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


async def test_what_is_written_goes_in_chunks_and_the_digest_at_the_end(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    seen: list[int] = []
    await follow(repository, Growing(MIB, 2 * MIB, 3 * MIB), seen.append)
    assert has(registry)
    assert uploads(registry) == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
    spans = [headers.get("content-range") for headers in registry.request_headers[1:4]]
    assert spans == [f"{n * MIB}-{(n + 1) * MIB - 1}" for n in range(3)]
    assert seen[-1] == len(CONTENT)
    assert registry.open_sessions == 0


async def test_a_broken_chunk_goes_on_where_the_registry_is(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, after=700_000)
    content = Growing()
    await follow(repository, content)
    assert has(registry)
    assert 0 < content.waits[1] <= 700_000
    assert registry.received_bytes < len(CONTENT) + 700_000


async def test_a_lost_session_begins_anew(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    class Forgotten(Growing):
        def wait(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
            if len(self.waits) == 1:
                registry.forget_sessions()
            return super().wait(offset, is_cancelled)

    await follow(repository, Forgotten(MIB, 3 * MIB))
    assert has(registry)
    assert uploads(registry).count("POST") == 2


async def test_what_is_not_to_be_followed_any_more_ends_the_session(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    content = Growing(MIB, 2 * MIB, 3 * MIB)

    def rewrite(sent: int) -> None:
        if sent >= 2 * MIB:
            content.gone.set()

    with pytest.raises(Aborted):
        await follow(repository, content, rewrite)
    assert uploads(registry)[-1] == "DELETE"
    assert registry.removed_sessions == 1
    assert not registry._blobs["a/b"]


async def test_bytes_that_changed_after_they_were_sent_are_refused(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    content = Growing(digest=Digest.of(b"another"))
    with pytest.raises(OrasfsError):
        await follow(repository, content)
    assert not registry._blobs["a/b"]


async def test_a_registry_without_chunks_is_told(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="PATCH", status=405, times=9)
    with pytest.raises(Unsupported):
        await follow(repository, Growing())
    assert registry.removed_sessions == 1


async def test_chunks_that_are_too_large_get_smaller(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="PATCH", status=413, times=5)
    await follow(repository, Growing())
    assert has(registry)
    assert registry.count("PATCH", UPLOADS) == 5 + 2  # 64 MiB, five times halved, is 2 MiB


async def test_no_chunk_is_small_enough_for_some(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.fail(UPLOADS, method="PATCH", status=413, times=99)
    with pytest.raises(TooLarge):
        await follow(repository, Growing())


async def test_breaks_without_end_are_given_up(
    registry: PushableRegistry, repository: RemoteRepository
) -> None:
    registry.break_body(UPLOADS, after=1000, times=99, is_kept=False)
    with pytest.raises(ConnectionBroken):
        await follow(repository, Growing())
