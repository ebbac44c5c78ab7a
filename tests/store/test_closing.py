"""What readers have seen before a clean close is there for the next mount."""

import math
import threading
from pathlib import Path

import pytest
import trio

from orasfs.errors import Offline
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store import cache
from orasfs.store.content.cas import ContentStore
from orasfs.store.packed.sealed import SealedLayer
from orasfs.store.packed.unpacker import Unpacker
from orasfs.tree.node import PackedLayer
from orasfs.tree.toc import find_toc
from tests.fakes.source import MemorySource
from tests.support.blobbench import until
from tests.support.caches import content, lazy_at
from tests.support.referred import check, publish
from tests.support.seekable import FIRST_FILE, image_layer
from tests.support.stored import GATE, LARGE, TAR, packed

_GATE_SECONDS = 20.0
# What does not wait has closed everything by then; what does needs it in no case.
_LATE_SECONDS = 0.2


def wait_beyond(closing: threading.Event) -> None:
    """Wait, in a thread, until a close has been under way for a moment."""
    assert closing.wait(_GATE_SECONDS)
    threading.Event().wait(_LATE_SECONDS)


def keep_late(monkeypatch: pytest.MonkeyPatch, digest: Digest) -> threading.Event:
    """Have a blob taken in only some time after the event that is returned."""
    closing = threading.Event()
    ingest_bytes = ContentStore.ingest_bytes

    def late(store: ContentStore, descriptor: Descriptor, content: bytes) -> None:
        if descriptor.digest == digest:
            wait_beyond(closing)
        ingest_bytes(store, descriptor, content)

    monkeypatch.setattr(ContentStore, "ingest_bytes", late)
    return closing


def index_of(root: Path, layer: PackedLayer) -> Path:
    """Return where the index of a layer is kept that has passed."""
    return root / "orasfs/layers/sha256" / layer.descriptor.digest.hex / "index"


async def test_published_index_that_is_being_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish()
    closing = keep_late(monkeypatch, made.index.digest)
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/large")
        closing.set()
    made.source.failure = made.source.open_error = Offline("nothing is asked")
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/large")


async def test_table_of_contents_that_is_being_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource()
    layer = image_layer(source, "image-zstd-chunked")
    place = find_toc(layer.descriptor)
    assert place is not None
    closing = keep_late(monkeypatch, place.digest)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        expected = await content(opened, FIRST_FILE)
        closing.set()
    source.open_error = Offline("nothing is asked")
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        assert await content(opened, FIRST_FILE) == expected


async def test_layer_all_of_which_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing = threading.Event()
    seal = Unpacker.seal

    def late(unpacker: Unpacker, directory: Path) -> SealedLayer:
        wait_beyond(closing)
        return seal(unpacker, directory)

    monkeypatch.setattr(Unpacker, "seal", late)
    source = MemorySource()
    layer = packed(source, TAR)
    async with lazy_at(tmp_path, source) as (repository, _):
        shown = await repository.begin_layer(layer)
        assert await content(shown, "docs/large") == LARGE
        closing.set()
    assert index_of(tmp_path, layer).exists()


async def test_disk_that_hangs_holds_up_no_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish()
    never = keep_late(monkeypatch, made.index.digest)
    monkeypatch.setattr(cache, "_CLOSE_SECONDS", 0.05)
    try:
        async with lazy_at(tmp_path, made.source) as (repository, _):
            await check(repository, made.layer, "docs/large")
        assert not (tmp_path / "blobs" / "sha256" / made.index.digest.hex).exists()
    finally:
        never.set()


@pytest.mark.parametrize("lazy_bytes", [1000, 1024 * 1024 * 1024])
async def test_pass_that_waits_for_the_network_holds_up_no_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lazy_bytes: int
) -> None:
    monkeypatch.setattr(cache, "_CLOSE_SECONDS", math.inf)  # it ends by itself
    source = MemorySource()
    layer = packed(source, TAR)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source, lazy_bytes=lazy_bytes) as (repository, _):
        with trio.CancelScope() as reader:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(repository.open_layer, layer)
                await until(source.at_gate.is_set)
                reader.cancel()
