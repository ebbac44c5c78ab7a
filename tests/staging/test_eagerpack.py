"""Directories packed ahead of the commit: when, how often, and what a commit has of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio.testing

from orasfs.oci.digest import Digest
from orasfs.staging.eagerpack import QUIET_SECONDS
from orasfs.staging.identity import Identity
from tests.support.eagerly import World, settled, until

LATER_SECONDS = 1.5 * QUIET_SECONDS
CONFIG = 1  # blobs of a commit besides layers


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def docs(world: World) -> Identity:
    found = world.draft.tree.find(world.top, "docs")
    return found or world.draft.tree.make_directory(world.top, "docs", 0o755)


async def sent(world: World, number: int) -> None:
    """Wait until so many blobs were pushed and nothing is under way."""
    await until(lambda: len(world.target.blobs) >= number)
    await settled(world)


async def test_a_directory_that_was_let_alone_is_there_before_the_commit(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.write("a", b"a", docs(world))
        await trio.sleep(QUIET_SECONDS / 2)
        world.write("b", b"b", docs(world))
        await trio.sleep(QUIET_SECONDS / 2)
        assert world.target.calls == []
        await sent(world, 1)
        assert not list((world.draft.directory / "early").iterdir())
        assert await world.committer.commit(world.draft) is not None
    assert world.target.counts["push_blob"] == 1 + CONFIG


async def test_what_was_changed_since_is_sent_by_the_commit(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        identity = world.write("a", b"a", docs(world))
        await sent(world, 1)
        before = set(world.target.blobs)
        world.draft.tree.rename((docs(world), "a"), (docs(world), "b"))
        assert world.draft.tree.status(identity)
        assert await world.committer.commit(world.draft) is not None
    assert world.target.counts["push_blob"] == 2 + CONFIG
    assert before < set(world.target.blobs)


async def test_each_try_makes_the_next_one_wait_longer(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.write("a", b"a", docs(world))
        await sent(world, 1)
        world.write("b", b"b", docs(world))
        await trio.sleep(LATER_SECONDS)
        assert len(world.target.blobs) == 1
        await sent(world, 2)


async def test_an_open_file_puts_it_off(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.write("a", b"a", docs(world))
        opened = world.create("raw")
        await trio.sleep(4 * QUIET_SECONDS)
        assert world.target.calls == []
        opened.close()
        await sent(world, 1)


async def test_what_makes_no_artifact_is_told_by_the_commit_only(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.draft.tree.make_symlink(docs(world), "out", "/etc/passwd")
        world.write("a", b"a", docs(world))
        await trio.sleep(4 * QUIET_SECONDS)
        await until(lambda: not any(each.titles for each in world.eager._packs._touched.values()))
    assert world.target.calls == []


async def test_the_blob_is_the_one_that_the_commit_makes(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.write("a", b"a" * 100_000, docs(world))
        await sent(world, 1)
    (found,) = world.target.blobs
    assert isinstance(found, Digest)
    assert await world.committer.commit(world.draft) is not None
    (raw, _), *_ = world.target.manifests.values()
    assert str(found).encode() in raw
