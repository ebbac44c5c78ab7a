"""SIGKILL while writing and committing: every fsynced byte is there, and tags are old or new.

With a layout that is by pyfuse3, with a registry by whatever is the default.
ORASFS_CRASHES says how many; scripts/soak does more.
"""

import os
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import LayoutOne, RemoteOne
from tests.support.killing import Crashes

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

CRASHES = int(os.environ.get("ORASFS_CRASHES", "20"))
SEED = int(os.environ.get("ORASFS_SEED", "1"))


@pytest.mark.registry
def test_kills_with_a_registry(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        crashes = Crashes(tmp_path / "home", RemoteOne(registry, registry.host, "team/c"), SEED)
        crashes.run(CRASHES - CRASHES // 2)


def test_kills_with_a_layout(tmp_path: Path) -> None:
    layout, options = LayoutOne(tmp_path / "layout"), ("transport=pyfuse3",)
    crashes = Crashes(tmp_path / "home", layout, SEED + 1, options)
    crashes.run(CRASHES // 2)
