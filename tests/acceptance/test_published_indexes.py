"""Indexes that one machine publishes and another one reads by, through real mounts."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.gestures import orasfs
from tests.support.mounted import Mounted, run
from tests.support.smallindexes import PROGRAM

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
FILES = 12
FILE_BYTES = 400_000
WHOLE = FILES * FILE_BYTES
REFERRERS = r"/referrers/"
FALLBACK_TAG = r"/manifests/sha256-"


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture
def front(registry: DockerRegistry) -> Iterator[Front]:
    with Front(registry.port) as front:
        yield front


def mount(source: str, home: Path, *options: str) -> Mounted:
    return Mounted(source, home, *options, program=PROGRAM, environ=EPOCH)


def fill(draft: Path) -> None:
    draft.mkdir()
    (draft / "docs").mkdir()
    for number in range(FILES):
        (draft / "docs" / f"{number:02}").write_bytes(os.urandom(FILE_BYTES))


def xattr(path: Path, name: str) -> str:
    return run(["getfattr", "--only-values", "-n", f"user.oras.{name}", path]).stdout


@pytest.mark.registry
def test_new_machine_reads_one_file_without_the_rest(front: Front, tmp_path: Path) -> None:
    """docker-registry has no referrers API: the referrer is at the fallback tag."""
    with mount(front.host, tmp_path / "a", "index=publish") as first:
        draft = first.path / "team/one:v1"
        fill(draft)
        done = orasfs("commit", "-q", draft)
        assert "warning" not in done.stderr
        content = {path.name: path.read_bytes() for path in (draft / "docs").iterdir()}
        (referrer,) = (draft / ".oras/referrers/sha256").iterdir()
        manifest = json.loads((referrer / ".oras/manifest.json").read_bytes())
        assert manifest["artifactType"] == "application/vnd.orasfs.layer-index.v1"
        assert "annotations" not in manifest, "there is no time in it"
    front.forget_requests()
    with mount(front.host, tmp_path / "b", "delete") as second:
        docs = second.path / "team/one/v1/docs"
        assert (docs / "07").read_bytes() == content["07"]
        # Two thirds: where only 128 KiB are read ahead, the file is asked for in several parts.
        assert front.bytes_sent < WHOLE * 2 // 3
        assert front.count("GET", REFERRERS) == front.count("GET", FALLBACK_TAG) == 1
        assert xattr(docs / "07", "verified") == "false"
        assert {path.name: path.read_bytes() for path in docs.iterdir()} == content
        assert front.bytes_sent < 1.2 * WHOLE
        assert front.count("GET", REFERRERS) == 1
        orasfs("fetch", "-q", second.path / "team/one/v1")
        assert xattr(docs / "07", "verified") == "true"
        assert (docs / "03").read_bytes() == content["03"]
        orasfs("rm", second.path / f"team/one@sha256:{referrer.name}")
        assert not list((second.path / "team/one/v1/.oras/referrers").iterdir())


@pytest.mark.registry
def test_reader_of_one_version_fetches_what_changed_in_the_next(
    front: Front, tmp_path: Path
) -> None:
    with mount(front.host, tmp_path / "a", "index=publish") as first:
        tag = first.path / "team/versions:v1"
        fill(tag)
        before = {path.name: path.read_bytes() for path in (tag / "docs").iterdir()}
        orasfs("commit", "-q", tag)
        named = _layer(tag)["io.orasfs.layer.index"]
        with mount(front.host, tmp_path / "b") as second:
            orasfs("fetch", "-q", second.path / "team/versions/v1")
        orasfs("edit", tag)
        (tag / "docs/07").write_bytes(os.urandom(FILE_BYTES))
        (tag / "docs/new").write_bytes(b"new")
        (tag / "docs/00").unlink()
        assert "warning" not in orasfs("commit", "-q", tag).stderr
        assert _layer(tag)["io.orasfs.layer.index"] != named
        content = {path.name: path.read_bytes() for path in (tag / "docs").iterdir()}
    assert sum(before.get(name) != each for name, each in content.items()) == 2
    front.forget_requests()
    with mount(front.host, tmp_path / "b") as second:
        docs = second.path / "team/versions/v1/docs"
        assert {path.name: path.read_bytes() for path in docs.iterdir()} == content
        # Chunks of a MiB or less have the file that changed in them, and its neighbours.
        assert front.bytes_sent < WHOLE * 2 // 3
        assert xattr(docs / "03", "verified") == "false"
        orasfs("fetch", "-q", second.path / "team/versions/v1")
        assert xattr(docs / "03", "verified") == "true"
        assert (docs / "03").read_bytes() == content["03"]
    front.forget_requests()
    with mount(front.host, tmp_path / "c") as third:
        docs = third.path / "team/versions/v1/docs"
        assert {path.name: path.read_bytes() for path in docs.iterdir()} == content
        assert front.bytes_sent > WHOLE * 9 // 10, "it has no earlier version"


def _layer(artifact: Path) -> dict[str, str]:
    """Return the annotations of the only layer."""
    (layer,) = json.loads((artifact / ".oras/manifest.json").read_bytes())["layers"]
    annotations: dict[str, str] = layer["annotations"]
    return annotations


@pytest.mark.registry
def test_who_wants_no_published_index_asks_for_none(front: Front, tmp_path: Path) -> None:
    with mount(front.host, tmp_path / "a", "index=publish") as first:
        draft = first.path / "team/unwanted:v1"
        fill(draft)
        orasfs("commit", "-q", draft)
        content = (draft / "docs/07").read_bytes()
    front.forget_requests()
    for option in ("verify=strict", "index=ignore"):
        with mount(front.host, tmp_path / option, option) as second:
            assert (second.path / "team/unwanted/v1/docs/07").read_bytes() == content
        assert front.count("GET", REFERRERS) == front.count("GET", FALLBACK_TAG) == 0


@pytest.mark.registry
def test_same_artifact_again_sends_nothing(front: Front, tmp_path: Path) -> None:
    with mount(front.host, tmp_path / "a", "index=publish") as mounted:
        tag = mounted.path / "team/again:v1"
        fill(tag)
        said = orasfs("commit", "-q", tag).stdout
        front.forget_requests()
        orasfs("edit", tag)
        done = orasfs("commit", "-q", tag)
        assert (done.stdout, "warning" in done.stderr) == (said, False)
        assert front.count("POST") == front.count("PUT", r"/blobs/") == 0
        assert front.count("PUT", r"/manifests/sha256") == 0
        orasfs("edit", tag)
        (tag / "note").write_text("the directory beside it is kept")
        done = orasfs("commit", "-q", tag)
        assert (done.stdout == said, "warning" in done.stderr) == (False, False)
        (referrer,) = (tag / ".oras/referrers/sha256").iterdir()
        assert json.loads((referrer / ".oras/manifest.json").read_bytes())["layers"]


@pytest.mark.registry
def test_index_that_is_refused_is_a_warning(front: Front, tmp_path: Path) -> None:
    with mount(front.host, tmp_path / "a", "index=publish") as mounted:
        for tag, path in {"v1": r"/manifests/sha256:", "v2": r"/manifests/sha256-"}.items():
            front.clear()
            front.override(path, method="PUT", status=403)
            draft = mounted.path / f"team/refused:{tag}"
            fill(draft)
            done = orasfs("commit", "-q", draft)
            words = r"warning: the index of its packed directories is not published: .+"
            assert re.search(words, done.stderr)
            assert xattr(draft, "state") == "committed"
            assert (draft / "docs/00").stat().st_size == FILE_BYTES


def test_index_is_published_into_a_layout(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    (layout / "blobs").mkdir()
    with mount(f"oci:{layout}", tmp_path / "home", "index=publish") as mounted:
        draft = mounted.path / "v1"
        fill(draft)
        assert "warning" not in orasfs("commit", "-q", draft).stderr
        (referrer,) = (draft / ".oras/referrers/sha256").iterdir()
        assert xattr(referrer, "artifacttype") == "application/vnd.orasfs.layer-index.v1"
        assert sorted(path.name for path in mounted.path.iterdir()) == ["v1"]
