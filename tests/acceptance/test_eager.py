"""Uploads before the commit, on a real mount and a real registry."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.registry]

MIB = 1024 * 1024
DEADLINE_SECONDS = 30.0
REPOSITORY = "team/model"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture
def mounted(server: DockerRegistry, tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(server.host, tmp_path, "eager") as mounted:
        yield mounted


def has(server: DockerRegistry, digest: str) -> bool:
    status, _, _ = server.request("HEAD", f"/v2/{REPOSITORY}/blobs/sha256:{digest}")
    return status == 200


def arrives(server: DockerRegistry, digest: str) -> bool:
    end = time.monotonic() + DEADLINE_SECONDS
    while not has(server, digest):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)  # noqa: TID251 - another process, which tells nobody
    return True


def sent_blobs(mounted: Mounted) -> int:
    (report,) = json.loads((mounted.path / ".orasfs/commits.json").read_bytes())
    return int(report["blobs"]) - int(report["skipped"])


def test_blobs_are_there_before_the_commit_and_go_once(
    mounted: Mounted, server: DockerRegistry
) -> None:
    draft = mounted.path / f"{REPOSITORY}:v1"
    draft.parent.mkdir(exist_ok=True)
    draft.mkdir()
    content = os.urandom(MIB) * 40
    with (draft / "model.bin").open("wb") as file:
        for offset in range(0, len(content), MIB):
            file.write(content[offset : offset + MIB])
    (draft / "card.md").write_text("a small one\n")
    assert arrives(server, hashlib.sha256(content).hexdigest())
    assert arrives(server, hashlib.sha256(b"a small one\n").hexdigest())
    run(["sync", draft])
    assert sent_blobs(mounted) == 1  # the config
    assert (mounted.path / REPOSITORY / "v1/model.bin").read_bytes() == content


def test_what_is_rewritten_in_the_middle_is_committed_as_it_is(
    mounted: Mounted, server: DockerRegistry
) -> None:
    draft = mounted.path / f"{REPOSITORY}:v2"
    draft.parent.mkdir(exist_ok=True)
    draft.mkdir()
    content = bytearray(os.urandom(MIB) * 40)
    with (draft / "model.bin").open("wb") as file:
        file.write(content)
        file.seek(MIB)
        file.write(b"rewritten")
    content[MIB : MIB + 9] = b"rewritten"
    run(["sync", draft])
    assert has(server, hashlib.sha256(content).hexdigest())
    assert (mounted.path / REPOSITORY / "v2/model.bin").read_bytes() == content
