"""The cached repository, made by the cache, on an in-memory source."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from orasfs.errors import (
    ConnectionRefused,
    InvalidContent,
    NotFound,
    OrasfsError,
    RegistryFailure,
    StorageFull,
    TimedOut,
    Unauthorized,
)
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.cache import Cache
from orasfs.store.files import ingest
from orasfs.store.layout import LayoutRegistry
from orasfs.store.options import CacheOptions
from orasfs.vfs.ports import Repository
from tests.fakes.source import MemorySource
from tests.support.caches import cache_at
from tests.support.golden import GOLDEN

ExpectLog = Callable[[int, str], None]

MANIFEST = (
    b'{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"%s","size":2},"layers":[]}'
    % (str(Digest.of(b"{}")).encode())
)
OTHER = MANIFEST.replace(b"a/b", b"c/d")


async def test_cached_repository_is_what_the_filesystem_asks_for(tmp_path: Path) -> None:
    async with cache_at(tmp_path) as cache:
        repository: Repository = cache.repository(MemorySource(), "host", "a")
        assert cache.repository(MemorySource(), "host", "a") is repository
        assert cache.repository(MemorySource(), "host", "b") is not repository


async def test_manifest_is_fetched_once_and_resolved_from_the_store_by_digest(
    tmp_path: Path,
) -> None:
    source = MemorySource()
    descriptor = source.add_manifest(MANIFEST, "v1")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        got = []

        async def fetch() -> None:
            got.append(await repository.fetch_manifest(descriptor))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(fetch)
        await fetch()
        assert got == [MANIFEST] * 6
        assert source.count("fetch_manifest") == 1
        assert await repository.resolve(str(descriptor.digest)) == descriptor
        assert source.count("resolve") == 0


async def test_digest_that_is_not_in_the_store_is_asked_for(tmp_path: Path) -> None:
    source = MemorySource()
    descriptor = source.add_manifest(MANIFEST)
    layer = source.add_blob(b"no manifest")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        assert await repository.resolve(str(descriptor.digest)) == descriptor
        assert source.count("resolve") == 1
        reader = await repository.open_blob(layer)
        assert await reader.read(0, 100) == b"no manifest"
        reader.close()
        with pytest.raises(NotFound):
            await repository.resolve(str(layer.digest))


async def test_tag_is_asked_each_time(tmp_path: Path) -> None:
    source = MemorySource()
    first = source.add_manifest(MANIFEST, "v1")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        assert await repository.resolve("v1") == first
        second = source.add_manifest(OTHER, "v1")
        assert await repository.resolve("v1") == second
        assert source.count("resolve") == 2


@pytest.mark.parametrize(
    "failure", [ConnectionRefused("down"), RegistryFailure("500"), Unauthorized("who?")]
)
async def test_last_answer_stands_while_the_registry_fails(
    tmp_path: Path, expect_log: ExpectLog, failure: OrasfsError
) -> None:
    expect_log(logging.WARNING, "its last answers stand: registry=host")
    source = MemorySource()
    descriptor = source.add_manifest(MANIFEST, "v1")
    async with cache_at(tmp_path) as cache:
        assert await cache.repository(source, "host", "a").resolve("v1") == descriptor
    source.failure = failure
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        assert await repository.resolve("v1") == descriptor
        assert await repository.resolve("v1") == descriptor
        with pytest.raises(type(failure)):
            await repository.resolve("never-seen")


async def test_outage_is_logged_once_and_so_is_its_end(
    tmp_path: Path, expect_log: ExpectLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    expect_log(logging.WARNING, "its last answers stand")
    source = MemorySource()
    source.add_manifest(MANIFEST, "v1")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        await repository.resolve("v1")
        source.failure = ConnectionRefused("down")
        for _ in range(3):
            await repository.resolve("v1")
        source.failure = None
        for _ in range(3):
            await repository.resolve("v1")
    messages = [record.message for record in caplog.records if "registry" in record.message]
    assert len(messages) == 2
    assert messages[1] == "registry answers again: registry=host"


async def test_tag_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    source = MemorySource()
    source.add_manifest(MANIFEST, "v1")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        await repository.resolve("v1")
        del source.tags["v1"]
        with pytest.raises(NotFound):
            await repository.resolve("v1")
        source.failure = ConnectionRefused("down")
        with pytest.raises(ConnectionRefused):
            await repository.resolve("v1")


class SlowSource(MemorySource):
    """Answers `resolve` when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = trio.Event()

    async def resolve(self, reference: str) -> Descriptor:
        await self.may_answer.wait()
        return await super().resolve(reference)


async def test_registry_that_does_not_answer_is_not_waited_for_long(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "its last answers stand.*no answer within 0.05 seconds")
    source = SlowSource()
    first = source.add_manifest(MANIFEST, "v1")
    source.may_answer.set()
    async with cache_at(tmp_path, CacheOptions(patience_seconds=0.05)) as cache:
        repository = cache.repository(source, "host", "a")
        await repository.resolve("v1")
        source.may_answer = trio.Event()
        second = source.add_manifest(OTHER, "v1")
        assert await repository.resolve("v1") == first
        source.may_answer.set()
        assert await repository.resolve("v1") == second
        assert source.count("resolve") == 2, "the call that took too long went on"


async def test_complete_tag_list_stands_when_the_registry_is_away(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "its last answers stand")
    source = MemorySource()
    source.page_size = 2
    for number in range(5):
        source.add_manifest(MANIFEST, f"v{number}")

    async def walk(cache: Cache) -> list[str]:
        repository = cache.repository(source, "host", "a")
        page = await repository.list_tags()
        names = list(page.names)
        while page.next_token is not None:
            page = await repository.list_tags(page.next_token)
            names += page.names
        return names

    async with cache_at(tmp_path) as cache:
        await cache.repository(source, "host", "b").list_tags()  # only its first page
        assert len(await walk(cache)) == 5
    source.failure = TimedOut("away")
    async with cache_at(tmp_path) as cache:
        assert await walk(cache) == ["v0", "v1", "v2", "v3", "v4"]
        probe = await cache.repository(source, "host", "a").list_tags(limit=1)
        assert probe.names == ("v0",)
        with pytest.raises(TimedOut):
            await cache.repository(source, "host", "b").list_tags()


async def test_probe_for_one_tag_is_not_taken_for_the_complete_list(tmp_path: Path) -> None:
    source = MemorySource()
    source.add_manifest(MANIFEST, "v1")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        await repository.list_tags(limit=1)
        source.failure = TimedOut("away")
        with pytest.raises(TimedOut):
            await repository.list_tags()


async def test_tags_resolved_by_name_are_listed_when_the_registry_is_away(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "its last answers stand")
    source = MemorySource()
    for tag in ("v3", "v1", "v2"):
        source.add_manifest(MANIFEST, tag)
    async with cache_at(tmp_path) as cache:
        for tag in ("v3", "v1"):
            await cache.repository(source, "host", "a").resolve(tag)
    source.failure = TimedOut("away")
    async with cache_at(tmp_path) as cache:
        page = await cache.repository(source, "host", "a").list_tags()
        assert page.names == ("v1", "v3")


@pytest.mark.parametrize("failure", [NotFound("gone"), Unauthorized("who?")])
async def test_tag_list_does_not_outlive_a_refusal(tmp_path: Path, failure: OrasfsError) -> None:
    source = MemorySource()
    source.add_manifest(MANIFEST, "v1")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        await repository.list_tags()
        source.failure = failure
        with pytest.raises(type(failure)):
            await repository.list_tags()


async def test_referrers_are_answered_from_this_mount_when_the_registry_is_away(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "its last answers stand")
    source = MemorySource()
    subject = source.add_manifest(MANIFEST)
    mention = b',"subject":{"mediaType":"%s","digest":"%s","size":%d}}' % (
        mediatype.OCI_MANIFEST.encode(),
        str(subject.digest).encode(),
        subject.size,
    )
    source.add_manifest(OTHER[:-1] + mention)
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        found = await repository.list_referrers(subject.digest)
        assert len(found) == 1
        source.failure = ConnectionRefused("down")
        assert await repository.list_referrers(subject.digest) == found
        with pytest.raises(ConnectionRefused):
            await repository.list_referrers(Digest.of(b"unseen"))


async def test_everything_seen_is_readable_without_the_registry(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "its last answers stand")
    source = MemorySource()
    manifest = source.add_manifest(MANIFEST, "v1")
    layer = source.add_blob(b"layer" * 1000)

    async def read(cache: Cache) -> tuple[bytes, bytes]:
        repository = cache.repository(source, "host", "a")
        raw = await repository.fetch_manifest(await repository.resolve("v1"))
        reader = await repository.open_blob(layer)
        content = await reader.read(0, layer.size)
        reader.close()
        return raw, content

    async with cache_at(tmp_path) as cache:
        before = await read(cache)
    source.failure = source.open_error = ConnectionRefused("down")
    async with cache_at(tmp_path) as cache:
        assert await read(cache) == before == (MANIFEST, b"layer" * 1000)
        assert cache.statistics().misses == 0
    assert manifest.size == len(MANIFEST)


async def test_manifest_is_served_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "manifest not kept")
    source = MemorySource()
    descriptor = source.add_manifest(MANIFEST)

    def full(self: ingest.Ingest, content: bytes) -> None:
        raise StorageFull("full")

    async with cache_at(tmp_path) as cache:
        monkeypatch.setattr(ingest.Ingest, "append", full)
        assert await cache.repository(source, "host", "a").fetch_manifest(descriptor) == MANIFEST


async def test_manifest_over_the_limit_is_refused_unasked(tmp_path: Path) -> None:
    source = MemorySource()
    huge = Descriptor(mediatype.OCI_MANIFEST, Digest.of(b"x"), 5_000_000)
    async with cache_at(tmp_path) as cache:
        with pytest.raises(InvalidContent, match="limit"):
            await cache.repository(source, "host", "a").fetch_manifest(huge)
    assert source.calls == []


async def test_inline_content_needs_no_source(tmp_path: Path) -> None:
    source = MemorySource()
    inline = Descriptor("a/b", Digest.of(b"{}"), 2, data=b"{}")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "host", "a")
        reader = await repository.open_blob(inline)
        assert (reader.size, reader.is_verified) == (2, True)
        assert (reader.read_now(0, 9), await reader.read(1, 9)) == (b"{}", b"}")
        reader.close()
        assert await repository.fetch_manifest(inline) == b"{}"
    assert source.streams == []


async def test_layout_is_read_without_filling_the_cache(tmp_path: Path) -> None:
    source = LayoutRegistry(GOLDEN / "layout").repository("")
    async with cache_at(tmp_path) as cache:
        repository = cache.repository(source, "oci:golden", "")
        descriptor = await repository.resolve("single")
        assert await repository.resolve(str(descriptor.digest)) == descriptor
        raw = await repository.fetch_manifest(descriptor)
        reader = await repository.open_blob(descriptor)
        assert await reader.read(0, descriptor.size) == raw
        reader.close()
        with pytest.raises(NotFound):
            await repository.resolve("missing")
    assert list((tmp_path / "blobs").iterdir()) == []
