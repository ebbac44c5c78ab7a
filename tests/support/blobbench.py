"""The blobs of a cache on a directory of its own, without repositories around them."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStreamer
from orasfs.store.content.cas import ContentStore
from orasfs.store.fetching.blobs import Blobs
from orasfs.store.fetching.counters import Counters
from orasfs.store.fetching.downloads import Downloads
from orasfs.store.fetching.readers import FileReader
from orasfs.store.options import CacheOptions

OPTIONS = CacheOptions(lazy_bytes=1_000_000, grace_seconds=0.05, failure_seconds=0.05)


@dataclass
class Bench:
    root: Path
    store: ContentStore
    downloads: Downloads
    blobs: Blobs
    counters: Counters
    mismatches: list[Digest]

    async def open(self, descriptor: Descriptor, source: BlobStreamer) -> FileReader:
        blob = await self.blobs.acquire(descriptor, source)
        return FileReader(self.blobs, blob, source, trio.CapacityLimiter(8))

    async def read(self, descriptor: Descriptor, source: BlobStreamer) -> bytes:
        reader = await self.open(descriptor, source)
        try:
            return await reader.read(0, descriptor.size)
        finally:
            reader.close()

    async def wait_named(self) -> None:
        """Wait until what is fetched has its final name."""
        await self.downloads.wait_idle()
        self.store.pending.settle_all()

    def partials(self) -> list[int]:
        return [path.stat().st_size for path in (self.root / "ingest").glob("*.partial")]


@asynccontextmanager
async def bench(root: Path, options: CacheOptions = OPTIONS) -> AsyncIterator[Bench]:
    counters = Counters()
    mismatches: list[Digest] = []
    store = ContentStore(root)
    async with trio.open_nursery() as nursery:
        downloads = Downloads(nursery, options.downloads, options.lazy_bytes)
        blobs = Blobs(store, downloads, nursery, options, counters, mismatches.append)
        with trio.fail_after(30):
            yield Bench(root, store, downloads, blobs, counters, mismatches)
            downloads.stop()
            await downloads.wait_idle()
            store.pending.close()
        assert blobs._open == {}, "a blob was never released"
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what a worker thread does, which no event of trio tells; by any clock."""
    while not condition():
        await trio.to_thread.run_sync(threading.Event().wait, 0.002)
