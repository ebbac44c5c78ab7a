"""SIGKILL in the middle of `cp -a` into a draft: what was written is there, and nothing else.

By both transports; what a kill leaves on the disk beside that is gone at the next mount.

ORASFS_COPY_KILLS says how many; scripts/soak does more.
"""

import os
import time
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import LayoutOne, RemoteOne
from tests.support.killedcopies import KilledCopies
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

KILLS = int(os.environ.get("ORASFS_COPY_KILLS", "3"))
SEED = int(os.environ.get("ORASFS_SEED", "1"))


@pytest.mark.registry
def test_kills_while_blobs_are_sent_early(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        one = RemoteOne(registry, registry.host, "team/c")
        KilledCopies(tmp_path, one, ("eager",), SEED).run(KILLS - KILLS // 2)


def test_kills_while_nothing_is_sent(tmp_path: Path) -> None:
    layout, options = LayoutOne(tmp_path / "layout"), ("transport=pyfuse3",)
    KilledCopies(tmp_path, layout, options, SEED + 1).run(KILLS // 2)


def test_what_was_being_packed_or_dropped_is_freed_by_the_next_mount(tmp_path: Path) -> None:
    state = tmp_path / "state/orasfs/drafts"
    one = LayoutOne(tmp_path / "layout")
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    mounted = Mounted(one.source, tmp_path, environ=environ, may_trace=True)
    with mounted:
        one.draft(mounted.path, "v1").mkdir()
        mounted.kill9()
    (draft,) = (path for path in state.iterdir() if path.name != "trash")
    for left in (draft / "spool/0123.layer", state / "trash/0123/tree/file"):
        left.parent.mkdir(parents=True)
        left.write_bytes(b"left")
    with mounted:
        assert one.draft(mounted.path, "v1").is_dir()
        assert list((draft / "spool").iterdir()) == []
        deadline = time.monotonic() + 20
        while any((state / "trash").iterdir()):
            assert time.monotonic() < deadline
            run(["true"])
