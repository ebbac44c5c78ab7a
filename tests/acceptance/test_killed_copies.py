"""SIGKILL in the middle of `cp -a` into a draft: what was written is there, and nothing else.

ORASFS_COPY_KILLS says how many; scripts/soak does more.
"""

import os
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import LayoutOne, RemoteOne
from tests.support.killedcopies import KilledCopies

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

KILLS = int(os.environ.get("ORASFS_COPY_KILLS", "3"))
SEED = int(os.environ.get("ORASFS_SEED", "1"))


@pytest.mark.registry
def test_kills_while_blobs_are_sent_early(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        one = RemoteOne(registry, registry.host, "team/c")
        KilledCopies(tmp_path, one, ("eager",), SEED).run(KILLS - KILLS // 2)


def test_kills_while_nothing_is_sent(tmp_path: Path) -> None:
    KilledCopies(tmp_path, LayoutOne(tmp_path / "layout"), (), SEED + 1).run(KILLS // 2)
