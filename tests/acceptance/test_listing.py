"""Listings of what changes behind the mount's back: the kernel keeps no names that may change."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.store.layoutwriter import create_layout
from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import orasfs
from tests.support.golden import GOLDEN, golden_tags
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_files

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

MANY = 300

# Reads a few names, and the rest when it is told to.
HALF = """
import os, sys
with os.scandir(sys.argv[1]) as entries:
    names = [next(entries).name for _ in range(5)]
    print("begun", flush=True)
    sys.stdin.readline()
    names += [entry.name for entry in entries]
print(*names)
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        publish_files(registry, "a", "v1", file=b"a", other=b"b")
        publish_files(registry, "many", "t0000", file=b"many")
        registry.tag("many", "t0000", *(f"t{number:04}" for number in range(1, MANY)))
        yield registry


@pytest.fixture(scope="module", params=["device", "pyfuse3"])
def mount(
    request: pytest.FixtureRequest,
    registry: DockerRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    options = ("tag_ttl=0", f"transport={request.param}")
    with Mounted(registry.host, home, *options) as mounted:
        yield mounted.path


def names(path: Path) -> list[str]:
    return run(["ls", path], timeout=60).stdout.split()


def test_a_tag_is_listed_as_soon_as_it_is_there(registry: DockerRegistry, mount: Path) -> None:
    expected = set(names(mount / "a"))
    for number in range(20):
        tag = f"{mount.parent.name}-{number}"
        registry.tag("a", "v1", tag)
        expected.add(tag)
        assert set(names(mount / "a")) == expected
        assert set(names(mount / "a")) == expected


@pytest.mark.parametrize("transport", ["device", "pyfuse3"])
def test_a_layout_that_was_empty_is_listed_when_it_is_not(tmp_path: Path, transport: str) -> None:
    create_layout(tmp_path / "layout")
    options = ("tag_ttl=0", f"transport={transport}")
    with Mounted(f"oci:{tmp_path}/layout", tmp_path, *options) as mounted:
        assert names(mounted.path) == []
        assert names(mounted.path) == []
        shutil.copytree(GOLDEN / "layout", tmp_path / "layout", dirs_exist_ok=True)
        assert set(golden_tags()) <= set(names(mounted.path))


def test_who_is_in_the_middle_of_a_listing_keeps_it(registry: DockerRegistry, mount: Path) -> None:
    before = names(mount / "many")
    reader = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HALF, mount / "many"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "begun\n"
        tag = f"a-{mount.parent.name}"
        registry.tag("many", "t0000", tag)
        assert names(mount / "many") == sorted([*before, tag])
        found, _ = reader.communicate("go on\n", timeout=60)
    finally:
        reader.kill()
        reader.wait()
    assert sorted(found.split()) == before


def test_a_draft_is_listed_as_it_is_after_each_change(mount: Path) -> None:
    draft = mount / f"a/draft-{mount.parent.name}"
    run(["mkdir", draft, draft / "empty"])
    expected = {"empty"}
    for number in range(10):
        name = f"file{number}"
        run(["touch", draft / name])
        expected.add(name)
        assert set(names(draft)) == expected
        assert names(draft / "empty") == []
    run(["mv", draft / "file3", draft / "empty/moved"])
    assert names(draft / "empty") == ["moved"]
    run(["rm", "-r", draft / "empty"])
    assert set(names(draft)) == expected - {"file3", "empty"}
    run(["setfattr", "-n", "user.oras.discard", "-v", "1", draft])
    assert draft.name not in names(mount / "a")


def test_an_artifact_that_is_edited_and_given_back_is_listed_as_it_is(mount: Path) -> None:
    tag = mount / "a/v1"
    assert names(tag) == ["file", "other"]
    orasfs("edit", tag)
    assert names(tag) == ["file", "other"]
    run(["rm", tag / "other"])
    run(["touch", tag / "new"])
    assert names(tag) == ["file", "new"]
    run(["setfattr", "-n", "user.oras.discard", "-v", "1", tag])
    assert names(tag) == ["file", "other"]


def test_a_directory_lists_itself_and_the_one_above_by_the_device(mount: Path) -> None:
    status = json.loads((mount / ".orasfs/status.json").read_text())
    dots = [".", ".."] if status["transport"] == "device" else []
    for path in (mount, mount / "a", mount / "a/v1"):
        shown = run(["ls", "-fa", path], timeout=60).stdout.split()
        assert shown[: len(dots)] == dots
        assert sorted(set(shown) - set(dots)) == sorted(names(path))
