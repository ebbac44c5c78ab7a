"""Every golden artifact edited on a real mount: one file changes, all else stays what it was."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.golden import GOLDEN, golden_tags
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

STATE_SECONDS = 5.0  # for the kernel to be told that a name stands for something else


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        for tag in golden_tags():
            registry.push_layout(GOLDEN / "layout", tag, "team/golden")
        yield registry


@pytest.fixture(scope="module")
def golden(registry: DockerRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with Mounted(registry.host, tmp_path_factory.mktemp("home")) as mounted:
        yield mounted.path / "team/golden"
        assert mounted.stop() == 0, mounted.errors()


def manifest(artifact: Path) -> dict[str, Any]:
    document = json.loads((artifact / ".oras/manifest.json").read_bytes())
    assert isinstance(document, dict)
    return document


def summary(top: Path) -> list[str]:
    form = "%P %y %m %T@ %l %s\n"
    return sorted(run(["find", top, "-mindepth", "1", "-printf", form]).stdout.splitlines())


def edit(artifact: Path) -> None:
    os.setxattr(artifact, "user.oras.edit", b"1")
    deadline = time.monotonic() + STATE_SECONDS
    while os.getxattr(artifact, "user.oras.state") != b"modified":
        assert time.monotonic() < deadline


@pytest.mark.parametrize("tag", sorted(set(golden_tags()) - {"index", "no-layers"}))
def test_an_edit_keeps_all_but_what_it_changes(golden: Path, tag: str) -> None:
    artifact = golden / tag
    before, shown = manifest(artifact), summary(artifact)
    edit(artifact)
    assert [line.rpartition(" ")[0] for line in summary(artifact) if " d " not in line] == [
        line.rpartition(" ")[0] for line in shown if " d " not in line
    ]
    file = next(path for path in sorted(artifact.rglob("*")) if path.is_file())
    file.write_bytes(b"changed")
    run(["sync", artifact])
    assert os.getxattr(artifact, "user.oras.state") == b"committed"
    after = manifest(artifact)
    assert {key: after[key] for key in after if key != "layers"} == {
        key: before[key] for key in before if key != "layers"
    }
    pairs = list(zip(before["layers"], after["layers"], strict=True))
    assert sum(old["digest"] != new["digest"] for old, new in pairs) == 1
    assert [old["mediaType"] for old, _ in pairs] == [new["mediaType"] for _, new in pairs]
    assert file.read_bytes() == b"changed"


def test_an_index_is_not_edited(golden: Path) -> None:
    with pytest.raises(OSError, match="not supported"):
        os.setxattr(golden / "index", "user.oras.edit", b"1")
    assert os.getxattr(golden / "index", "user.oras.state") == b"committed"


@pytest.mark.parametrize("name", ["golden/new", "golden:other", "fresh:v1"])
def test_who_is_in_a_draft_is_in_the_artifact_after_its_commit(golden: Path, name: str) -> None:
    draft = golden.parent / name
    draft.mkdir()
    (draft / "sub").mkdir()
    (draft / "sub/f").write_text("content")
    code = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "before = [os.stat(p).st_ino for p in ('.', 'sub', 'sub/f')]\n"
        "os.fsync(os.open('.', os.O_RDONLY))\n"
        "assert os.getxattr('.', 'user.oras.state') == b'committed'\n"
        "assert os.getcwd() == sys.argv[1]\n"
        "assert [os.stat(p).st_ino for p in ('.', 'sub', 'sub/f')] == before\n"
        "assert [os.stat(sys.argv[1] + p).st_ino for p in ('', '/sub', '/sub/f')] == before\n"
        "assert open('sub/f').read() == 'content'\n"
    )
    run([sys.executable, "-c", code, draft])
    other = golden.parent / name.replace(":", "/")
    assert (other / "sub/f").read_text() == "content"
