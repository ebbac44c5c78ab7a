"""Random operations on what is mounted writable, against memory and against a real directory.

ORASFS_FILE_OPERATIONS, ORASFS_TREE_EXAMPLES and ORASFS_SEED say how many and which, by
each transport.
"""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.filechecker import check_file
from tests.support.gestures import LayoutOne, commit
from tests.support.mounted import Mounted, run
from tests.support.treechecker import TreeMachine

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

OPERATIONS = int(os.environ.get("ORASFS_FILE_OPERATIONS", "2500"))
EXAMPLES = int(os.environ.get("ORASFS_TREE_EXAMPLES", "30"))
SEED = int(os.environ.get("ORASFS_SEED", "2"))
STEPS = 40


@pytest.fixture(scope="module", params=["pyfuse3", "device"])
def mount(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A mounted layout with v1, in which there is something of all kinds."""
    home = tmp_path_factory.mktemp("home")
    source = LayoutOne(home / "layout").source
    with Mounted(source, home, f"transport={request.param}") as mounted:
        draft = mounted.path / "v1"
        (draft / "a/b/c").mkdir(parents=True)
        (draft / "b").write_bytes(os.urandom(3000))
        (draft / "a/a").write_bytes(os.urandom(9000))
        (draft / "a/b/a").write_text("a")
        (draft / "a/b/d").symlink_to("a")
        (draft / "d").mkdir()
        commit(draft)
        yield mounted.path


def test_a_file_agrees_with_memory(mount: Path) -> None:
    draft = mount / "file"
    draft.mkdir()
    check_file(draft / "checked", operations=OPERATIONS, seed=SEED)
    run(["rm", "-r", draft])


def _machine_settings() -> settings:
    return settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)


def test_a_draft_agrees_with_a_directory(mount: Path, tmp_path: Path) -> None:
    numbers = count()

    def machine() -> TreeMachine:
        number = next(numbers)
        one, two = mount / f".n{number}", tmp_path / str(number)
        one.mkdir()
        two.mkdir()
        return TreeMachine(one, two, lambda: os.setxattr(one, "user.oras.discard", b"1"))

    run_state_machine_as_test(machine, settings=_machine_settings())  # type: ignore[arg-type]  # any factory


def test_an_edited_artifact_agrees_with_a_copy(mount: Path, tmp_path: Path) -> None:
    numbers = count()

    def machine() -> TreeMachine:
        one, two = mount / "v1", tmp_path / str(next(numbers))
        shutil.copytree(one, two, symlinks=True)
        os.setxattr(one, "user.oras.edit", b"1")
        return TreeMachine(one, two, lambda: os.setxattr(one, "user.oras.discard", b"1"))

    run_state_machine_as_test(machine, settings=_machine_settings())  # type: ignore[arg-type]  # any factory
