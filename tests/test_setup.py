"""What `scripts/setup` does to a virtual environment that is there already: never empty it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PREPARED = Path(sys.prefix) / ".orasfs-test"

pytestmark = pytest.mark.skipif(
    not PREPARED.exists() and os.environ.get("ORASFS_TEST_ALL") != "1",
    reason="needs a machine that scripts/setup has prepared",
)

# As Python does when it is interrupted before it has begun: an exit, and no death by the signal.
_INTERRUPTED = "trap '' INT TERM; kill -{signal} 0; exit 1"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return a virtual environment that has something in it, and no Python yet."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return venv


def set_up(venv: Path, python: str) -> "subprocess.CompletedProcess[str]":
    """Run the script where the environment's Python is a script of sh(1)."""
    (venv / "bin/python").write_text(f"#!/bin/sh\n{python}\n")
    (venv / "bin/python").chmod(0o755)
    return subprocess.run(
        [ROOT / "scripts" / "setup"],
        env={**os.environ, "ORASFS_VENV": str(venv), "PIP_NO_INDEX": "1"},
        start_new_session=True, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("signal", "status"), [("INT", 130), ("TERM", 143)])
def test_interrupted_it_leaves_the_environment(
    environment: Path, signal: str, status: int
) -> None:
    done = set_up(environment, _INTERRUPTED.format(signal=signal))
    assert (environment / "bin/python").read_text().startswith("#!/bin/sh")
    assert "making" not in done.stderr
    assert done.returncode == status


def test_an_environment_whose_python_does_not_run_is_named_and_left(environment: Path) -> None:
    done = set_up(environment, "exit 1")
    assert done.returncode == 1
    assert f"{environment}/bin/python does not run; remove {environment}" in done.stderr
    assert (environment / "bin/python").read_text().startswith("#!/bin/sh")
