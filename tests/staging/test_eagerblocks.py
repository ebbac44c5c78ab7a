"""Blocks of packed directories that are compressed while the draft is being filled."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio.testing

from orasfs.staging import eagerblocks, layerblob, settings
from orasfs.staging.blocks import MOST_BYTES, Block
from orasfs.staging.eagerblocks import FIRST_SECONDS, LEAST_SECONDS
from orasfs.staging.eagerpack import QUIET_SECONDS
from orasfs.staging.identity import Identity
from tests.support.eagerly import World, until

LARGE = os.urandom(3 * MOST_BYTES + 1000)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the blocks that commits compress, which grows."""
    sizes: list[int] = []
    compress = layerblob.compress_block

    def counting(content: bytes) -> bytes:
        sizes.append(len(content))
        return compress(content)

    monkeypatch.setattr(layerblob, "compress_block", counting)
    return sizes


def docs(world: World) -> Identity:
    found = world.draft.tree.find(world.top, "docs")
    return found or world.draft.tree.make_directory(world.top, "docs", 0o755)


def known(world: World) -> int:
    return len(world.draft.blocks._places)


async def rested(world: World) -> None:
    """Wait until nothing is tried, and nothing is to be."""
    packs = world.eager._packs
    touched, filled = packs._touched.values(), packs._blocks._filled.values()
    await until(lambda: not any(each.titles or each.scope for each in touched))
    await until(lambda: not any(each.titles for each in filled))


async def test_what_is_there_is_compressed_while_more_is_written(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    assert FIRST_SECONDS < QUIET_SECONDS
    async with world.running():
        world.write("a", LARGE, docs(world))
        opened = world.create("b", docs(world))
        await until(lambda: known(world) >= 4)
        opened.write_now(0, b"b")
        opened.close()
    assert world.target.calls == []


async def test_a_commit_compresses_only_what_is_new(
    world: World, compressed: list[int], autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.write("a", LARGE, docs(world))
        await until(lambda: known(world) >= 4)
        await rested(world)
        compressed.clear()
        world.write("b", b"b" * 1000, docs(world))
        assert await world.committer.commit(world.draft) is not None
    assert 0 < len(compressed) <= 2, "those that the directory's time and the new file are in"


async def test_a_commit_makes_the_same_blob_without(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    digests = []
    for number in range(2):
        world = World(tmp_path / str(number))
        async with world.running():
            world.write("a", LARGE, docs(world))
            world.write("b", b"b" * 100_000, docs(world))
            if number:
                await until(lambda world=world: known(world) >= 4)  # type: ignore[misc]  # a loop's variable
            for path in (world.draft.directory / "tree").rglob("*"):
                os.utime(path, (7, 7))
            assert await world.committer.commit(world.draft) is not None
        (raw, _), *_ = world.target.manifests.values()
        digests.append([layer["digest"] for layer in json.loads(raw)["layers"]])
        world.store.close()
    assert digests[0] == digests[1]


async def test_what_was_changed_since_is_compressed_by_the_commit(
    world: World, compressed: list[int], autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        identity = world.write("a", LARGE, docs(world))
        await until(lambda: known(world) >= 4)
        await rested(world)
        compressed.clear()
        status = world.draft.tree.status(identity)
        opened = world.reopen(identity)
        opened.write_now(MOST_BYTES, b"changed")
        opened.close()
        os.utime(world.draft.tree.path(identity), ns=(0, status.st_mtime_ns))
        assert await world.committer.commit(world.draft) is not None
    assert compressed == [MOST_BYTES], "with the same size and time"


async def test_only_new_blocks_are_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    reads: list[int] = []
    read = eagerblocks._read

    def counting(block: Block) -> bytes | None:
        reads.append(block.size)
        return read(block)

    monkeypatch.setattr(eagerblocks, "_read", counting)
    async with world.running():
        world.write("a", LARGE, docs(world))
        await until(lambda: known(world) >= 4)
        first = len(reads)
        world.write("b", LARGE[::-1], docs(world))
        await trio.sleep(LEAST_SECONDS)
        await until(lambda: known(world) >= 8)
    assert first == 4
    assert len(reads) <= first + 6


async def test_only_gzip_is_compressed_ahead(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.draft.tree.set_attribute(world.top, settings.COMPRESSION, b"zstd")
    async with world.running():
        world.write("a", LARGE, docs(world))
        await until(lambda: bool(world.target.blobs))
    assert known(world) == 0


async def test_a_dropped_draft_is_forgotten(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.write("a", LARGE, docs(world))
        world.eager.dropped(world.draft)
        await trio.sleep(2 * FIRST_SECONDS)
    assert known(world) == 0


async def test_a_file_that_is_cut_short_meanwhile_is_no_error(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    read = eagerblocks._read

    def cutting(block: Block) -> bytes | None:
        os.truncate(world.draft.directory / "tree/docs/a", 100)
        return read(block)

    monkeypatch.setattr(eagerblocks, "_read", cutting)
    async with world.running():
        world.write("a", LARGE, docs(world))
        await trio.sleep(2 * FIRST_SECONDS)
        await until(
            lambda: not any(each.titles for each in world.eager._packs._blocks._filled.values())
        )
        assert await world.committer.commit(world.draft) is not None
    assert known(world) == 0
