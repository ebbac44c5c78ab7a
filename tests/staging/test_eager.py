"""Early uploads: what is sent when, what is given up, and what a commit has of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from orasfs.errors import ConnectionRefused, Unsupported
from orasfs.staging import eager, writtendigest
from orasfs.staging.changes import AttrChanges
from orasfs.staging.eager import QUIET_SECONDS
from orasfs.staging.eagerpause import FIRST_SECONDS
from tests.support.eagerly import World, settled, until

PIECE = 64 * 1024
PIECES = 8
LATER_SECONDS = 2 * QUIET_SECONDS


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "FOLLOW_BYTES", 2 * PIECE)
    monkeypatch.setattr(writtendigest, "FOLLOWED_BYTES", PIECE)
    monkeypatch.setattr(writtendigest, "WORTH_BYTES", PIECE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def piece(number: int) -> bytes:
    return bytes([number]) * PIECE


LARGE = b"".join(piece(number) for number in range(PIECES))


async def test_a_closed_file_is_sent_when_it_was_let_alone(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        world.write("f", b"content")
        await trio.sleep(QUIET_SECONDS / 2)
        assert world.target.calls == []
        await trio.sleep(LATER_SECONDS)
        await settled(world)
        assert world.has(b"content")


async def test_what_is_written_again_waits_for_its_last_state(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        identity = world.write("f", b"old")
        await trio.sleep(QUIET_SECONDS / 2)
        opened = world.reopen(identity)
        opened.write_now(0, b"new")
        await trio.sleep(LATER_SECONDS)
        assert world.target.calls == []
        opened.close()
        await trio.sleep(LATER_SECONDS)
        await settled(world)
        assert world.has(b"new")
        assert not world.has(b"old")


async def test_a_large_file_is_sent_while_it_is_written(world: World) -> None:
    async with world.running():
        opened = world.create("model")
        for number in range(PIECES // 2):
            opened.write_now(number * PIECE, piece(number))
        await until(lambda: any(blob.sent for blob in world.eager.uploads()))
        for number in range(PIECES // 2, PIECES):
            opened.write_now(number * PIECE, piece(number))
        opened.close()
        await settled(world)
        assert world.has(LARGE)
        assert world.target.calls == ["follow_blob"]


async def test_a_commit_waits_for_what_is_on_its_way_and_sends_it_not(world: World) -> None:
    async with world.running():
        opened = world.create("model")
        for number in range(PIECES):
            opened.write_now(number * PIECE, piece(number))
            await trio.lowlevel.checkpoint()
        opened.close()
        assert await world.committer.commit(world.draft) is not None
    assert world.target.counts["follow_blob"] == 1
    assert world.target.counts["push_blob"] == 1  # the config
    assert world.has(LARGE)


async def test_a_rewrite_ends_the_upload_and_the_file_goes_when_it_is_closed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        opened = world.create("model")
        for number in range(PIECES):
            opened.write_now(number * PIECE, piece(number))
        await trio.testing.wait_all_tasks_blocked()
        opened.write_now(0, b"x")
        await settled(world)
        opened.close()
        await trio.sleep(LATER_SECONDS)
        await settled(world)
        assert world.has(b"x" + LARGE[1:])
        assert not world.has(LARGE)


async def test_a_target_that_takes_whole_blobs_gets_them_at_the_close(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        world.target.counts["refused"] += 1
        raise Unsupported("whole blobs only")

    monkeypatch.setattr(world.target, "follow_blob", refuse)
    async with world.running():
        for name in ("one", "two"):
            opened = world.create(name)
            for number in range(PIECES):
                opened.write_now(number * PIECE, piece(number))
            await settled(world)
            opened.close()
            await trio.sleep(LATER_SECONDS)
            await settled(world)
        assert world.has(LARGE)
    assert world.target.counts["refused"] == 1


async def test_files_of_packed_directories_and_removed_files_are_not_sent(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        below = world.draft.tree.make_directory(world.top, "docs", 0o755)
        world.write("f", b"packed", below)
        world.write("gone", b"gone")
        world.draft.tree.unlink(world.top, "gone")
        world.write("empty", b"")
        await trio.sleep(LATER_SECONDS)
        await settled(world)
    assert not any(map(world.has, (b"packed", b"gone", b"")))


async def test_directories_of_layers_are_sent(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        below = world.draft.tree.make_directory(world.top, "docs", 0o755)
        world.draft.tree.set_attribute(below, "user.oras.pack", b"files")
        world.write("f", b"a layer", below)
        await trio.sleep(LATER_SECONDS)
        await settled(world)
        assert world.has(b"a layer")


async def test_a_failure_is_nobodys_and_lets_the_registry_rest(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.target.fail_at = 0
    world.target.error = ConnectionRefused("nobody listens")
    async with world.running():
        world.write("one", b"one")
        await trio.sleep(LATER_SECONDS)
        await settled(world)
        world.write("two", b"two")
        await trio.sleep(LATER_SECONDS)
        assert world.target.calls == ["has_blob"]
        await trio.sleep(FIRST_SECONDS)
        world.write("three", b"three")
        await trio.sleep(LATER_SECONDS)
        await settled(world)
        assert world.has(b"three")
        assert await world.committer.commit(world.draft) is not None
    assert world.has(b"one")
    assert world.has(b"two")


async def test_a_dropped_draft_is_sent_no_further(world: World) -> None:
    world.target.stalled = True
    async with world.running():
        for number in range(3):
            world.write(f"f{number}", b"content %d" % number)
        await until(world.target.pushing.is_set)
        world.store.remove(world.draft)
        await settled(world)
    assert not world.target.blobs


async def test_the_end_of_the_mount_ends_uploads(world: World) -> None:
    world.target.stalled = True
    async with world.running():
        world.write("f", b"content")
        await until(world.target.pushing.is_set)
    assert not world.target.blobs


async def test_touching_a_file_does_not_send_it_twice(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running():
        identity = world.write("f", b"content")
        world.draft.tree.change(identity, AttrChanges(mtime_ns=1))
        await trio.sleep(LATER_SECONDS)
        await settled(world)
    assert world.target.counts["push_blob"] == 1
