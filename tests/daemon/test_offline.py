"""A mount without the network: what the cache has, and a plain refusal of all else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from orasfs.daemon.offline import OfflineRegistry, refuse
from orasfs.daemon.registries import Endpoint, MountRegistries
from orasfs.daemon.source import MountSource
from orasfs.errors import Offline
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import Source
from orasfs.store.cache import Cache
from orasfs.store.repository import CachedRepository
from orasfs.vfs.root import RegistriesRoot
from tests.fakes.source import MemorySource

MANIFEST = b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"%s","size":2},"layers":[]}' % (
    str(Digest.of(b"{}")).encode()
)
OTHER = Descriptor("", Digest.of(b"other"), 5)


@asynccontextmanager
async def repository(root: Path, source: Source) -> AsyncIterator[CachedRepository]:
    async with trio.open_nursery() as nursery:
        cache = Cache(root, nursery)
        with trio.fail_after(20):
            yield cache.repository(source, "host", "a")
            await cache.aclose()
        nursery.cancel_scope.cancel()


async def test_what_was_seen_is_there_and_nothing_else(tmp_path: Path) -> None:
    source = MemorySource()
    manifest = source.add_manifest(MANIFEST, "v1")
    blob = source.add_blob(b"content")
    async with repository(tmp_path, source) as online:
        await online.resolve("v1")
        await online.list_tags()
        await online.fetch_manifest(manifest)
        reader = await online.open_blob(blob)
        await reader.read(0, 10)
        reader.close()
    off = OfflineRegistry("host").repository("a")
    async with repository(tmp_path, off) as offline:
        assert (await offline.resolve("v1")).digest == manifest.digest
        assert (await offline.list_tags()).names == ("v1",)
        assert await offline.fetch_manifest(manifest) == MANIFEST
        reader = await offline.open_blob(blob)
        assert await reader.read(0, 10) == b"content"
        reader.close()
        for ask in (
            offline.resolve("v2"),
            offline.resolve(str(OTHER.digest)),
            offline.fetch_manifest(OTHER),
            offline.open_blob(OTHER),
            offline.list_referrers(manifest.digest),
        ):
            with pytest.raises(Offline, match="offline"):
                await ask


async def test_nothing_is_pushed() -> None:
    target: Endpoint = OfflineRegistry("host").repository("a")
    for ask in (
        target.has_blob(OTHER),
        target.mount_blob(OTHER, "b"),
        target.push_manifest(b"", "", "v1"),
        target.delete_tag("v1"),
        target.delete_manifest(OTHER.digest),
    ):
        with pytest.raises(Offline, match=r"-o offline"):
            await ask


def never(_source: object, registry: str, name: str) -> NoReturn:
    raise AssertionError(f"{registry}/{name}: no repository is asked for")


async def test_hosts_are_those_the_cache_has_seen() -> None:
    def seen(host: str) -> list[str]:
        return ["a"] if host == "seen.example" else []

    source = MountSource("registries", RegistriesRoot())
    exists = MountRegistries(source, (), OfflineRegistry, never, seen, refuse).exists
    assert await exists("seen.example")
    with pytest.raises(Offline):
        await exists("other.example")
