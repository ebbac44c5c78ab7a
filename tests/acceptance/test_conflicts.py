"""Two mounts that commit on the same base: one wins, the other is told, and loses nothing.

ORASFS_RACES says how often two mounts of one layout race.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import (
    LayoutOne,
    RemoteOne,
    Repository,
    commit,
    orasfs,
    refused,
)
from tests.support.mounted import PROJECT, Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

MOVED = 3
RACES = int(os.environ.get("ORASFS_RACES", "5"))


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(params=["registry", "oci"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    if request.param == "oci":
        return LayoutOne(tmp_path / "layout")
    server: DockerRegistry = request.getfixturevalue("server")
    return RemoteOne(server, server.host, f"test/r{tmp_path.stat().st_ino}")


@pytest.fixture
def mounts(repository: Repository, tmp_path: Path) -> Iterator[list[Path]]:
    """Two mounts of one repository that has v1, each with a user's own directories."""
    with ExitStack() as stack:
        homes = [tmp_path / name for name in ("alice", "bob")]
        opened = [stack.enter_context(_mount(repository, home)) for home in homes]
        first = repository.draft(opened[0].path, "v1")
        first.mkdir()
        (first / "file").write_text("first")
        (first / "other").write_text("other")
        commit(first)
        yield [mounted.path for mounted in opened]


def _mount(repository: Repository, home: Path) -> Mounted:
    return Mounted(repository.source, home, "tag_ttl=0", "delete")


def test_the_second_edit_of_one_base_is_told_and_survives(
    repository: Repository, mounts: list[Path]
) -> None:
    tags = [repository.tag(mount, "v1") for mount in mounts]
    for name, tag in zip(("alice", "bob"), tags, strict=True):
        orasfs("edit", tag)
        (tag / "file").write_text(name)
    alice = commit(tags[0])
    status, said = refused(tags[1])
    assert status == MOVED
    assert "Traceback" not in said
    assert repository.tags() == {"v1": alice}
    assert run(["sync", tags[1]], check=False).stderr.strip().endswith("Operation canceled")
    assert (tags[1] / "file").read_text() == "bob"
    run(["setfattr", "-n", "user.oras.force", "-v", "1", tags[1]])
    bob = commit(tags[1])
    assert repository.tags() == {"v1": bob}
    assert (tags[0] / "file").read_text() == "bob"
    assert (tags[0] / "other").read_text() == "other"


def test_a_tag_that_somebody_made_meanwhile_is_not_overwritten(
    repository: Repository, mounts: list[Path]
) -> None:
    drafts = [repository.draft(mount, "v2") for mount in mounts]
    for number, draft in enumerate(drafts):
        draft.mkdir()
        (draft / "file").write_text(str(number))
    first = commit(drafts[1])
    assert refused(drafts[0])[0] == MOVED
    assert (drafts[0] / "file").read_text() == "0"
    assert repository.tags()["v2"] == first
    orasfs("discard", drafts[0])
    assert (repository.tag(mounts[0], "v2") / "file").read_text() == "1"


def test_a_tag_that_was_removed_meanwhile_is_not_made_again(
    repository: Repository, mounts: list[Path]
) -> None:
    tags = [repository.tag(mount, "v1") for mount in mounts]
    orasfs("edit", tags[0])
    (tags[0] / "file").write_text("late")
    orasfs("tag", tags[1], "kept")
    orasfs("rm", tags[1])
    assert refused(tags[0])[0] == MOVED
    assert (tags[0] / "file").read_text() == "late"
    assert set(repository.tags()) == {"kept"}


def test_removing_one_of_two_tags_leaves_the_other(
    repository: Repository, mounts: list[Path]
) -> None:
    v1 = repository.tag(mounts[0], "v1")
    run(["ln", "-s", "v1", v1.parent / "latest"])
    digest = repository.tags()["v1"]
    assert repository.tags() == {"v1": digest, "latest": digest}
    orasfs("rm", v1.parent / "latest")
    assert repository.tags() == {"v1": digest}
    assert (v1 / "file").read_text() == "first"
    with pytest.raises(FileNotFoundError):
        (v1.parent / "latest").stat()
    assert (repository.tag(mounts[1], "v1") / "other").read_text() == "other"
    run(["mv", "-T", v1, v1.parent / "v9"])
    assert repository.tags() == {"v9": digest}
    assert (v1.parent / "v9/file").read_text() == "first"


def test_mounts_of_one_layout_race(tmp_path: Path) -> None:
    layout = LayoutOne(tmp_path / "layout")
    homes = [tmp_path / name for name in ("alice", "bob")]
    with _mount(layout, homes[0]) as one, _mount(layout, homes[1]) as two:
        first = layout.draft(one.path, "v1")
        first.mkdir()
        (first / "file").write_text("first")
        commit(first)
        for number in range(RACES):
            _race(layout, [mounted.path / "v1" for mounted in (one, two)], number)


def _race(layout: LayoutOne, tags: list[Path], number: int) -> None:
    for tag in tags:
        orasfs("edit", tag)
        (tag / "file").write_text(f"{number} by {tag}")
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "orasfs", "commit", "-q", tag],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        for tag in tags
    ]  # fmt: skip
    said = [racer.communicate(timeout=60) for racer in racers]
    statuses = [racer.returncode for racer in racers]
    assert sorted(statuses) == [0, MOVED], said
    winner, loser = statuses.index(0), statuses.index(MOVED)
    assert layout.tags() == {"v1": said[winner][0].strip().rpartition("@")[2]}
    assert (tags[loser] / "file").read_text() == f"{number} by {tags[loser]}"
    orasfs("discard", tags[loser])
    for tag in tags:
        assert (tag / "file").read_text() == f"{number} by {tags[winner]}"
