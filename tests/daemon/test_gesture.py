"""What a command says of a refusal: the mount's words about it, and nobody else's."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orasfs.daemon.gesture import Spot, last_error
from orasfs.fuse.mountinfo import Mount

REMOVE = "user.oras.remove"
NOW = datetime(2024, 3, 1, 12, 0, 0, 600_000, tzinfo=UTC)


@pytest.fixture
def spot(tmp_path: Path) -> Spot:
    for place in (tmp_path / "site", tmp_path / "site/v1"):
        (place / ".oras").mkdir(parents=True)
    return Spot(Mount(str(tmp_path), "fuse.orasfs", "x", ""), str(tmp_path / "site/v1"))


def tell(place: Path, operation: str, *, ago: float = 0.0) -> None:
    moment = (NOW - timedelta(seconds=ago)).isoformat(timespec="seconds")
    line = f"{moment} {operation}: NotPermitted: {operation}: not now\n"
    (place / ".oras/error").write_text(line)


def test_the_words_are_those_of_the_artifact_or_of_its_repository(
    spot: Spot, tmp_path: Path
) -> None:
    tell(tmp_path / "site", "lookup v1")
    assert last_error(spot, REMOVE, NOW) == "lookup v1: not now"
    tell(tmp_path / "site/v1", f"setxattr {REMOVE}")
    assert last_error(spot, REMOVE, NOW) == f"setxattr {REMOVE}: not now"


@pytest.mark.parametrize(
    ("operation", "ago"), [("rmdir v9", 0), (f"setxattr {REMOVE}", 2), ("lookup v1", 3600)]
)
def test_what_failed_before_or_elsewhere_is_not_told(
    spot: Spot, tmp_path: Path, operation: str, ago: float
) -> None:
    tell(tmp_path / "site", operation, ago=ago)
    assert last_error(spot, REMOVE, NOW) == ""


@pytest.mark.parametrize("line", ["", "nonsense\n", "2024-03-01T12:00:00 setxattr x: y\n"])
def test_what_is_no_line_of_ours_is_not_told(spot: Spot, tmp_path: Path, line: str) -> None:
    (tmp_path / "site/v1/.oras/error").write_text(line)
    assert last_error(spot, REMOVE, NOW) == ""
