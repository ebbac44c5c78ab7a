"""A layer is read before the disk has it; it has its names afterwards, or nothing has."""

import errno
import logging
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from orasfs.errors import ConnectionBroken
from orasfs.store.content.budget import Budget
from orasfs.store.content.cas import ContentStore
from orasfs.store.files.pending import Patience, Unnamed
from orasfs.store.options import CacheOptions
from orasfs.store.packed import unpack
from orasfs.tree.layers import Layer
from orasfs.tree.node import PackedLayer
from tests.conftest import ExpectLog
from tests.fakes.source import MemorySource
from tests.support import caches
from tests.support.archives import files, tar_of
from tests.support.caches import cache_at

ROOT = Path(__file__).parent.parent.parent
NEVER = Patience(quiet_seconds=1e6, most_seconds=1e6)  # by itself
UNNAMED = CacheOptions(lazy_bytes=1 << 20, patience=NEVER)


def made() -> dict[str, bytes]:
    chance = random.Random(7)  # noqa: S311 - the same bytes in both processes
    large = {f"docs/large{number}": chance.randbytes(2 << 20) for number in range(2)}
    return {"docs/small": chance.randbytes(1000), **large, "docs/last": b"end"}


FILES = made()


def published() -> tuple[MemorySource, PackedLayer]:
    source = MemorySource()
    return source, PackedLayer(source.add_blob(tar_of(*files(FILES))), "docs", None)


async def contents(layer: Layer) -> dict[str, bytes]:
    return await caches.contents(layer, FILES)


def named(root: Path) -> list[str]:
    """Return the files that have final names, of blobs and of layers."""
    places = (root / "blobs", root / "orasfs" / "layers")
    found = [path for place in places for path in place.rglob("*") if path.is_file()]
    return sorted(path.name if "layers" in path.parts else "blob" for path in found)


ALL = ["blob", "blob", "blob", "index", "index.chunks", "slab", "summary"]


async def test_layer_is_read_before_it_has_names_and_has_them_when_the_mount_ends(
    tmp_path: Path,
) -> None:
    source, layer = published()
    async with cache_at(tmp_path, UNNAMED) as cache:
        opened = await cache.repository(source, "host", "a").open_layer(layer)
        assert await contents(opened) == FILES
        assert named(tmp_path) == []
    assert named(tmp_path) == ALL
    assert list((tmp_path / "ingest").iterdir()) == []
    source.open_error = ConnectionBroken("away")
    async with cache_at(tmp_path, UNNAMED) as cache:
        opened = await cache.repository(source, "host", "a").open_layer(layer)
        assert await contents(opened) == FILES
    assert len(source.streams) == 1


async def test_layer_without_names_is_not_unpacked_anew_when_nobody_uses_it(
    tmp_path: Path,
) -> None:
    source, layer = published()
    async with cache_at(tmp_path, UNNAMED) as cache:
        repository = cache.repository(source, "host", "a")
        assert await contents(await repository.open_layer(layer)) == FILES
        cache._layers.relax()
        await trio.lowlevel.checkpoint()
        assert await contents(await repository.open_layer(layer)) == FILES
        assert cache.statistics().layers_unpacked == 1
        assert named(tmp_path) == []


async def test_layer_that_is_fetched_has_its_names(tmp_path: Path) -> None:
    source, layer = published()
    async with cache_at(tmp_path, UNNAMED) as cache:
        await cache.repository(source, "host", "a").complete_layer(layer)
        assert named(tmp_path) == ALL


async def test_layer_that_is_fetched_has_its_names_however_late_its_blob_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = ContentStore.keep

    def late(store: ContentStore, unnamed: Unnamed) -> None:
        threading.Event().wait(0.3)  # what does not wait for it is through by then
        keep(store, unnamed)

    monkeypatch.setattr(ContentStore, "keep", late)
    source, layer = published()
    async with cache_at(tmp_path, UNNAMED) as cache:
        await cache.repository(source, "host", "a").complete_layer(layer)
        assert named(tmp_path) == ALL


async def test_blob_that_is_fetched_has_its_name(tmp_path: Path) -> None:
    source, layer = published()
    async with cache_at(tmp_path, UNNAMED) as cache:
        repository = cache.repository(source, "host", "a")
        opened = await repository.open_blob(layer.descriptor)
        assert len(await opened.read(0, opened.size)) == layer.descriptor.size
        opened.close()
        assert named(tmp_path) == []
        (await repository.complete_blob(layer.descriptor)).close()
        assert named(tmp_path) == ["blob"]
    assert len(source.streams) == 1


async def test_what_has_no_name_gets_it_when_its_room_is_needed(tmp_path: Path) -> None:
    source, layer = published()
    other = source.add_blob(random.Random(8).randbytes(6 << 20))  # noqa: S311 - data
    options = replace(UNNAMED, budget=Budget(size=14 << 20))
    async with cache_at(tmp_path, options) as cache:
        repository = cache.repository(source, "host", "a")
        opened = await repository.open_layer(layer)
        assert await contents(opened) == FILES
        del opened
        (await repository.complete_blob(other)).close()
        assert named(tmp_path) != []


async def test_layer_that_the_disk_refuses_late_is_read_and_unpacked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "not kept what=<SealedLayer .*No space left")
    publish = unpack.Draft.publish
    refusals = [OSError(errno.ENOSPC, "No space left on device")]

    def refuse_once(draft: unpack.Draft, directory: Path, slab: Path) -> None:
        if refusals:
            raise refusals.pop()
        publish(draft, directory, slab)

    monkeypatch.setattr(unpack.Draft, "publish", refuse_once)
    source, layer = published()
    async with cache_at(tmp_path, UNNAMED) as cache:
        repository = cache.repository(source, "host", "a")
        opened: Layer | None = await repository.open_layer(layer)
        assert opened is not None
        assert await trio.to_thread.run_sync(cache._shared.store.pending.settle_all)
        assert not (tmp_path / "orasfs" / "layers").exists()
        assert await contents(opened) == FILES
        opened = None
        cache._layers.relax()
        await trio.testing.wait_all_tasks_blocked()  # it is told by the next turn of the loop
        assert await contents(await repository.open_layer(layer)) == FILES
    assert named(tmp_path) == ALL


async def read_and_wait(root: Path) -> None:
    """Read a layer, say so, and wait for the signal."""
    source, layer = published()
    async with cache_at(root, UNNAMED) as cache:
        opened = await cache.repository(source, "host", "a").open_layer(layer)
        assert await contents(opened) == FILES
        print("read", flush=True)  # noqa: T201 - what the test waits for
        await trio.sleep(20)


async def test_killed_before_it_has_names_nothing_wrong_is_left_and_nothing_is_fetched_twice(
    tmp_path: Path,
) -> None:
    script = (
        "import sys, trio, pathlib\n"
        "from tests.store.test_sealed import read_and_wait\n"
        "trio.run(read_and_wait, pathlib.Path(sys.argv[1]))\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else is to run meanwhile
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "read\n"
        process.send_signal(signal.SIGKILL)
    assert named(tmp_path) == []
    source, layer = published()
    async with cache_at(tmp_path, UNNAMED) as cache:
        opened = await cache.repository(source, "host", "a").open_layer(layer)
        assert await contents(opened) == FILES
    assert source.bytes_sent == 0, "the whole blob had been left"
    assert named(tmp_path) == ALL
    assert list((tmp_path / "ingest").iterdir()) == []
