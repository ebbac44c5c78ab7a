"""The real command on the golden layout: mounting in the background, and how it can fail."""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.fuse.mountinfo import mount_at, read_mounts
from tests.support.golden import GOLDEN
from tests.support.mounted import Mounted, environment, is_mounted, run, unmount

pytestmark = pytest.mark.fuse

LAYOUT = f"oci:{GOLDEN / 'layout'}"


class Shell:
    """Runs the command in a home of its own, and unmounts what a test leaves."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.mnt = self.home / "mnt"
        self.mnt.mkdir()
        self.environ = environment(self.home)

    def orasfs(
        self, *words: str | Path, cwd: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orasfs", *map(str, words)],
            capture_output=True, text=True, check=False, timeout=60, cwd=cwd or self.home,
            env={**self.environ, **more},
        )  # fmt: skip

    def pid(self) -> int:
        status = json.loads(run(["cat", self.mnt / ".orasfs/status.json"]).stdout)
        assert isinstance(status["pid"], int)
        return status["pid"]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    one = Shell(tmp_path)
    yield one
    unmount(one.mnt)


def wait_for_end(pid: int) -> None:
    """Wait until a daemon that is not our child has ended (a pidfd is readable then)."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 20)[0], "the daemon did not end"
    os.close(descriptor)


def test_mounting_returns_once_the_mount_answers_and_umount_ends_it(shell: Shell) -> None:
    done = shell.orasfs("mount", LAYOUT, shell.mnt)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert "single" in run(["ls", shell.mnt]).stdout.split()
    content = run(["cat", shell.mnt / "single/artifact.txt"]).stdout
    assert content == (GOLDEN / "inputs/artifact.txt").read_text()
    pid = shell.pid()
    assert os.getsid(pid) == pid, "it survives the terminal"
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert {Path(f"/proc/{pid}/fd/{n}").readlink() for n in range(3)} == {Path("/dev/null")}
    done = shell.orasfs("umount", shell.mnt)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(shell.mnt)
    wait_for_end(pid)


def test_the_mount_table_names_the_source(shell: Shell) -> None:
    assert shell.orasfs("mount", LAYOUT, shell.mnt, "-o", "ro,noexec").returncode == 0
    mount = mount_at(str(shell.mnt), read_mounts())
    assert mount is not None
    assert (mount.type, mount.source) == ("fuse.orasfs", LAYOUT)
    line = next(
        x for x in Path("/proc/self/mounts").read_text().splitlines() if str(shell.mnt) in x
    )
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(line.split()[3].split(","))


def test_relative_paths_are_those_of_the_caller(shell: Shell) -> None:
    (shell.home / "here").symlink_to(GOLDEN / "layout")
    done = shell.orasfs("mount", "oci:here", "mnt", "-o", "cache=my-cache,log_file=my.log")
    assert done.returncode == 0, done.stderr
    assert (shell.mnt / "single/artifact.txt").read_bytes()
    assert (shell.home / "my-cache/blobs").is_dir()
    assert "mounted mountpoint=" in (shell.home / "my.log").read_text()


def test_the_working_directory_may_vanish(shell: Shell) -> None:
    gone = shell.home / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    command = [sys.executable, "-m", "orasfs", "mount", LAYOUT, str(shell.mnt)]
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(gone), *command],
        capture_output=True, text=True, check=False, timeout=60, env=shell.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (shell.mnt / "single/artifact.txt").read_bytes()


@pytest.mark.parametrize("name", ["a b", "comma,=", "back\\slash", "caf\u00e9", "new\nline", "-z"])
def test_any_name_will_do_for_a_mountpoint_and_for_a_layout(shell: Shell, name: str) -> None:
    layout = shell.home / f"layout {name}"
    shutil.copytree(GOLDEN / "layout", layout)
    path = shell.home / name
    path.mkdir()
    try:
        done = shell.orasfs("mount", "--", f"oci:{layout}", path)
        assert done.returncode == 0, done.stderr
        assert (path / "single/artifact.txt").read_bytes()
        assert shell.orasfs("status", "--", path).returncode == 0
        done = shell.orasfs("umount", "--", path)
        assert done.returncode == 0, done.stderr
        assert not is_mounted(path)
    finally:
        unmount(path)


def test_without_a_source_the_embedded_repositories_are_mounted(shell: Shell) -> None:
    local = shell.home / "data/orasfs/local"
    local.mkdir(parents=True)
    (local / "golden").symlink_to(GOLDEN / "layout")
    assert shell.orasfs("mount", shell.mnt).returncode == 0
    assert run(["ls", shell.mnt]).stdout.split() == ["golden"]
    assert (shell.mnt / "golden/single/artifact.txt").read_bytes()


def test_the_helper_of_mount_8_mounts_it_with_the_options_of_fstab(shell: Shell) -> None:
    """`mount -t fuse.orasfs` calls this helper; itself it would look in the system's PATH only."""
    helper = shutil.which("mount.fuse3", path="/sbin:/usr/sbin")
    assert helper is not None
    program = shell.home / "bin/orasfs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m orasfs "$@"\n')
    program.chmod(0o755)
    environ = {**shell.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    options = "rw,noexec,nosuid,nodev,tag_ttl=5,user,nofail,_netdev,x-systemd.automount"
    run([helper, LAYOUT, shell.mnt, "-o", options, "-t", "fuse.orasfs"], environ=environ)
    assert (shell.mnt / "single/artifact.txt").read_bytes()
    status = json.loads((shell.mnt / ".orasfs/status.json").read_text())
    assert status["options"]["tag_ttl_seconds"] == 5
    run(["umount", shell.mnt])
    assert not is_mounted(shell.mnt)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("cache=/dev/null/cache", "/dev/null/cache"),
        ("log_file=/no/such/place/log", "/no/such/place/log: No such file or directory"),
    ],
)
def test_a_failure_in_the_daemon_is_told_and_nothing_is_left(
    shell: Shell, options: str, words: str
) -> None:
    done = shell.orasfs("mount", LAYOUT, shell.mnt, "-o", options)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert not is_mounted(shell.mnt)


def test_a_layout_that_cannot_be_read_is_told(shell: Shell) -> None:
    layout = shell.home / "layout"
    shutil.copytree(GOLDEN / "layout", layout)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"9"}')
    done = shell.orasfs("mount", f"oci:{layout}", shell.mnt)
    assert done.returncode == 1
    assert "layout" in done.stderr
    assert "Traceback" not in done.stderr
    assert not is_mounted(shell.mnt)


def test_mounting_twice_is_refused(shell: Shell) -> None:
    assert shell.orasfs("mount", LAYOUT, shell.mnt).returncode == 0
    done = shell.orasfs("mount", LAYOUT, shell.mnt)
    assert done.returncode == 1
    assert "is mounted there already" in done.stderr


def test_a_stale_mountpoint_is_said_with_what_mends_it(shell: Shell) -> None:
    with Mounted(LAYOUT, shell.home) as mounted:
        mounted.kill9()
        done = shell.orasfs("mount", LAYOUT, shell.mnt)
        assert done.returncode == 1
        assert "Transport endpoint is not connected" in done.stderr
        assert f"fusermount3 -u -z {shell.mnt}" in done.stderr
        status = shell.orasfs("status", shell.mnt)
        assert status.returncode == 1
        assert "does not answer" in status.stdout
        assert shell.orasfs("umount", "-z", shell.mnt).returncode == 0
        assert shell.orasfs("mount", LAYOUT, shell.mnt).returncode == 0


def test_status_tells_how_a_mount_fares(shell: Shell) -> None:
    assert shell.orasfs("mount", LAYOUT, shell.mnt).returncode == 0
    said = shell.orasfs("status", shell.mnt)
    assert said.returncode == 0
    assert said.stdout.startswith(f"{LAYOUT} on {shell.mnt}\n")
    document = json.loads(shell.orasfs("status", "--json", shell.mnt).stdout)
    assert (document["source"], document["mountpoint"]) == (LAYOUT, str(shell.mnt))
    everything = json.loads(shell.orasfs("status", "--json").stdout)
    assert document["pid"] in [each.get("pid") for each in everything]


def test_a_busy_mount_names_who_uses_it(shell: Shell) -> None:
    assert shell.orasfs("mount", LAYOUT, shell.mnt).returncode == 0
    sitting = subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=shell.mnt)
    done = shell.orasfs("umount", shell.mnt)
    assert done.returncode == 1
    assert f"cat (pid {sitting.pid}), working directory" in done.stderr
    assert f"orasfs umount -z {shell.mnt}" in done.stderr
    sitting.communicate(timeout=10)
    assert shell.orasfs("umount", shell.mnt).returncode == 0


def test_the_control_files_are_there_and_not_listed(shell: Shell) -> None:
    assert shell.orasfs("mount", LAYOUT, shell.mnt).returncode == 0
    control = shell.mnt / ".orasfs"
    assert ".orasfs" not in run(["ls", "-a", shell.mnt]).stdout.split()
    assert json.loads((control / "transfers.json").read_text()) == []
    assert json.loads((control / "drafts.json").read_text()) == []
    assert "orasfs_start_time_seconds" in (control / "metrics").read_text()
    assert f"mounted mountpoint={shell.mnt}" in (control / "log").read_text()
