"""The examples of docs/SEMANTICS.md, run on real mounts: what they show is what is printed.

A `console` block runs in a mount of the golden layout, a `console registry` block in one of a
docker-registry; those of one kind run in the order in which they stand, since some write. `…` in
the expected output stands for anything.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.golden import LAYOUT
from tests.support.mounted import PROJECT, Mounted

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

DOCUMENT = Path(__file__).parents[2] / "docs" / "SEMANTICS.md"
REPOSITORIES = {
    "team/hello": {"v1": "multi", "latest": "single"},
    "a": {"v1": "single", "b": "typed"},
    "a/b": {"v1": "untyped"},
}


@dataclass(frozen=True, slots=True)
class Example:
    """A command and the lines that it prints."""

    line: int
    command: str
    expected: str


def examples(kind: str) -> list[Example]:
    """Return the examples of all blocks of a kind."""
    found: list[Example] = []
    kind_of_block = ""
    for number, line in enumerate(DOCUMENT.read_text("utf-8").splitlines(), 1):
        if line.startswith("```"):
            kind_of_block = line.removeprefix("```")
        elif kind_of_block == kind and line.startswith("$ "):
            found.append(Example(number, line.removeprefix("$ "), ""))
        elif kind_of_block == kind:
            last = found.pop()
            found.append(Example(last.line, last.command, f"{last.expected}{line}\n"))
    return found


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an `orasfs` that is this checkout's."""
    directory = tmp_path_factory.mktemp("bin")
    words = shlex.join(["env", f"PYTHONPATH={PROJECT}", sys.executable, "-m", "orasfs"])
    program = directory / "orasfs"
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    return directory


def check(example: Example, directory: Path, commands: Path) -> None:
    """Run an example in a directory and compare what it prints."""
    done = subprocess.run(
        ["sh", "-c", example.command],
        cwd=directory,
        env={"PATH": f"{commands}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    output = done.stdout if done.stdout.endswith("\n") or not done.stdout else f"{done.stdout}\n"
    pattern = ".*".join(re.escape(part) for part in example.expected.split("…"))
    assert re.fullmatch(pattern, output, re.DOTALL), f"{example.command}\nprinted:\n{output}"


@pytest.fixture(scope="module")
def layout_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with Mounted(f"oci:{LAYOUT}", tmp_path_factory.mktemp("layout")) as mounted:
        yield mounted.path


@pytest.fixture(scope="module")
def registry_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with DockerRegistry() as registry:
        for repository, tags in REPOSITORIES.items():
            for tag, golden in tags.items():
                registry.push_layout(LAYOUT, golden, repository, tag=tag)
        with Mounted(registry.host, tmp_path_factory.mktemp("registry")) as mounted:
            yield mounted.path


def test_the_document_has_examples_of_both_kinds() -> None:
    assert len(examples("console")) > 20
    assert len(examples("console registry")) > 8


@pytest.mark.parametrize(
    "example", examples("console"), ids=lambda example: f"line {example.line}"
)
def test_an_example_on_the_golden_layout(
    example: Example, layout_mount: Path, commands: Path
) -> None:
    check(example, layout_mount, commands)


@pytest.mark.registry
@pytest.mark.parametrize(
    "example", examples("console registry"), ids=lambda example: f"line {example.line}"
)
def test_an_example_on_a_registry(example: Example, registry_mount: Path, commands: Path) -> None:
    check(example, registry_mount, commands)
