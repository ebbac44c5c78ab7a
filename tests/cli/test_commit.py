"""`orasfs commit` and its like, against a mount that only pretends."""

import errno
import itertools
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orasfs.cli import commit, show, tag
from orasfs.cli.main import orasfs
from orasfs.daemon import gesture
from orasfs.daemon.gesture import Spot
from orasfs.errors import InvalidName, LocalFailure, MountFailed
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, Mount

MOUNT = Mount("/mnt", FILESYSTEM_TYPE, "localhost:5000", "0:42")
DIGEST = "sha256:" + "a" * 64


def document(phase: str = "pushing", **more: object) -> dict[str, Any]:
    return {
        "phase": phase,
        "blobs": 3,
        "there": 1,
        "skipped": 1,
        "size": 3000,
        "sent": 1500,
        "skipped_size": 500,
        "active": [],
        "warnings": [],
        "reference": None,
        "digest": None,
        "error": None,
        **more,
    }


class PretendedMount:
    """Answers what `gesture` is asked; `script` is what the control file says, look by look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, str] = {}
        self.orders: list[tuple[str, str, str]] = []
        self.script: list[dict[str, Any] | type[BaseException]] = []
        self.refusal: LocalFailure | None = None
        self.interrupts_orders = False
        monkeypatch.setattr(gesture, "locate", lambda text: Spot(MOUNT, text))
        monkeypatch.setattr(gesture, "get_attribute", self._get)
        monkeypatch.setattr(gesture, "set_attribute", self._set)
        monkeypatch.setattr(gesture, "read_control", self._read)
        monkeypatch.setattr(commit, "POLL_SECONDS", 0.001)
        self._looks = itertools.count()

    def _get(self, spot: Spot, name: str) -> str | None:
        return None if name == "user.oras.base" else self.states.get(spot.path)

    def _set(self, spot: Spot, name: str, value: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.orders.append((spot.path, name, value))
        if self.interrupts_orders and len(self.orders) == 1:
            raise KeyboardInterrupt
        if value == "0":  # the second ^C of who is impatient
            os.kill(os.getpid(), signal.SIGINT)

    def _read(self, _spot: Spot, _name: str) -> Sequence[dict[str, Any]]:
        step = self.script[min(next(self._looks), len(self.script) - 1)]
        if isinstance(step, type):
            raise step
        tickets = [value for _, name, value in self.orders if name == commit.ATTRIBUTE]
        return [{"ticket": tickets[0], **step}]


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> PretendedMount:
    return PretendedMount(monkeypatch)


def call(*words: str) -> Result:
    return CliRunner().invoke(orasfs, words)


def test_the_reference_of_what_was_pushed_is_printed(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "draft"
    done = document("done", reference="localhost:5000/a:v1", digest=DIGEST, warnings=["mind"])
    mount.script = [document(), done]
    said = call("commit", "/mnt/a:v1")
    assert said.exit_code == 0
    assert said.stdout == f"localhost:5000/a:v1@{DIGEST}\n"
    assert "pushing, 1/3 blobs, 1.5 kB sent, 1 there before" in said.stderr
    assert "warning: mind" in said.stderr


@pytest.mark.parametrize(
    ("name", "status"),
    [("ECANCELED", 3), ("EACCES", 4), ("ETIMEDOUT", 5), ("EBUSY", 6), ("EDQUOT", 7), ("EIO", 1)],
)
def test_the_exit_status_is_the_cause(mount: PretendedMount, name: str, status: int) -> None:
    mount.states["/mnt/a:v1"] = "modified"
    error = {"kind": "Any", "errno": name, "message": "the reason"}
    mount.script = [document("failed", error=error)]
    said = call("commit", "-q", "/mnt/a:v1")
    assert said.exit_code == status
    assert said.stderr == "Error: /mnt/a:v1: the reason\n"


def test_what_is_committed_needs_nothing(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "committed"
    said = call("commit", "/mnt/a:v1")
    assert said.exit_code == 0
    assert mount.orders == []
    assert "committed already" in said.stderr


def test_what_is_no_artifact_is_refused_and_the_others_are_pushed(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "draft"
    mount.script = [document("done", reference="r", digest=DIGEST)]
    said = call("commit", "/mnt/team", "/mnt/a:v1")
    assert said.exit_code == 1
    assert "/mnt/team: not the directory of an artifact" in said.stderr
    assert said.stdout == f"r@{DIGEST}\n"


def test_a_refusal_to_begin_is_a_status_too(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "draft"
    mount.refusal = LocalFailure("in use", errno.EBUSY)
    assert call("commit", "/mnt/a:v1").exit_code == 6


def test_an_upload_without_a_tag_says_how_to_publish(mount: PretendedMount) -> None:
    mount.states["/mnt/a/.new"] = "draft"
    mount.script = [document("done")]
    said = call("commit", "/mnt/a/.new")
    assert (said.exit_code, said.stdout) == (0, "")
    assert "mv -T" in said.stderr


def test_an_interrupt_cancels_the_push(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "draft"
    mount.script = [document(), KeyboardInterrupt, document(), document("cancelled")]
    said = call("commit", "/mnt/a:v1")
    assert said.exit_code == 130
    assert [value for _, _, value in mount.orders][1:] == ["0"]
    assert "the draft is as it was" in said.stderr


def test_an_interrupt_while_it_begins_cancels_it_too(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "draft"
    mount.interrupts_orders = True
    mount.script = [document(), document("cancelled")]
    said = call("commit", "/mnt/a:v1")
    assert said.exit_code == 130
    assert [value for _, _, value in mount.orders][1:] == ["0"]


def test_another_interrupt_ends_the_waiting_for_the_end(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "draft"
    mount.script = [document(), KeyboardInterrupt, document(), KeyboardInterrupt]
    said = call("commit", "/mnt/a:v1")
    assert said.exit_code == 130
    assert "does not tell how it ended" in said.stderr


def test_a_commit_that_is_told_of_no_more_is_not_waited_for(mount: PretendedMount) -> None:
    mount.states["/mnt/a:v1"] = "draft"
    mount.script = [document(), document(ticket="another")]
    said = call("commit", "/mnt/a:v1")
    assert said.exit_code == 1
    assert "does not tell how it ended" in said.stderr


def test_bars_take_the_same_documents() -> None:
    with show.Bars() as bars:
        bars.update("a", document())
        bars.update("a", document("done"))


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_500_000, "1.5 MB"), (10**15, "1e+03 TB")],
)
def test_bytes_are_told_in_three_digits(count: int, words: str) -> None:
    assert show.bytes_in_words(count) == words


def test_tags_and_removals_are_ordered_by_attribute(mount: PretendedMount) -> None:
    assert call("tag", "/mnt/a/v1", "latest", "/mnt/a/:v2").exit_code == 0
    assert call("rm", "/mnt/a/v1").exit_code == 0
    assert call("edit", "/mnt/a/v1").exit_code == 0
    assert mount.orders == [
        ("/mnt/a/v1", "user.oras.tag", "latest"),
        ("/mnt/a/v1", "user.oras.tag", "v2"),
        ("/mnt/a/v1", "user.oras.remove", "1"),
        ("/mnt/a/v1", "user.oras.edit", "1"),
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("latest", None),
        ("/mnt/a/latest", None),
        ("/mnt/a:latest", None),
        ("/mnt/a/:latest", None),
        ("/mnt/b/latest", "/mnt/b/latest"),
        ("/mnt/b:latest", "/mnt/b:latest"),
        ("/other/a/latest", "/other/a/latest"),
        ("/mnt/localhost:5000/a/v1", "/mnt/localhost:5000/a/v1"),
    ],
)
def test_a_tag_is_of_the_same_repository_or_copied(text: str, place: str | None) -> None:
    assert tag.place_of("/mnt/a/v1", text) == place
    assert tag.place_of("/mnt/a:v1", text) == place
    assert tag.place_of(f"/mnt/a@sha256:{'0' * 64}", text) == place


def test_what_is_no_tag_is_refused() -> None:
    assert tag.tag_of("/mnt/a/:v1") == "v1"
    with pytest.raises(InvalidName, match="no valid tag"):
        tag.tag_of("/mnt/a/.t")


def test_discarding_says_what_was_lost(mount: PretendedMount, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/one").write_bytes(bytes(1500))
    (tmp_path / "link").symlink_to("nowhere")
    mount.states[str(tmp_path)] = "draft"
    said = call("discard", str(tmp_path))
    assert said.exit_code == 0
    assert "discarded 2 files, 1.5 kB" in said.stderr
    assert mount.orders == [(str(tmp_path), "user.oras.discard", "1")]


def test_what_is_committed_is_not_discarded(mount: PretendedMount) -> None:
    mount.states["/mnt/a/v1"] = "committed"
    said = call("discard", "/mnt/a/v1")
    assert said.exit_code == 1
    assert "nothing to discard" in said.stderr


def test_a_path_outside_of_any_mount_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MountFailed, match="not in a mount"):
        gesture.locate(str(tmp_path))


def test_attributes_are_set_and_read_by_a_helper(tmp_path: Path) -> None:
    spot = Spot(Mount(str(tmp_path), FILESYSTEM_TYPE, "x", "0:1"), str(tmp_path))
    gesture.set_attribute(spot, "user.oras.test", "w\udcffrt")
    assert os.getxattr(tmp_path, "user.oras.test") == b"w\xffrt"
    assert gesture.get_attribute(spot, "user.oras.test") == "w\ufffdrt"
    assert gesture.get_attribute(spot, "user.oras.absent") is None


def test_a_refused_attribute_has_the_words_of_the_mount(tmp_path: Path) -> None:
    gone = Spot(Mount(str(tmp_path), FILESYSTEM_TYPE, "x", "0:1"), str(tmp_path / "gone"))
    with pytest.raises(LocalFailure, match="No such file") as caught:
        gesture.set_attribute(gone, "user.oras.test", "1")
    assert caught.value.number == errno.ENOENT
    with pytest.raises(LocalFailure, match=f"told by {tmp_path}/.oras/error"):
        gesture.get_attribute(gone, "user.oras.test")
    (tmp_path / ".oras").mkdir()
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    line = f"{moment} setxattr user.oras.test: Busy: somebody is at it\n"
    (tmp_path / ".oras/error").write_text(line)
    with pytest.raises(LocalFailure, match="somebody is at it"):
        gesture.set_attribute(gone, "user.oras.test", "1")


def test_control_files_are_read_as_json(tmp_path: Path) -> None:
    spot = Spot(Mount(str(tmp_path), FILESYSTEM_TYPE, "x", "0:1"), str(tmp_path))
    with pytest.raises(MountFailed, match="No such file"):
        gesture.read_control(spot, "commits.json")
    (tmp_path / ".orasfs").mkdir()
    (tmp_path / ".orasfs/commits.json").write_text("[")
    with pytest.raises(MountFailed, match="not JSON"):
        gesture.read_control(spot, "commits.json")
    (tmp_path / ".orasfs/commits.json").write_text("[1]")
    assert gesture.read_control(spot, "commits.json") == [1]
