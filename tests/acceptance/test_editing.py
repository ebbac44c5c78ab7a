"""What is committed, edited through a mount: only what changed is sent, all else stays.

ORASFS_LAYER_BYTES is the size of each of the ten layers of the large artifact.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orasfs.store.layoutwriter import create_layout
from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.gestures import (
    LayoutOne,
    RemoteOne,
    Repository,
    commit,
    orasfs,
    reports,
    written,
)
from tests.support.golden import LAYOUT, golden_tags
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_layout

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

LAYER_BYTES = int(os.environ.get("ORASFS_LAYER_BYTES", str(10_000_000)))
EPOCH = 1_700_000_000
TITLE = "org.opencontainers.image.title"
CONTENT = "io.deis.oras.content.digest"
INDEXES = {"index"}


@dataclass(frozen=True)
class Bench:
    """A repository with the golden tags, mounted."""

    repository: Repository
    mount: Path
    front: Front | None

    def manifest(self, tag: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.repository.manifest(tag))
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        for tag in golden_tags():
            publish_layout(registry, LAYOUT, tag, "team/golden", tag=tag)
        yield registry


@pytest.fixture(scope="module", params=["registry", "oci"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("home")
    environ = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    if request.param == "oci":
        create_layout(home / "layout")
        run(["cp", "-rT", LAYOUT, home / "layout"])
        run(["chmod", "-R", "u+w", home / "layout"])
        layout = LayoutOne(home / "layout")
        with Mounted(layout.source, home, environ=environ) as mounted:
            yield Bench(layout, mounted.path, None)
        return
    registry: DockerRegistry = request.getfixturevalue("server")
    with Front(registry.port) as front:
        remote = RemoteOne(registry, front.host, "team/golden")
        with Mounted(remote.source, home, "tag_ttl=0", environ=environ) as mounted:
            yield Bench(remote, mounted.path, front)


def _files(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("tag", sorted({*golden_tags()} - INDEXES))
def test_an_edited_golden_tag_keeps_all_that_was_not_changed(tag: str, bench: Bench) -> None:
    path = bench.repository.tag(bench.mount, tag)
    before = bench.manifest(tag)
    if "layers" not in before:
        pytest.skip("an artifact manifest of its own form")
    orasfs("edit", path)
    files = _files(path)
    if not files:
        (path / "added").write_text("added")
    else:
        files[0].chmod(0o644)
        with files[0].open("ab") as file:
            file.write(b"changed\n")
    content = {name.relative_to(path): name.read_bytes() for name in _files(path)}
    commit(path)
    after = bench.manifest(tag)
    assert {name.relative_to(path): name.read_bytes() for name in _files(path)} == content
    for key in {*before, *after} - {"layers", "annotations"}:
        assert after.get(key) == before.get(key), key
    assert {**before.get("annotations", {}), **after["annotations"]} == after["annotations"]
    if not files:
        return
    assert len(after["layers"]) == len(before["layers"])
    changed = files[0].relative_to(path).as_posix()
    for old, new in zip(before["layers"], after["layers"], strict=True):
        title = old.get("annotations", {}).get(TITLE, "")
        if title and (changed == title or changed.startswith(f"{title}/")):
            kept = {key: value for key, value in old["annotations"].items() if key != CONTENT}
            found = {key: value for key, value in new["annotations"].items() if key != CONTENT}
            assert (found, new["mediaType"]) == (kept, old["mediaType"])
            assert new["digest"] != old["digest"]
        else:
            assert new == old


def test_an_edit_without_a_change_keeps_the_digest_and_sends_nothing(bench: Bench) -> None:
    path = bench.repository.draft(bench.mount, "same")
    (path / "docs").mkdir(parents=True)
    (path / "docs/page").write_text("page")
    (path / "file").write_text("file")
    digest = commit(path)
    tag = bench.repository.tag(bench.mount, "same")
    if bench.front is not None:
        bench.front.forget_requests()
    orasfs("edit", tag)
    assert commit(tag) == digest
    orasfs("edit", tag)
    (tag / "file").write_text("other")
    (tag / "file").write_text("file")
    assert commit(tag) == digest
    assert bench.repository.tags()["same"] == digest
    if bench.front is not None:
        assert not written(bench.front)


def test_discarding_gives_the_base_back(bench: Bench) -> None:
    tag = bench.repository.tag(bench.mount, "two-dirs")
    digest = bench.repository.tags()["two-dirs"]
    before = {path: path.read_bytes() for path in _files(tag)}
    orasfs("edit", tag)
    for path in _files(tag):
        path.unlink()
    (tag / "new").write_text("new")
    orasfs("discard", tag)
    assert {path: path.read_bytes() for path in _files(tag)} == before
    assert bench.repository.tags()["two-dirs"] == digest


def test_one_small_file_of_a_large_artifact_is_sent_alone(bench: Bench) -> None:
    """Ten large layers of raw files, and small ones beside them."""
    path = bench.repository.draft(bench.mount, "large")
    path.mkdir()
    for number in range(10):
        (path / f"large{number}").write_bytes(os.urandom(LAYER_BYTES))
        (path / f"small{number}").write_bytes(os.urandom(1024))
    commit(path, timeout=300)
    before = bench.manifest("large")["layers"]
    tag = bench.repository.tag(bench.mount, "large")
    if bench.front is not None:
        bench.front.forget_requests()
    orasfs("edit", tag)
    (tag / "small3").write_bytes(b"changed".ljust(1024))
    digest = commit(tag)
    after = bench.manifest("large")["layers"]
    assert [old == new for old, new in zip(before, after, strict=True)].count(False) == 1
    report = [each for each in reports(bench.mount) if each["digest"] == digest]
    assert report[-1]["sent"] in range(1024, 1_000_000)
    if bench.front is not None:
        sent = [path for method, path in written(bench.front) if method == "PUT"]
        assert len(sent) == 2  # a blob and the manifest
        assert bench.front.bytes_received < 1_000_000
