"""The daemon's process: what ends it, what it says, and what it leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from orasfs.daemon.run import _reason
from orasfs.errors import NotFound, TimedOut
from tests.fakes.registry import FakeRegistry
from tests.support import fewfiles
from tests.support.golden import GOLDEN
from tests.support.mounted import Mounted, is_mounted, run
from tests.support.publish import publish_files

LAYOUT = f"oci:{GOLDEN / 'layout'}"


@pytest.mark.fuse
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_and_is_status_0(tmp_path: Path, number: signal.Signals) -> None:
    with Mounted(LAYOUT, tmp_path) as mounted:
        mounted.process.send_signal(number)
        assert mounted.wait() == 0
        assert not is_mounted(mounted.path)
        assert f"unmounting signal={number.name}" in mounted.log()


@pytest.mark.fuse
@pytest.mark.parametrize("command", [["fusermount3", "-u"], ["umount"]])
def test_unmounting_from_outside_ends_the_daemon_with_status_0(
    tmp_path: Path, command: list[str]
) -> None:
    with Mounted(LAYOUT, tmp_path) as mounted:
        run([*command, mounted.path])
        assert mounted.wait() == 0


@pytest.mark.fuse
def test_more_files_can_be_open_than_the_soft_limit_lets_a_process_have(tmp_path: Path) -> None:
    """Each blob that somebody has open is a descriptor of the daemon."""
    count = fewfiles.SOFT_LIMIT + 100
    files = {f"f{number:03}": b"%d" % number for number in range(count)}
    with FakeRegistry() as registry:
        publish_files(registry, "a", "v1", **files)
        with Mounted(f"{registry.host}/a:v1", tmp_path, program=fewfiles.PROGRAM) as mounted:
            script = "import sys; print(len([open(p, 'rb') for p in sys.argv[1:]]))"
            paths = [str(mounted.path / name) for name in files]
            opened = run([sys.executable, "-I", "-S", "-c", script, *paths], timeout=60)
            assert opened.stdout == f"{count}\n"
            limits = Path(f"/proc/{mounted.process.pid}/limits").read_text()
            found = re.search(r"Max open files +(\d+) +(\d+)", limits)
            assert found is not None
            assert found[1] == found[2]


@pytest.mark.fuse
def test_sigusr1_writes_the_stacks_and_the_mount_lives_on(tmp_path: Path) -> None:
    with Mounted(LAYOUT, tmp_path) as mounted:
        mounted.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while "most recent call first" not in mounted.log():
            assert time.monotonic() < deadline, mounted.log()
            run(["ls", mounted.path])


@pytest.mark.fuse
def test_a_registry_that_is_away_keeps_no_mount_from_being_made(tmp_path: Path) -> None:
    """And the first use fails with the real cause, while statfs answers."""
    with Mounted("localhost:1/team/hello:v1", tmp_path) as mounted:
        assert "Connection refused" in run(["ls", mounted.path], check=False).stderr
        assert os.statvfs(mounted.path).f_blocks > 0
        status = run(["cat", mounted.path / ".orasfs/status.json"]).stdout
        assert '"reachable": false' in status


@pytest.mark.fuse
@pytest.mark.slow
def test_a_download_that_stalls_does_not_keep_the_daemon(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        publish_files(registry, "team/hello", "v1", file=b"x" * 1_000_000)
        registry.fail("/blobs/", stall_after=1000)
        with Mounted(f"{registry.host}/team/hello:v1", tmp_path) as mounted:
            reader = subprocess.Popen(["cat", mounted.path / "file"], stderr=subprocess.PIPE)
            deadline = time.monotonic() + 20
            while registry.count("GET", "/blobs/") == 0:
                assert time.monotonic() < deadline
                run(["true"])
            started = time.monotonic()
            assert mounted.stop() == 0, mounted.errors()
            assert time.monotonic() - started < 15
            assert not is_mounted(mounted.path)
            reader.communicate(timeout=10)
            assert reader.returncode != 0


def test_one_deliberate_failure_is_taken_out_of_its_groups() -> None:
    failure = NotFound("none")
    assert _reason(ExceptionGroup("", [ExceptionGroup("", [failure])])) is failure
    both = ExceptionGroup("", [TimedOut("late"), failure])
    assert isinstance(_reason(both), TimedOut)


def test_what_was_not_foreseen_is_not_hidden_behind_it() -> None:
    group = ExceptionGroup("", [NotFound("none"), ZeroDivisionError()])
    assert _reason(group) is group
    trio_like = ExceptionGroup("", [trio.BrokenResourceError()])
    assert _reason(trio_like) is trio_like
