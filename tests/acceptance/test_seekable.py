"""One image as plain gzip, eStargz and zstd:chunked, through a real mount of a real registry."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_golden import listing
from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.loopback import Exchange
from tests.support.mounted import Mounted, run
from tests.support.seekable import FIRST_FILE, LARGE_FILE, LAYOUT, expected, layer_of

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

BLOBS = "/blobs/"
REPOSITORY = "golden/images"
TAGS = ["image-gzip", "image-estargz", "image-zstd-chunked"]


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        for tag in TAGS:
            registry.copy_from_layout(LAYOUT, tag, REPOSITORY)
        yield registry


@pytest.fixture
def front(registry: DockerRegistry) -> Iterator[Front]:
    with Front(registry.port) as front:
        yield front


def wanted() -> list[dict[str, Any]]:
    """Return what `listing` tells of a copy: times of directories and links are not in it."""
    found = []
    for line in expected():
        line.pop("hardlink_to", None)
        if line["type"] != "file":
            line.pop("mtime")
        found.append(line)
    return found


@pytest.mark.parametrize("tag", TAGS)
def test_copy_of_each_form_is_what_is_expected(front: Front, tag: str, tmp_path: Path) -> None:
    with Mounted(f"{front.host}/{REPOSITORY}:{tag}", tmp_path) as mounted:
        run(["cp", "-a", mounted.path, tmp_path / "out"], timeout=60)
        assert listing(tmp_path / "out") == wanted()
        links = {name: (mounted.path / "bin" / name).stat().st_ino for name in ("run", "run.hard")}
        assert links["run"] == links["run.hard"]


@pytest.mark.parametrize("tag", TAGS[1:])
def test_first_file_takes_four_requests_and_little_of_the_layer(
    front: Front, tag: str, tmp_path: Path
) -> None:
    with Mounted(f"{front.host}/{REPOSITORY}:{tag}", tmp_path) as mounted:
        front.forget_requests()
        run(["cat", mounted.path / FIRST_FILE], timeout=60)
        assert len(front.requests) <= 4, front.requests
        assert front.count("GET", BLOBS) == 2
        assert front.bytes_sent < layer_of(tag)[0].size // 20


class WrongBit(Front):
    """Serves one blob with one bit that is another."""

    wrong = b""
    path = "-"

    def respond(self, exchange: Exchange) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", exchange.headers.get("Range", ""))
        if self.path not in exchange.path or exchange.command != "GET" or asked is None:
            super().respond(exchange)
            return
        first, last = map(int, asked.groups())
        headers = {"Content-Range": f"bytes {first}-{last}/{len(self.wrong)}"}
        exchange.answer(206, headers, self.wrong[first : last + 1])


@pytest.mark.parametrize("tag", TAGS[1:])
def test_wrong_chunk_is_an_error_of_its_file_only(
    registry: DockerRegistry, tag: str, tmp_path: Path
) -> None:
    _, blob = layer_of(tag)
    with WrongBit(registry.port) as front:
        front.wrong, front.path = blob[:1000] + bytes([blob[1000] ^ 1]) + blob[1001:], BLOBS
        with Mounted(f"{front.host}/{REPOSITORY}:{tag}", tmp_path) as mounted:
            command: list[str | Path] = ["cat", mounted.path / LARGE_FILE]
            done = subprocess.run(command, capture_output=True, check=False, timeout=60)
            assert done.returncode == 1
            assert "Input/output error" in done.stderr.decode()
            run(["cat", mounted.path / FIRST_FILE], timeout=60)
            front.wrong = blob
            run(command, timeout=60)
