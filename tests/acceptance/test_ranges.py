"""Reading parts of a large blob through a real mount: only what is read comes over the network."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_files

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

BLOBS = r"/blobs/"
MIB = 1024 * 1024
SIZE = 240 * MIB


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture(scope="module")
def registry(content: bytes) -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        publish_files(registry, "team/model", "v1", **{"model.bin": content})
        yield registry


@pytest.fixture
def front(registry: DockerRegistry) -> Iterator[Front]:
    with Front(registry.port) as front:
        yield front


def settled(front: Front) -> int:
    """Return the bytes sent, once there are no more of them for a while."""
    before = -1
    while before != front.bytes_sent:
        before = front.bytes_sent
        time.sleep(0.5)  # noqa: TID251 - nothing tells what another process does not do
    return before


def read_at(path: Path, offset: int, size: int) -> bytes:
    """Read with no buffer and no read-ahead, as a program that seeks."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def test_head_of_a_large_blob_costs_little(front: Front, content: bytes, tmp_path: Path) -> None:
    with Mounted(f"{front.host}/team/model:v1", tmp_path) as mounted:
        path = mounted.path / "model.bin"
        run(["stat", path])
        front.forget_requests()
        done = subprocess.run(["head", "-c", "4096", path], capture_output=True, check=True)
        assert done.stdout == content[:4096]
        assert settled(front) <= 3 * MIB
        assert front.count("GET", BLOBS) <= 2


def test_random_reads_cost_about_what_they_read(
    front: Front, content: bytes, tmp_path: Path
) -> None:
    chosen = random.Random(3)  # noqa: S311 - places, not secrets
    places = chosen.sample(range(0, SIZE - 4096, 4096), 50)
    with Mounted(f"{front.host}/team/model:v1", tmp_path) as mounted:
        path = mounted.path / "model.bin"
        for place in places:
            assert read_at(path, place, 4096) == content[place : place + 4096]
        assert settled(front) <= 20 * MIB
        front.forget_requests()
        for place in places:
            assert read_at(path, place, 4096) == content[place : place + 4096]
        assert front.count("GET", BLOBS) == 0


def test_a_program_that_is_killed_in_the_middle_stops_the_download(
    front: Front, content: bytes, tmp_path: Path
) -> None:
    with Mounted(f"{front.host}/team/model:v1", tmp_path) as mounted:
        path = mounted.path / "model.bin"
        with path.open("rb") as file:
            assert file.read(20 * MIB) == content[: 20 * MIB]
        assert settled(front) <= 100 * MIB
        assert path.read_bytes() == content
        # Twice: the bytes that were on their way in the connection that was closed.
        assert front.bytes_sent <= SIZE + 20 * MIB


def test_a_file_with_holes_survives_a_killed_daemon(content: bytes, tmp_path: Path) -> None:
    places = (0, 100 * MIB + 5, 220 * MIB)
    with FakeRegistry() as registry:
        publish_files(registry, "team/model", "v1", **{"model.bin": content})
        mounted = Mounted(f"{registry.host}/team/model:v1", tmp_path)
        with mounted:
            for place in places:
                assert read_at(mounted.path / "model.bin", place, 1000)
            mounted.kill9()
        before = len(registry.requests)
        with mounted:
            path = mounted.path / "model.bin"
            for place in places:
                assert read_at(path, place, 1000) == content[place : place + 1000]
            again = [path for method, path in registry.requests[before:] if method == "GET"]
            assert not [path for path in again if BLOBS in path]
            assert path.read_bytes() == content
