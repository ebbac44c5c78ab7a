"""The quick start ends with a file read through the mount, again and after a crash, too.

Needs the virtual environment that `scripts/setup test` made, which `scripts/test` runs in: it must
not install anything into another one.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.fuse.mountinfo import mount_at, read_mounts

ROOT = Path(__file__).parent.parent
PREPARED = Path(sys.prefix) / ".orasfs-test"
GREETING = "Hello. This file is a layer of an OCI artifact, read through the mount."

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.slow,
    pytest.mark.skipif(
        not PREPARED.exists() and os.environ.get("ORASFS_TEST_ALL") != "1",
        reason="needs the virtual environment of scripts/setup test",
    ),
]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return an empty home directory; what is mounted in it is unmounted in the end."""
    yield tmp_path
    if mount_at(str(tmp_path / "orasfs"), read_mounts()) is not None:
        subprocess.run(["fusermount3", "-u", "-z", tmp_path / "orasfs"], check=True, timeout=30)


def start(home: Path) -> "subprocess.Popen[str]":
    kept = {key: os.environ[key] for key in os.environ if not key.startswith(("XDG_", "ORAS"))}
    return subprocess.Popen(
        [ROOT / "scripts" / "quickstart"],
        env={**kept, "HOME": str(home), "ORASFS_VENV": sys.prefix},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(home: Path) -> str:
    process = start(home)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def daemon_of(home: Path) -> int:
    """Return the process id that the mount tells."""
    status = (home / "orasfs" / ".orasfs" / "status.json").read_bytes()
    pid = json.loads(status)["pid"]
    assert isinstance(pid, int)
    return pid


def test_it_ends_with_a_file_read_through_the_mount(home: Path) -> None:
    output = run(home)
    assert GREETING in output
    assert f"umount {home}/orasfs" in output
    assert (home / "orasfs/hello/v1/greeting.txt").read_text().strip() == GREETING


def test_to_repeat_it_changes_nothing(home: Path) -> None:
    run(home)
    daemon = daemon_of(home)
    assert GREETING in run(home)
    assert daemon_of(home) == daemon


def test_it_mends_a_mount_whose_daemon_was_killed(home: Path) -> None:
    run(home)
    os.kill(daemon_of(home), signal.SIGKILL)
    assert GREETING in run(home)


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_mount_and_no_directory(
    home: Path, number: signal.Signals, seconds: float
) -> None:
    process = start(home)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=120)
    if process.returncode == 0:
        return  # it was faster
    assert process.returncode == 128 + number, output
    assert mount_at(str(home / "orasfs"), read_mounts()) is None
    assert not (home / "orasfs").exists()
