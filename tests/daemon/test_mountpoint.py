"""Mountpoints: each thing that can be wrong has a sentence of its own."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from orasfs.daemon import mountpoint
from orasfs.errors import MountFailed
from tests.support.mounted import Mounted, is_mounted

FAKE = ("tests.support.fake_mount",)


def test_a_mountpoint_is_absolute_and_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for text in ("real", "link", "./real/", "link/../real", str(tmp_path / "link"), "real/."):
        assert mountpoint.canonical(text) == str(tmp_path.resolve() / "real")


def test_a_working_directory_that_has_vanished_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(MountFailed, match="working directory has vanished"):
        mountpoint.canonical("mnt")
    assert mountpoint.canonical(str(tmp_path)) == str(tmp_path.resolve())
    monkeypatch.undo()


def test_an_empty_directory_and_one_with_content_are_fit(tmp_path: Path) -> None:
    mountpoint.check_fit(str(tmp_path))
    (tmp_path / "file").touch()
    mountpoint.check_fit(str(tmp_path))


def test_what_is_missing_or_no_directory_is_not_fit(tmp_path: Path) -> None:
    with pytest.raises(MountFailed, match="no such directory; make it with mkdir"):
        mountpoint.check_fit(str(tmp_path / "missing"))
    with pytest.raises(MountFailed, match="root of the system"):
        mountpoint.check_fit("/")
    (tmp_path / "file").touch()
    with pytest.raises(MountFailed, match="not a directory"):
        mountpoint.check_fit(str(tmp_path / "file"))


@pytest.mark.fuse
def test_a_mount_that_lives_is_not_fit_for_another(tmp_path: Path) -> None:
    with (
        Mounted(None, tmp_path, program=FAKE) as mounted,
        pytest.raises(MountFailed, match="is mounted there already"),
    ):
        mountpoint.check_fit(str(mounted.path))


@pytest.mark.fuse
def test_a_stale_mountpoint_is_recognised_and_the_command_said_mends_it(tmp_path: Path) -> None:
    with Mounted(None, tmp_path, program=FAKE) as mounted:
        mounted.kill9()
        assert mountpoint.probe(str(mounted.path)) == errno.ENOTCONN
        with pytest.raises(MountFailed, match="daemon is gone") as caught:
            mountpoint.check_fit(mountpoint.canonical(str(mounted.path)))
        command = str(caught.value).rpartition("with: ")[2]
        assert command == f"fusermount3 -u -z {mounted.path}"
        subprocess.run(command.split(), check=True, timeout=30)
        mountpoint.check_fit(str(mounted.path))


@pytest.mark.fuse
def test_who_keeps_a_mount_busy_is_named(tmp_path: Path) -> None:
    with Mounted(None, tmp_path, program=FAKE) as mounted:
        sitting = subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=mounted.path / "dir")
        with (mounted.path / "plain").open():
            users = {user.pid: user for user in mountpoint.users_of(str(mounted.path))}
            with pytest.raises(MountFailed, match="busy"):
                mountpoint.unmount(str(mounted.path))
        sitting.communicate(timeout=10)
        assert users[sitting.pid].command == "cat"
        assert users[sitting.pid].reason == "working directory"
        assert users[os.getpid()].reason == f"open: {mounted.path}/plain"
        mountpoint.unmount(str(mounted.path))
        assert not is_mounted(mounted.path)
        assert mounted.wait() == 0


@pytest.mark.fuse
def test_a_busy_mount_can_be_detached(tmp_path: Path) -> None:
    with Mounted(None, tmp_path, program=FAKE) as mounted:
        with (mounted.path / "plain").open():
            mountpoint.unmount(str(mounted.path), lazy=True)
            assert not is_mounted(mounted.path)
        assert mounted.wait() == 0


def test_unmounting_nothing_fails_with_what_fusermount_says(tmp_path: Path) -> None:
    with pytest.raises(MountFailed, match=r"not found|not mounted|failed"):
        mountpoint.unmount(str(tmp_path))


def test_a_missing_fusermount_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MountFailed, match="install the package fuse3"):
        mountpoint.check_machine()
    with pytest.raises(MountFailed, match="install the package fuse3"):
        mountpoint.unmount(str(tmp_path))


def test_a_file_is_read_from_outside_and_a_failure_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0content")
    assert mountpoint.read_file(str(tmp_path / "file")) == b"\0content"
    with pytest.raises(MountFailed, match="No such file"):
        mountpoint.read_file(str(tmp_path / "missing"))


def test_what_does_not_answer_is_given_up(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(MountFailed, match=r"no answer within 0\.2 seconds"):
        mountpoint.read_file(str(fifo), timeout_seconds=0.2)
