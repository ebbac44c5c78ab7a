"""What goes when there is no room, and what does not."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from orasfs.errors import StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.content.budget import Budget
from orasfs.store.content.cas import ContentStore
from orasfs.store.content.ledger import TOUCH_SECONDS, Ledger
from orasfs.store.content.room import Room

BLOCK = 4096
SIZE = 10 * BLOCK


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


class Store:
    """A store with room for ten blobs."""

    def __init__(
        self, root: Path, clock: Clock | None = None, *, size: int = 10 * SIZE,
        pinned: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.clock = clock or Clock()
        self.root = root
        self.ledger = Ledger(root / "orasfs/ledger.sqlite", self.clock)
        self.room = Room(root, self.ledger, Budget(size=size), lambda: pinned)
        self.store = ContentStore(root, self.room)

    def add(self, number: int) -> Descriptor:
        content = number.to_bytes(8, "big") * (SIZE // 8)
        descriptor = Descriptor("application/octet-stream", Digest.of(content), SIZE)
        self.store.ingest_bytes(descriptor, content)
        return descriptor

    def use(self, descriptor: Descriptor) -> None:
        fd = self.store.open(descriptor)
        assert fd is not None
        os.close(fd)
        self.room.flush()


def on_disk(root: Path) -> int:
    """Return what the files that count take, as du(1) would."""
    return sum(
        path.lstat().st_blocks * 512
        for place in ("blobs", "ingest", "orasfs/layers")
        for path in (root / place).rglob("*")
        if path.is_file()
    )


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    s = Store(tmp_path)
    blobs = [s.add(number) for number in range(10)]
    s.clock.seconds += TOUCH_SECONDS
    s.use(blobs[0])
    more = s.add(10)
    assert [s.store.has(blob) for blob in blobs] == [True, False, *[True] * 8]
    assert s.store.has(more)
    assert s.ledger.total() == on_disk(tmp_path) == 10 * SIZE


def test_what_takes_more_than_was_claimed_is_made_up_for(tmp_path: Path) -> None:
    """A disk gives whole blocks, and a size is asked for in bytes."""
    s = Store(tmp_path)
    blobs = [s.add(number) for number in range(9)]
    small = b"small"
    descriptor = Descriptor("application/octet-stream", Digest.of(small), len(small))
    s.room.claim(tmp_path / "ingest/other", SIZE - len(small))
    s.store.ingest_bytes(descriptor, small)
    assert s.store.has(descriptor)
    assert not s.store.has(blobs[0])
    assert s.ledger.total() <= 10 * SIZE


def test_reading_writes_nothing_for_an_hour(tmp_path: Path) -> None:
    s = Store(tmp_path)
    blob = s.add(1)
    path = tmp_path / "orasfs/ledger.sqlite-wal"
    s.use(blob)
    before = path.stat().st_mtime_ns
    for _ in range(100):
        s.use(blob)
    assert path.stat().st_mtime_ns == before


def test_what_a_process_has_open_stays(tmp_path: Path) -> None:
    s = Store(tmp_path)
    blobs = [s.add(number) for number in range(10)]
    script = (
        "import sys, pathlib\n"
        "from orasfs.store.files import leases\n"
        "file = open(sys.argv[1], 'rb')\n"
        "leases.hold(file.fileno())\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = s.store.path_of(blobs[0].digest)
    with subprocess.Popen(
        [sys.executable, "-c", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        s.add(10)
        assert s.store.has(blobs[0])
        assert not s.store.has(blobs[1])
        process.kill()
    s.add(11)
    assert not s.store.has(blobs[0]), "a killed process holds nothing"


def test_all_in_use_is_no_room(tmp_path: Path) -> None:
    s = Store(tmp_path)
    held = [s.store.open(s.add(number)) for number in range(10)]
    with pytest.raises(StorageFull, match="in use"):
        s.add(10)
    for fd in held:
        assert fd is not None
        os.close(fd)
    s.add(10)


def test_what_is_larger_than_all_the_room_evicts_nothing(tmp_path: Path) -> None:
    s = Store(tmp_path)
    blob = s.add(1)
    with pytest.raises(StorageFull, match="more than the cache may have"):
        s.room.claim(tmp_path / "ingest/sha256-x.partial", 11 * SIZE)
    assert s.store.has(blob)
    assert list((tmp_path / "ingest").iterdir()) == []


def test_what_is_pinned_stays(tmp_path: Path) -> None:
    pins: list[str] = []
    s = Store(tmp_path, pinned=pins)
    blobs = [s.add(number) for number in range(10)]
    pins.append(str(blobs[0].digest))
    s.add(10)
    assert s.store.has(blobs[0])
    assert not s.store.has(blobs[1])


def test_index_of_a_layer_goes_last(tmp_path: Path) -> None:
    s = Store(tmp_path)
    layer = tmp_path / "orasfs/layers/sha256" / ("a" * 64)
    layer.mkdir(parents=True)
    for name in ("slab", "summary", "index"):
        (layer / name).write_bytes(b"x" * BLOCK)
    s.room.settle("orasfs/layers")
    for number in range(10):
        s.add(number)
    assert sorted(path.name for path in layer.iterdir()) == ["index", "summary"]
    assert s.ledger.total() == on_disk(tmp_path) <= 10 * SIZE


def test_two_stores_stay_within_one_budget(tmp_path: Path) -> None:
    clock = Clock()
    one, other = Store(tmp_path, clock), Store(tmp_path, clock)
    for number in range(20):
        (one if number % 2 else other).add(number)
    assert one.ledger.total() == other.ledger.total() == on_disk(tmp_path) == 10 * SIZE


def test_evicted_manifest_is_taken_off_the_list_of_the_other_client(tmp_path: Path) -> None:
    s = Store(tmp_path)
    first = s.add(0)
    entries = [
        {"mediaType": "x", "digest": str(first.digest), "size": SIZE, "other": [1, 2]},
        {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 1},
    ]
    document = {"schemaVersion": 2, "manifests": entries}
    (tmp_path / "index.json").write_text(json.dumps(document))
    for number in range(1, 11):
        s.add(number)
    assert not s.store.has(first)
    after = json.loads((tmp_path / "index.json").read_bytes())
    assert after == {"schemaVersion": 2, "manifests": entries[1:]}


@pytest.mark.parametrize("damage", ["lost", "garbage", "truncated", "of another version"])
def test_ledger_is_made_anew(tmp_path: Path, damage: str) -> None:
    s = Store(tmp_path)
    blobs = [s.add(number) for number in range(5)]
    s.ledger.close()
    path = tmp_path / "orasfs/ledger.sqlite"
    if damage == "lost":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    s = Store(tmp_path)
    s.room.recover()
    s.room.recover()
    assert {entry.digest for entry in s.ledger.entries()} == {str(b.digest) for b in blobs}
    assert s.ledger.total() == on_disk(tmp_path) == 5 * SIZE


def test_ledger_that_is_damaged_meanwhile_is_made_anew(tmp_path: Path) -> None:
    s = Store(tmp_path)
    for number in range(10):
        s.add(number)
    s.ledger._disconnect()
    for path in (tmp_path / "orasfs").glob("ledger.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    assert s.ledger.total() == 0
    s.add(10)
    assert s.ledger.total() == on_disk(tmp_path) == 10 * SIZE


def test_what_others_put_there_is_found(tmp_path: Path) -> None:
    s = Store(tmp_path)
    s.room.recover()
    content = b"y" * SIZE
    descriptor = Descriptor("", Digest.of(content), SIZE)
    path = s.store.path_of(descriptor.digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert s.ledger.total() == 0
    s.use(descriptor)
    assert s.ledger.total() == SIZE
    path.unlink()
    s.room.scan()
    assert s.ledger.total() == 0


def test_what_a_killed_process_left_is_settled(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from tests.store.test_room import *\n"
        "s = Store(pathlib.Path(sys.argv[1]))\n"
        "kept = Descriptor('', Digest.of(b'a' * SIZE), SIZE)\n"
        "incoming = s.store.begin(kept)\n"
        "incoming.append(b'a' * BLOCK)\n"
        "done = Descriptor('', Digest.of(b'b' * SIZE), SIZE)\n"
        "incoming = s.store.begin(done)\n"
        "incoming.append(b'b' * SIZE)\n"
        "incoming.verify()\n"
        "incoming.publish()\n"
        "print(s.ledger.total(), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    assert int(run.stdout) == 2 * SIZE, "what may come is counted before it is there"
    s = Store(tmp_path)
    s.room.recover()
    assert s.ledger.total() == on_disk(tmp_path) == SIZE + BLOCK
