"""The command: its verbs, its exit statuses, and what it must not load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from orasfs.cli.main import VERBS, orasfs, with_verb
from tests.fakes.registry import FakeRegistry
from tests.support.mounted import PROJECT, environment, run

HEAVY = ("trio", "httpx", "urllib3", "pyfuse3", "asyncio", "ssl")


def loaded_by(code: str, tmp_path: Path) -> set[str]:
    """Run code in a new interpreter, and return the heavy modules that it has loaded."""
    report = f"import json\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{report}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=PROJECT,
        env=environment(tmp_path),
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_names_every_verb_and_loads_nothing_heavy(tmp_path: Path) -> None:
    said = CliRunner().invoke(orasfs, ["--help"])
    assert said.exit_code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in said.output
    code = (
        "from orasfs.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
    )
    assert loaded_by(code, tmp_path) == set()


def test_parsing_a_mount_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "from orasfs.cli.main import main\n"
        "try:\n    main(['mount', '-o', 'tag_ttl=1', 'ghcr.io/a:b', '/no/such/place'])\n"
        "except SystemExit as end:\n    assert end.code == 1\n"
    )
    assert loaded_by(code, tmp_path) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    said = CliRunner().invoke(orasfs, [verb, "--help"])
    assert said.exit_code == 0
    assert said.output.startswith(f"Usage: orasfs {verb}")


def test_the_version_is_shown() -> None:
    said = CliRunner().invoke(orasfs, ["--version"])
    assert said.exit_code == 0
    assert said.output.startswith("orasfs ")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["registries", "/mnt", "-o", "rw"], ["mount", "registries", "/mnt", "-o", "rw"]),
        (["ghcr.io", "/mnt"], ["mount", "ghcr.io", "/mnt"]),
        (["mount", "a", "b"], ["mount", "a", "b"]),
        (["mout", "/mnt"], ["mount", "mout", "/mnt"]),
        (["mout"], ["mout"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_the_verb_that_mount_leaves_out_is_inserted(given: list[str], taken: list[str]) -> None:
    assert with_verb(given) == taken


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["mount"], 2, "Missing argument"),
        (["mount", "a", "b", "c"], 2, "expected SOURCE and MOUNTPOINT, got 3 words"),
        (["mount", "-o", "nonsense", "ghcr.io", "/"], 1, "option 'nonsense': not known"),
        (["mount", "-o", "index", "ghcr.io", "/no/such"], 1, "option index: needs a value"),
        (["mount", "https://ghcr.io", "/"], 1, "write it without https://"),
        (["mount", "oci:/no/such/layout", "/"], 1, "there is no such directory"),
        (["mount", "ghcr.io", "/no/such/place"], 1, "no such directory; make it with mkdir"),
        (["umount", "/"], 1, "no orasfs is mounted there"),
        (["status", "/"], 1, "no orasfs is mounted there"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_a_failure_is_a_sentence_and_a_status(
    arguments: list[str], status: int, words: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orasfs", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=environment(tmp_path),
    )
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_looks_at_the_machine() -> None:
    said = CliRunner().invoke(orasfs, ["doctor"])
    for subject in ("fuse", "sync", "cache", "updatedb"):
        assert f"  {subject}: " in said.output


def test_doctor_says_that_a_registry_does_not_answer(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "orasfs", "doctor", "localhost:1"], check=False)
    assert done.returncode == 1
    assert "FAIL  localhost:1: ConnectionRefused: " in done.stdout


def test_doctor_says_that_a_registry_answers() -> None:
    with FakeRegistry() as registry:
        done = run([sys.executable, "-m", "orasfs", "doctor", registry.host], check=False)
    assert f"ok    {registry.host}: answers" in done.stdout
