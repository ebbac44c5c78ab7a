"""Reading through a real mount: once only, verified, shared, resumed, the registry away."""

import contextlib
import hashlib
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.golden import GOLDEN, golden_tags
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_files

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

BLOBS = r"/blobs/"
MIB = 1024 * 1024
SUM_ALL = 'find "$1" -type f -print0 | sort -z | xargs -0 sha256sum'


def large_content(size: int) -> bytes:
    """Return bytes that do not compress, the same each time."""
    return random.Random(20240301).randbytes(size)  # noqa: S311 - data, not a secret


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        for tag in golden_tags():
            registry.push_layout(GOLDEN / "layout", tag, "team/golden")
        yield registry


@pytest.fixture
def front(registry: DockerRegistry) -> Iterator[Front]:
    with Front(registry.port) as front:
        yield front


def sum_all(path: Path) -> str:
    return run(["sh", "-c", SUM_ALL, "-", path], timeout=120).stdout


def test_a_second_walk_makes_no_blob_request(front: Front, tmp_path: Path) -> None:
    with Mounted(f"{front.host}/team/golden", tmp_path) as mounted:
        first = sum_all(mounted.path)
        assert len(first.splitlines()) > 30
        assert front.count("GET", BLOBS) > 0
        front.forget_requests()
        assert sum_all(mounted.path) == first
        assert front.count(path=BLOBS) == 0
    with Mounted(f"{front.host}/team/golden", tmp_path) as mounted:
        front.forget_requests()
        assert sum_all(mounted.path) == first
        assert front.count(path=BLOBS) == 0


def test_what_was_read_stays_readable_when_the_registry_is_away(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        publish_files(registry, "team/app", "v1", **{"read.txt": b"read"})
        publish_files(registry, "team/app", "v2", **{"never.txt": b"never read"})
        with Mounted(f"{registry.host}/team/app", tmp_path, "tag_ttl=1") as mounted:
            first = sum_all(mounted.path / "v1")
            run(["stat", mounted.path / "v2"])
            registry.stop()
            time.sleep(1.5)  # noqa: TID251 - lets the tag's real time to live run out
            assert sum_all(mounted.path / "v1") == first
            failed = run(["ls", mounted.path / "v2"], timeout=60, check=False)
            assert failed.returncode != 0
            assert "Connection refused" in failed.stderr
            registry.start()
            assert run(["cat", mounted.path / "v2/never.txt"], timeout=60).stdout == "never read"


def test_a_new_mount_reads_what_the_cache_has_with_the_registry_away(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        # The large one waits for the disk.
        files = {"read.txt": b"read", "large.bin": large_content(6 * MIB)}
        publish_files(registry, "team/app", "v1", **files)
        with Mounted(f"{registry.host}/team/app", tmp_path) as mounted:
            run(["ls", mounted.path])
            first = sum_all(mounted.path / "v1")
            cache = mounted.cache
        assert list((cache / "ingest").iterdir()) == []
        registry.stop()
        with Mounted(f"{registry.host}/team/app", tmp_path) as mounted:
            assert sum_all(mounted.path / "v1") == first


def test_a_new_mount_lists_what_the_cache_has_with_the_registry_away(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        publish_files(registry, "team/app", "v1", **{"read.txt": b"read"})
        publish_files(registry, "team/deep/er", "v2", **{"more.txt": b"more"})
        with Mounted(registry.host, tmp_path) as mounted:
            first = sum_all(mounted.path)
            assert len(first.splitlines()) == 2
        registry.stop()
        with Mounted(registry.host, tmp_path) as mounted:
            assert sum_all(mounted.path) == first


def test_what_was_never_asked_names_the_cause(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        publish_files(registry, "team/app", "v1", **{"f.txt": b"f"})
        with Mounted(registry.host, tmp_path) as mounted:
            registry.stop()
            failed = run(["cat", mounted.path / "team/app/v1/f.txt"], timeout=60, check=False)
            assert "Connection refused" in failed.stderr
            assert "No such file" not in failed.stderr


def test_twenty_readers_of_a_cold_blob_cost_one_download(tmp_path: Path) -> None:
    content = large_content(200 * MIB)
    with DockerRegistry() as registry, Front(registry.port) as front:
        publish_files(registry, "team/model", "v1", **{"model.bin": content})
        with Mounted(f"{front.host}/team/model:v1", tmp_path) as mounted:
            command = ["sha256sum", str(mounted.path / "model.bin")]
            readers = [
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(20)
            ]
            sums = {reader.communicate(timeout=180)[0].split()[0] for reader in readers}
            assert sums == {hashlib.sha256(content).hexdigest()}
            assert front.count("GET", BLOBS) == 1
            assert front.bytes_sent < len(content) + MIB


def partial_size(cache: Path) -> int:
    """Return how many bytes of downloads under way are on the disk."""
    return sum(path.stat().st_size for path in (cache / "ingest").glob("*"))


def test_a_killed_daemon_resumes_where_it_was(tmp_path: Path) -> None:
    content = large_content(200 * MIB)
    with FakeRegistry() as registry:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        publish_files(registry, "team/model", "v1", **{"model.bin": content})
        registry.fail(BLOBS, stall_after=120 * MIB)
        mounted = Mounted(f"{registry.host}/team/model:v1", tmp_path)
        with mounted:
            reader = subprocess.Popen(
                ["sha256sum", str(mounted.path / "model.bin")],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            deadline = time.monotonic() + 60
            while partial_size(mounted.cache) < 100 * MIB:
                assert time.monotonic() < deadline, "the download does not advance"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    reader.wait(0.1)
            mounted.kill9()
            reader.communicate(timeout=60)
            blobs = list((mounted.cache / "blobs" / "sha256").glob("*"))
            assert digest.removeprefix("sha256:") not in {path.name for path in blobs}
            for path in blobs:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        before = len(registry.requests)
        with mounted:
            output = run(["sha256sum", mounted.path / "model.bin"], timeout=120).stdout
        assert output.split()[0] == hashlib.sha256(content).hexdigest()
        resumed = [
            headers.get("range", "")
            for (method, path), headers in zip(
                registry.requests[before:], registry.request_headers[before:], strict=True
            )
            if method == "GET" and re.search(BLOBS + digest, path)
        ]
        assert len(resumed) == 1
        start = int(re.fullmatch(r"bytes=(\d+)-\d*", resumed[0])[1])  # type: ignore[index]
        assert start >= 99 * MIB


def test_a_moved_tag_is_seen_and_an_open_file_reads_on(tmp_path: Path) -> None:
    old, new = b"old\n" * MIB, b"new\n" * 10
    with DockerRegistry() as registry:
        publish_files(registry, "team/app", "v1", **{"f.txt": old})
        with Mounted(f"{registry.host}/team/app", tmp_path, "tag_ttl=2") as mounted:
            path = mounted.path / "v1/f.txt"
            script = (
                "import sys\n"
                "with open(sys.argv[1], 'rb', buffering=0) as file:\n"
                "    print(file.read(4), flush=True)\n"
                "    sys.stdin.readline()\n"
                "    rest = b''\n"
                "    while piece := file.read(1 << 20):\n"
                "        rest += piece\n"
                "    print(len(rest), set(rest.splitlines()))\n"
            )
            holder = subprocess.Popen(
                ["python3", "-c", script, str(path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert holder.stdout is not None
            assert holder.stdout.readline() == "b'old\\n'\n"
            publish_files(registry, "team/app", "v1", **{"f.txt": new})
            # How soon, tests/vfs/test_tags.py tells by a clock of its own.
            deadline = time.monotonic() + 60
            while run(["cat", path]).stdout.encode() != new:
                assert time.monotonic() < deadline, "the moved tag is not seen"
            assert holder.communicate("go\n", timeout=60)[0] == f"{len(old) - 4} {{b'old'}}\n"


def test_wrong_bytes_never_reach_a_reader(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        publish_files(registry, "team/app", "v1", **{"f.txt": b"right"})
        registry.fail(BLOBS + "sha256:" + hashlib.sha256(b"right").hexdigest(),
                      replace=b"wrong", times=-1)  # fmt: skip
        with Mounted(f"{registry.host}/team/app:v1", tmp_path) as mounted:
            failed = run(["cat", mounted.path / "f.txt"], timeout=60, check=False)
            assert failed.stdout == ""
            assert "Input/output error" in failed.stderr
            assert "digest" in run(["cat", mounted.path / ".oras/error"]).stdout
