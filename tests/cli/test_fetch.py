"""`orasfs fetch`, against a mount that only pretends."""

from typing import Any

import pytest
from click.testing import CliRunner, Result

from orasfs.cli import fetch
from orasfs.cli.main import orasfs
from orasfs.daemon import gesture
from orasfs.daemon.gesture import Spot
from orasfs.errors import MountFailed
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, Mount

MOUNT = Mount("/mnt", FILESYSTEM_TYPE, "localhost:5000", "0:42")


class Pretended:
    """Takes orders, and answers with the documents of `script`, look by look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *script: dict[str, Any]) -> None:
        self.asked: list[str] = []
        self.script = list(script)
        self.takes_orders = True
        monkeypatch.setattr(gesture, "locate", lambda text: Spot(MOUNT, text))
        monkeypatch.setattr(gesture, "get_attribute", self._get)
        monkeypatch.setattr(gesture, "read_control", self._read)
        monkeypatch.setattr(fetch, "FIRST_POLL_SECONDS", 0.001)

    def _get(self, _spot: Spot, name: str) -> str | None:
        self.asked.append(name)
        return "1" if self.takes_orders else None

    def _read(self, _spot: Spot, _name: str) -> list[dict[str, Any]]:
        look = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if look.get("phase") == "interrupt":
            raise KeyboardInterrupt
        ticket = self.asked[0].rpartition(".")[2]
        return [{"ticket": "another", "phase": "running"}, {"ticket": ticket, **look}]


def document(phase: str, **more: object) -> dict[str, Any]:
    numbers = {"files": 3, "blobs": 2, "there": 1, "size": 3000, "received": 1500}
    return {"phase": phase, **numbers, "failures": 0, "messages": [], "error": None, **more}


def call() -> Result:
    return CliRunner().invoke(orasfs, ["fetch", "/mnt/a"], catch_exceptions=False)


def test_it_watches_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    Pretended(monkeypatch, document("running"), document("done", there=2))
    done = call()
    assert (done.exit_code, done.stdout) == (0, "/mnt/a: 3 files, 3 kB in the cache\n")
    assert "1/2 blobs, 1.5 kB fetched" in done.stderr


@pytest.mark.parametrize(
    ("errno", "status"), [("EACCES", 4), ("ENETUNREACH", 5), ("ENOSPC", 7), ("EIO", 1)]
)
def test_the_cause_is_the_status(monkeypatch: pytest.MonkeyPatch, errno: str, status: int) -> None:
    messages = ["v1/x: why"]
    error = {"kind": "X", "errno": errno, "message": "why"}
    Pretended(monkeypatch, document("failed", failures=3, messages=messages, error=error))
    done = call()
    assert done.exit_code == status
    assert "Error: /mnt/a: v1/x: why\n" in done.stderr
    assert "and 2 more" in done.stderr


def test_interrupting_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = Pretended(monkeypatch, document("running"), {"phase": "interrupt"})
    assert call().exit_code == 130
    order, cancel = mount.asked
    assert cancel == order.replace("fetch", "cancel")


def test_an_older_mount_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = Pretended(monkeypatch, document("done"))
    mount.takes_orders = False
    done = call()
    assert (done.exit_code, "takes no such order" in done.stderr) == (1, True)


def test_what_is_in_no_mount_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Pretended(monkeypatch, document("done"))

    def refuse(text: str) -> Spot:
        raise MountFailed(f"{text}: not in a mount of orasfs")

    monkeypatch.setattr(gesture, "locate", refuse)
    assert call().exit_code == 1
