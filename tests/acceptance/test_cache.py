"""The cache over time, on real mounts: fetched and used offline, too small, killed often.

ORASFS_CACHE_KILLS says how often it is killed, ORASFS_CACHE_READS how much is read through a
mount; scripts/soak does more.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.store.content.room import open_room
from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.gestures import orasfs
from tests.support.mounted import Mounted, run
from tests.support.publish import descriptor_of, manifest_of

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

KILLS = int(os.environ.get("ORASFS_CACHE_KILLS", "10"))
READS = int(os.environ.get("ORASFS_CACHE_READS", "400"))
SEED = int(os.environ.get("ORASFS_SEED", "1"))
FILES = 40
FILE_BYTES = 256 * 1024
UNPACK = "io.deis.oras.content.unpack"


def contents(seed: int, count: int = FILES, size: int = FILE_BYTES) -> dict[str, bytes]:
    chance = random.Random(seed)  # noqa: S311 - data, not a secret
    return {
        f"f{number:02}": chance.randbytes(chance.randrange(1, size)) for number in range(count)
    }


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"dir/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def publish(registry: DockerRegistry, repository: str, tag: str, seed: int) -> dict[str, bytes]:
    """Push raw files and a packed directory; return all contents by path."""
    raw, inside = contents(seed), contents(seed + 1000, 10, FILE_BYTES // 20)
    archive = packed(inside)
    layers = [descriptor_of(content, title=name) for name, content in raw.items()]
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    layers.append(descriptor_of(archive, kind, **{"title": "dir", UNPACK: "true"}))
    for content in (b"{}", archive, *raw.values()):
        registry.put_blob(repository, content)
    registry.put_manifest(repository, tag, manifest_of(*layers))
    return raw | {f"dir/{name}": content for name, content in inside.items()}


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def wanted(registry: DockerRegistry) -> dict[str, bytes]:
    """Return what is in team/a:v1, which most tests read."""
    return publish(registry, "team/a", "v1", SEED)


@pytest.fixture
def front(registry: DockerRegistry) -> Iterator[Front]:
    with Front(registry.port) as front:
        yield front


def sums(top: Path) -> dict[str, str]:
    """Return the digests of all files, read by a process that can be given up."""
    script = (
        "import hashlib, os, sys\n"
        "for directory, _, names in os.walk(sys.argv[1]):\n"
        "    for name in names:\n"
        "        path = os.path.join(directory, name)\n"
        "        with open(path, 'rb') as file:\n"
        "            digest = hashlib.file_digest(file, 'sha256').hexdigest()\n"
        "        print(os.path.relpath(path, sys.argv[1]), digest)\n"
    )
    lines = run([sys.executable, "-I", "-S", "-c", script, top], timeout=120).stdout.splitlines()
    return dict(line.split() for line in lines)


def digests(wanted: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}


def refusal(*command: str | Path) -> str:
    done = run(command, check=False)
    assert done.returncode, done.stdout
    return done.stderr


def test_what_was_fetched_is_there_without_a_network(
    front: Front, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    with Mounted(front.host, tmp_path) as mounted:
        done = orasfs("fetch", mounted.path / "team")
        assert f"{len(wanted)} files" in done.stdout
        document = json.loads((mounted.path / ".orasfs/fetches.json").read_bytes())[0]
        assert (document["phase"], document["blobs"]) == ("done", document["there"])
        assert document["received"] == document["size"]
        front.forget_requests()
        orasfs("fetch", "-q", mounted.path / "team/a/v1/dir/f01")
        assert front.count("GET", "/blobs/") == 0
    front.forget_requests()
    with Mounted(front.host, tmp_path, "offline") as mounted:
        assert os.listdir(mounted.path / "team") == ["a"]  # noqa: PTH208 - as a user would
        assert os.listdir(mounted.path / "team/a") == ["v1"]  # noqa: PTH208
        assert sums(mounted.path / "team/a/v1") == digests(wanted)
        assert "Network is unreachable" in refusal("ls", mounted.path / "team/a:v2")
        draft = mounted.path / "team/a/.new"
        draft.mkdir()
        (draft / "file").write_text("mine")
        done = orasfs("commit", "-q", draft, check=False)
        assert (done.returncode, "offline" in done.stderr) == (5, True), done.stderr
        assert (draft / "file").read_text() == "mine"
    assert front.requests == []


def test_a_fetch_that_fails_says_why(
    registry: DockerRegistry, front: Front, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    lost = registry.put_blob("team/b", b"lost")
    registry.put_blob("team/b", b"{}")
    layers = [descriptor_of(b"lost", title="lost"), descriptor_of(b"{}", title="there")]
    registry.put_manifest("team/b", "v1", manifest_of(*layers))
    front.override(f"/v2/team/b/blobs/{lost}", method="GET", status=403)
    with Mounted(front.host, tmp_path) as mounted:
        done = orasfs("fetch", "-q", mounted.path / "team/b", check=False)
        assert done.returncode == 4, done.stderr
        assert "v1/lost: " in done.stderr
        assert orasfs("fetch", "-q", mounted.path / "team/b/v1/there").returncode == 0
        small = orasfs("fetch", "-q", tmp_path, check=False)
        assert "not in a mount" in small.stderr
    with Mounted(front.host, tmp_path / "small", "cache_size=1M") as mounted:
        done = orasfs("fetch", "-q", mounted.path / "team/a/v1", check=False)
        assert done.returncode == 7, done.stderr


def read_randomly(top: Path, wanted: dict[str, bytes], count: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    names = sorted(wanted)
    for _ in range(count):
        name = chance.choice(names)
        offset = chance.randrange(len(wanted[name]) + 10)
        size = chance.choice((1, 4096, 100_000, 2**20))
        fd = os.open(top / name, os.O_RDONLY)
        try:
            got = os.pread(fd, size, offset)
        finally:
            os.close(fd)
        assert got == wanted[name][offset : offset + size], (name, offset, size, seed)


def settled(cache: Path) -> tuple[int, int]:
    """Return what the ledger says after a recovery, and what is on the disk."""
    room = open_room(cache)
    try:
        room.recover()
        total = room.ledger.total()
    finally:
        room.ledger.close()
    on_disk = sum(
        path.lstat().st_blocks * 512
        for place in ("blobs", "ingest", "orasfs/layers", "orasfs/damaged")
        for path in (cache / place).rglob("*")
        if path.is_file()
    )
    return total, on_disk


def test_reads_under_pressure_are_right(
    front: Front, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    limit = sum(map(len, wanted.values())) // 10
    # Pages of an earlier open would answer: so the daemon is asked for each file.
    with Mounted(front.host, tmp_path, f"cache_size={limit}") as mounted:
        top = mounted.path / "team/a/v1"
        for part in range(5):
            read_randomly(top, wanted, READS // 5, SEED + part)
            run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=False)
        assert front.count("GET", "/blobs/") > len(wanted), "there was no pressure"
    total, on_disk = settled(mounted.cache)
    assert total == on_disk
    assert total <= limit


_READER = """
import hashlib, os, random, sys
top, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
paths = sorted(os.path.join(d, n) for d, _, names in os.walk(top) for n in names)
while True:
    path = chance.choice(paths)
    with open(path, "rb") as file:
        print(os.path.relpath(path, top), hashlib.sha256(file.read()).hexdigest(), flush=True)
"""


def test_killed_again_and_again_nothing_is_wrong_and_nothing_is_left(
    front: Front, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    limit = sum(map(len, wanted.values())) // 4
    right = digests(wanted)
    chance = random.Random(SEED)  # noqa: S311 - to be repeated
    mounted = Mounted(front.host, tmp_path, f"cache_size={limit}", may_trace=True)
    for number in range(KILLS):
        mounted.start()
        try:
            with subprocess.Popen(
                [sys.executable, "-c", _READER, mounted.path / "team/a/v1", str(number)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            ) as reader:  # fmt: skip
                with contextlib.suppress(subprocess.TimeoutExpired):
                    reader.wait(chance.uniform(0.1, 0.8))
                mounted.process.send_signal(signal.SIGKILL)
                mounted.process.wait(20)
                lines = reader.communicate(timeout=60)[0].splitlines()
        finally:
            mounted.stop()
        found = dict(line.split() for line in lines if len(line.split()) == 2)
        assert found == {name: right[name] for name in found}, f"seed {SEED} round {number}"
        total, on_disk = settled(mounted.cache)
        assert total == on_disk, f"seed {SEED} round {number}"
    with mounted:
        assert sums(mounted.path / "team/a/v1") == right
    total, on_disk = settled(mounted.cache)
    assert total == on_disk
    assert total <= limit
    assert [path.name for path in (mounted.cache / "ingest").glob("*.tmp")] == []
    assert orasfs("cache", "verify", "--cache", mounted.cache).returncode == 0


def test_what_is_open_is_read_on_after_it_was_removed(
    front: Front, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    with Mounted(front.host, tmp_path, "wait=5") as mounted:
        with (mounted.path / "team/a/v1/f03").open("rb") as file:
            file.read(1)
            for path in (mounted.cache / "blobs").rglob("*"):
                if path.is_file():
                    path.unlink()
            assert file.read() == wanted["f03"][1:]
        assert sums(mounted.path / "team/a/v1") == digests(wanted)
