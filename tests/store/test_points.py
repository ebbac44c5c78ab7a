"""Seek points of layers: when they are made, what they are good for, and what ends with whom."""

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from orasfs.errors import ConnectionRefused, ContentMismatch
from orasfs.store.content.budget import Budget
from orasfs.store.content.cas import ContentStore
from orasfs.store.content.room import open_room
from orasfs.store.fetching.counters import Counters
from orasfs.store.options import PointOptions
from orasfs.store.packed import pointfile, points
from orasfs.store.packed.openlayer import OpenLayer
from orasfs.store.packed.points import SeekPoints, _Wish, _Work
from orasfs.store.packed.rangedlayer import Ranging
from orasfs.store.repository import CachedRepository
from orasfs.tree.node import PackedLayer
from tests.fakes.source import MemorySource
from tests.support.archives import directory, files, tar_of
from tests.support.caches import (
    BRIEF,
    content,
    forget_bytes,
    place_of,
    repository_at,
)
from tests.support.content import flipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
TEXT = b"".join(b"%d is not %d\n" % (number, number * number) for number in range(20_000))
FILES = {
    f"docs/{number:02}": os.urandom(300_000) + TEXT[number * 1000 :] + os.urandom(300_000)
    for number in range(10)
}
FILES["docs/large"] = os.urandom(2 * MIB)
BLOB = gzip.compress(tar_of(directory("docs"), *files(FILES)), 1)
AT_ONCE = PointOptions(least_bytes=MIB, pause_seconds=0.0)
MAKING = replace(BRIEF, points=AT_ONCE)
NEVER = replace(BRIEF, points=PointOptions(least_bytes=2**62))


async def until(is_so: Callable[[], bool]) -> None:
    """Look until something outside of this process has come about."""
    with trio.fail_after(30):
        while not is_so():  # noqa: ASYNC110 - no event tells it
            await trio.sleep(0.005)


def published(source: MemorySource, blob: bytes = BLOB) -> PackedLayer:
    return PackedLayer(source.add_blob(blob), "docs")


async def until_made(root: Path, layer: PackedLayer) -> Path:
    place = place_of(root, layer.descriptor)
    await until(lambda: pointfile.size_of(place) is not None)
    return place / pointfile.NAME


async def evicted(root: Path, source: MemorySource) -> PackedLayer:
    """Pass a layer, have its points, and let its bytes go."""
    layer = published(source)
    async with repository_at(root, source, MAKING) as repository:
        await repository.open_layer(layer)
        await until_made(root, layer)
    forget_bytes(root)
    source.forget_requests()
    return layer


async def check(repository: CachedRepository, layer: PackedLayer, name: str) -> None:
    opened = await repository.open_layer(layer)
    assert await content(opened, name) == FILES[name]


async def test_one_file_of_one_long_member_is_read_without_the_rest(tmp_path: Path) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source)
    async with repository_at(tmp_path, source, MAKING) as repository:
        await check(repository, layer, "docs/07")
        (asked,) = source.streams
        assert asked.stop is not None
        assert asked.start > 3 * MIB
        assert source.bytes_sent < 4 * MIB < len(BLOB) / 2
        for name in FILES:
            await check(repository, layer, name)
        assert source.bytes_sent < 1.2 * len(BLOB), "nothing is fetched twice but edges"
    source.open_error = ConnectionRefused("down")
    async with repository_at(tmp_path, source, MAKING) as repository:
        await check(repository, layer, "docs/07")


async def test_points_are_used_by_the_mount_that_made_them(tmp_path: Path) -> None:
    source = MemorySource()
    layer = published(source)
    async with repository_at(tmp_path, source, MAKING) as repository:
        opened = await repository.open_layer(layer)
        await until_made(tmp_path, layer)
        assert isinstance(opened, OpenLayer)
        await until(lambda: opened.tar_reader() is not None)


async def test_flipped_bit_is_found_and_the_layer_is_passed_again(tmp_path: Path) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source)
    source.served[layer.descriptor.digest] = flipped(BLOB)
    failed = set()
    async with repository_at(tmp_path, source, MAKING) as repository:
        for name in FILES:
            try:
                await check(repository, layer, name)
            except ContentMismatch:
                failed.add(name)
    assert failed, "nobody is given what another source would not have"
    assert source.streams[-1].stop is None
    source.served.clear()
    async with repository_at(tmp_path, source, MAKING) as repository:
        for name in FILES:
            await check(repository, layer, name)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
async def test_damaged_points_are_not_used_and_made_again(tmp_path: Path, damage: str) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source)
    path = place_of(tmp_path, layer.descriptor) / pointfile.NAME
    right = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(flipped(right))
    elif damage == "truncated":
        path.write_bytes(right[:-100])
    async with repository_at(tmp_path, source, MAKING) as repository:
        for name in FILES:
            await check(repository, layer, name)
        assert source.streams[-1].stop is None, "it was passed again"
        await until(lambda: path.exists() and path.read_bytes() == right)


async def test_points_that_are_wanted_again_while_they_cannot_be_made_are_made_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource()
    layer = await evicted(tmp_path, source)
    path = place_of(tmp_path, layer.descriptor) / pointfile.NAME
    path.unlink()
    may_go_on = threading.Event()
    begin = SeekPoints._begin

    def late(making: SeekPoints, wish: _Wish) -> _Work | None:
        found = begin(making, wish)  # at first nothing: the blob is not there
        assert may_go_on.wait(20)
        return found

    monkeypatch.setattr(SeekPoints, "_begin", late)
    async with repository_at(tmp_path, source, MAKING) as repository:
        for name in FILES:
            await check(repository, layer, name)
        assert source.streams[-1].stop is None, "it was passed again"
        may_go_on.set()
        await until(path.exists)


async def considered(
    root: Path, blob: bytes, points: PointOptions = AT_ONCE, *, has_room: bool = True
) -> Path:
    """Pass a layer, and have it considered until nothing is left to do; return its place."""
    source = MemorySource()
    layer = published(source, blob)
    async with repository_at(root, source, NEVER) as repository:
        opened = await repository.open_layer(layer)
        assert isinstance(opened, OpenLayer)
    room = open_room(root, None if has_room else Budget(size=len(blob)))
    async with trio.open_nursery() as nursery:
        limiter = trio.CapacityLimiter(1)
        ranging = Ranging(nursery, limiter, Counters(), threading.Event())
        making = SeekPoints(ContentStore(root, room), ranging, points)
        for _ in range(2):
            making.consider(opened, place_of(root, layer.descriptor))
    room.ledger.close()
    assert not left_in(root)
    return place_of(root, layer.descriptor)


async def test_layer_without_points_is_looked_at_once(tmp_path: Path) -> None:
    padded = BLOB + bytes(600)
    path = await considered(tmp_path, padded) / pointfile.NAME
    assert path.read_bytes() == b""
    before = path.stat()
    await considered(tmp_path, padded)
    assert path.stat() == before


async def test_layer_that_has_points_is_left_alone(tmp_path: Path) -> None:
    path = await considered(tmp_path, BLOB) / pointfile.NAME
    assert pointfile.open_points(path.parent) is not None
    before = path.stat().st_ino
    await considered(tmp_path, BLOB)
    assert path.stat().st_ino == before


async def test_none_are_made_of_a_small_layer(tmp_path: Path) -> None:
    place = await considered(tmp_path, BLOB, PointOptions(len(BLOB) + 1, 0.0))
    assert pointfile.size_of(place) is None


async def test_none_are_made_of_another_form(tmp_path: Path) -> None:
    frame = zstd.compress(gzip.decompress(BLOB))
    assert pointfile.size_of(await considered(tmp_path, frame)) is None


async def test_none_are_made_where_something_would_have_to_go(tmp_path: Path) -> None:
    assert pointfile.size_of(await considered(tmp_path, BLOB, has_room=False)) is None


async def test_process_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = (sys.executable, "-c", "raise SystemExit(3)")
    with monkeypatch.context() as patched:
        patched.setattr("orasfs.store.packed.points._PROGRAM", failing)
        assert pointfile.size_of(await considered(tmp_path, BLOB)) is None
    assert pointfile.size_of(await considered(tmp_path, BLOB))


async def test_making_ends_with_the_mount_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "_PROGRAM", held_program())
    source = MemorySource()
    layer = published(source)
    async with repository_at(tmp_path, source, MAKING) as repository:
        await repository.open_layer(layer)
        await until(lambda: bool(makers_of(os.getpid())))
    assert not makers_of(os.getpid())
    assert not left_in(tmp_path)
    assert pointfile.size_of(place_of(tmp_path, layer.descriptor)) is None


def held_program() -> tuple[str, ...]:
    """Return the program that makes points, which stops itself before it begins."""
    *python, program, root = points._PROGRAM
    return (*python, f"import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n{program}", root)


MOUNT = """
import sys, trio
from pathlib import Path
from orasfs.store.packed import points
from tests.store import test_points
from tests.support.caches import repository_at
from tests.fakes.source import MemorySource

async def main():
    source = MemorySource()
    layer = test_points.published(source, Path(sys.argv[2]).read_bytes())
    points._PROGRAM = test_points.held_program()
    async with repository_at(Path(sys.argv[1]), source, test_points.MAKING) as repository:
        await repository.open_layer(layer)
        print("opened", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_no_process_outlives_a_daemon_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(BLOB)
    root = tmp_path / "cache"
    argv = [sys.executable, "-c", MOUNT, str(root), str(tmp_path / "blob")]
    daemon = await trio.lowlevel.open_process(argv, stdout=subprocess.DEVNULL)
    try:
        await until(lambda: any(map(is_held, makers_of(daemon.pid))))
    finally:
        makers = makers_of(daemon.pid)
        daemon.kill()
        await daemon.wait()
        for maker in makers:
            os.kill(maker, signal.SIGCONT)
    (maker,) = makers
    await until(lambda: has_ended(maker))
    assert not [*root.rglob(pointfile.NAME)]
    source = MemorySource()
    layer = published(source)
    async with repository_at(root, source, MAKING) as repository:
        await check(repository, layer, "docs/07")
        await until_made(root, layer)
    assert not left_in(root), "what it left is swept"


def makers_of(pid: int) -> list[int]:
    """Return the processes that make points which a process has begun."""
    found = []
    for status in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, status.read_text().split()):
            with contextlib.suppress(OSError):  # it has ended
                if b"pointmaker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return found


def is_held(pid: int) -> bool:
    """Tell whether a process has stopped itself."""
    with contextlib.suppress(OSError):
        return b") T " in Path(f"/proc/{pid}/stat").read_bytes()
    return False


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or nobody has yet asked how it ended."""
    try:
        return b") Z " in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True


def left_in(root: Path) -> list[Path]:
    return [*root.glob("ingest/*.tmp")]
