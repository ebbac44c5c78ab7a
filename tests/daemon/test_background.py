"""Waiting for the daemon: whatever its child does, the parent says what happened and leaves none.

The child is a shell script here; tests/cli/test_mount.py has the real one.
"""

import os
import subprocess
from pathlib import Path

import pytest

from orasfs.daemon import background
from orasfs.errors import MountFailed

Spawned = list["subprocess.Popen[bytes]"]


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Spawned:
    """Start `sh -c ARGUMENT` instead of the daemon."""
    children: Spawned = []

    def spawn(arguments: list[str]) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(
            ["sh", "-c", *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        children.append(child)
        return child

    monkeypatch.setattr(background, "_spawn", spawn)
    return children


def test_a_child_that_is_ready_lives_on_and_its_warnings_are_passed_on(
    tmp_path: Path, spawned: Spawned
) -> None:
    script = r"echo 'cache is almost full' >&2; printf '\0' >&2; exec sleep 60 2>/dev/null"
    assert background.start([script], str(tmp_path)) == "cache is almost full"
    pid = spawned[0].pid
    os.kill(pid, 15)
    assert os.waitpid(pid, 0) == (pid, 15)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'no such layout' >&2; exit 1", "^no such layout$"),
        ("exit 3", "^the daemon ended with status 3 and no word$"),
        ("kill -9 $$", "^the daemon was ended by SIGKILL$"),
    ],
)
def test_a_child_that_ends_is_told_by_its_words_or_its_status(
    tmp_path: Path, spawned: Spawned, script: str, words: str
) -> None:
    with pytest.raises(MountFailed, match=words):
        background.start([script], str(tmp_path))
    assert spawned[0].returncode is not None


def test_a_child_that_is_never_ready_is_ended(
    tmp_path: Path, spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "READY_SECONDS", 0.2)
    with pytest.raises(MountFailed, match=r"was not ready within 0\.2 seconds"):
        background.start(["exec sleep 60"], str(tmp_path))
    assert spawned[0].returncode == -15


def test_a_child_that_does_not_heed_sigterm_is_killed(
    tmp_path: Path, spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "READY_SECONDS", 0.5)
    monkeypatch.setattr(background, "END_SECONDS", 0.3)
    with pytest.raises(MountFailed, match="was not ready"):
        background.start(["trap '' TERM; while :; do read x; done"], str(tmp_path))
    assert spawned[0].returncode == -9


def test_a_mount_that_does_not_answer_is_a_failure(tmp_path: Path, spawned: Spawned) -> None:
    with pytest.raises(MountFailed, match="mounted, but it answers: No such file or directory"):
        background.start([r"printf '\0' >&2; exec sleep 60"], str(tmp_path / "gone"))
    assert spawned[0].returncode == -15
