"""Writing into committed artifacts on a real mount with `-o edit`, as programs do it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.registry]

REPOSITORY = "team/site"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture
def repository(server: DockerRegistry, tmp_path: Path) -> Iterator[Path]:
    with Mounted(server.host, tmp_path, "edit") as mounted:
        repository = mounted.path / REPOSITORY
        draft = repository.with_name(f"{repository.name}:v1")
        if not draft.exists():
            draft.mkdir()
            (draft / "index.html").write_text("hello\n")
            (draft / "css").mkdir()
            (draft / "css/a.css").write_text("a{}\n")
            (draft / "css/b.css").write_text("b{}\n")
            run(["sync", draft])
        yield repository


def state(path: Path) -> str:
    return run(["getfattr", "--only-values", "-n", "user.oras.state", path]).stdout


def test_editors_and_scripts_write_and_the_commit_sends_it(repository: Path) -> None:
    tag = repository / "v1"
    assert state(tag) == "committed"
    assert (tag / "css/b.css").read_text() == "b{}\n"
    run(["sh", "-c", 'echo more >> "$1/index.html" && sed -i s/a/c/ "$1/css/a.css"', "sh", tag])
    assert state(tag) == "modified"
    run(["rm", tag / "css/b.css"])
    run(["mkdir", tag / "js"])
    run(["cp", "/etc/hostname", tag / "js/host"])
    run(["sync", tag])
    assert state(tag) == "committed"
    assert (tag / "index.html").read_text() == "hello\nmore\n"
    assert (tag / "css/a.css").read_text() == "c{}\n"
    assert sorted(path.name for path in (tag / "css").iterdir()) == ["a.css"]
    assert (tag / "js/host").read_bytes() == Path("/etc/hostname").read_bytes()


def test_a_shell_inside_goes_on_in_the_draft(repository: Path) -> None:
    script = (
        "cat a.css >/dev/null && echo x > new.css && cat new.css && ls && cd .. && cat css/new.css"
    )
    found = subprocess.run(
        ["sh", "-c", script],
        cwd=repository / "v1/css",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert found.stdout.split() == ["x", *sorted(["a.css", "new.css", *_others(repository)]), "x"]


def _others(repository: Path) -> list[str]:
    names = {path.name for path in (repository / "v1/css").iterdir()}
    return sorted(names - {"a.css", "new.css"})


def test_removing_all_gives_the_committed_artifact_back(repository: Path) -> None:
    tag = repository / "v1"
    before = sorted(path.name for path in tag.iterdir())
    run(["rm", "-r", tag])
    assert state(tag) == "committed"
    assert sorted(path.name for path in tag.iterdir()) == before
