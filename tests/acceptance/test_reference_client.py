"""What the reference client pushes is read here, and what is committed here it restores.

By the `oras` command where it is on PATH, and by the library that it is made of where that is
installed; what is not there is skipped, and said to be.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import LayoutOne, RemoteOne, Repository
from tests.support.mounted import Mounted, run
from tests.support.reference import CLIENTS, ReferenceClient
from tests.support.restored import restored
from tests.support.staged import GOLDEN_CREATED, golden_inputs

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

NAMES = ("artifact.txt", "docs", "empty.bin", "nested", "zeros.bin")
CONTENT = "io.deis.oras.content.digest"
REPOSITORY = "reference/client"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(scope="module", params=CLIENTS)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ReferenceClient:
    found = CLIENTS[request.param](tmp_path_factory.mktemp("client"))
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    golden_inputs(tmp_path / "inputs", *NAMES)
    return tmp_path / "inputs"


def call(command: list[str], directory: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"


def commit(repository: Repository, mount: Path, tag: str, inputs: Path) -> None:
    draft = repository.draft(mount, tag)
    draft.mkdir()
    run(["cp", "-a", f"{inputs}/.", draft])
    run(["sync", draft])


def layers(repository: Repository, tag: str) -> dict[str, dict[str, Any]]:
    found = json.loads(repository.manifest(tag))["layers"]
    return {layer["annotations"]["org.opencontainers.image.title"]: layer for layer in found}


def test_it_restores_what_was_committed_to_a_registry(
    client: ReferenceClient, server: DockerRegistry, inputs: Path, tmp_path: Path
) -> None:
    repository = RemoteOne(server, server.host, f"{REPOSITORY}/{client.name}")
    with Mounted(repository.source, tmp_path / "home") as mounted:
        commit(repository, mounted.path, "ours", inputs)
    call(client.pull(f"{server.host}/{REPOSITORY}/{client.name}:ours", tmp_path / "out"))
    assert restored(tmp_path / "out") == restored(inputs)


def test_it_restores_what_was_committed_to_a_layout(
    client: ReferenceClient, inputs: Path, tmp_path: Path
) -> None:
    repository = LayoutOne(tmp_path / "layout")
    with Mounted(repository.source, tmp_path / "home") as mounted:
        commit(repository, mounted.path, "ours", inputs)
    call(client.pull_layout(tmp_path / "layout", "ours", tmp_path / "out"))
    assert restored(tmp_path / "out") == restored(inputs)


def test_what_it_pushes_is_mounted_and_packed_alike(
    client: ReferenceClient, server: DockerRegistry, inputs: Path, tmp_path: Path
) -> None:
    repository = RemoteOne(server, server.host, f"{REPOSITORY}/{client.name}")
    call(client.push(f"{server.host}/{REPOSITORY}/{client.name}:theirs", *NAMES), inputs)
    environ = {"SOURCE_DATE_EPOCH": str(GOLDEN_CREATED)}
    with Mounted(repository.source, tmp_path / "home", environ=environ) as mounted:
        tree = repository.tag(mounted.path, "theirs")
        assert sorted(path.name for path in tree.iterdir()) == sorted(NAMES)
        assert restored(tree) == restored(inputs)
        commit(repository, mounted.path, "alike", inputs)
    theirs, ours = layers(repository, "theirs"), layers(repository, "alike")
    assert theirs.keys() == ours.keys()
    for title, layer in theirs.items():
        if CONTENT in layer["annotations"]:  # what is packed, not what it is compressed to
            assert layer["annotations"] == ours[title]["annotations"]
        else:
            assert layer["digest"] == ours[title]["digest"]


def test_it_restores_what_it_pushed_and_was_edited_here(
    client: ReferenceClient, server: DockerRegistry, inputs: Path, tmp_path: Path
) -> None:
    repository = RemoteOne(server, server.host, f"{REPOSITORY}/{client.name}")
    place = f"{server.host}/{REPOSITORY}/{client.name}:edited"
    call(client.push(place, *NAMES), inputs)
    with Mounted(repository.source, tmp_path / "home", "edit") as mounted:
        (repository.tag(mounted.path, "edited") / "docs/new.md").write_text("new\n")
        run(["sync", repository.tag(mounted.path, "edited")])
    (inputs / "docs/new.md").write_text("new\n")
    call(client.pull(place, tmp_path / "out"))
    found, wanted = restored(tmp_path / "out"), restored(inputs)
    assert found.keys() == wanted.keys()
    assert {name for name in found if found[name] != wanted[name]} <= {"docs", "docs/new.md"}
    assert (tmp_path / "out/docs/new.md").read_text() == "new\n"
