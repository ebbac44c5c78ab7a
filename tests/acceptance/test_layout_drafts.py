"""Drafts beside local layouts: the embedded repositories, and one layout by its path."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.golden import GOLDEN
from tests.support.mounted import Mounted, run
from tests.support.staged import GOLDEN_CREATED

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

COMMIT_FROM_INSIDE = (
    "import os, sys, time\n"
    "os.chdir(sys.argv[1])\n"
    "before = os.stat('.').st_ino\n"
    "os.fsync(os.open('.', os.O_RDONLY))\n"
    "assert os.getxattr('.', 'user.oras.state') == b'committed'\n"
    "time.sleep(0.4)\n"
    "assert os.stat(sys.argv[1]).st_ino == before\n"
    "assert open(sys.argv[1] + '/p/q').read() == 'content'\n"
)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "data/orasfs/local/site"
    shutil.copytree(GOLDEN / "layout", path, copy_function=shutil.copyfile)
    return path


@pytest.mark.parametrize("name", ["site:new", "site/new"])
def test_a_draft_in_an_embedded_repository_is_committed(
    layout: Path, tmp_path: Path, name: str
) -> None:
    with Mounted(None, tmp_path, "tag_ttl=0.1") as mounted:
        draft = mounted.path / name
        (draft / "p").mkdir(parents=True)
        (draft / "p/q").write_text("content")
        run([sys.executable, "-c", COMMIT_FROM_INSIDE, draft])
        assert (mounted.path / "site/new/p/q").read_text() == "content"


def test_the_embedded_repositories_are_begun_from_nothing(tmp_path: Path) -> None:
    local = tmp_path / "data/orasfs/local"
    with Mounted(None, tmp_path) as mounted:
        assert list(mounted.path.iterdir()) == []
        draft = mounted.path / "app:v1"
        draft.mkdir()
        (draft / "file").write_text("text")
        run(["sync", draft])
        assert (mounted.path / "app/v1/file").read_text() == "text"
        (mounted.path / "lib/v1").mkdir(parents=True)
        assert sorted(path.name for path in mounted.path.iterdir()) == ["app", "lib"]
        run(["ln", "-s", "app/v1", mounted.path / "lib:v2"])
        run(["sync", mounted.path / "lib:v2"])
        assert (mounted.path / "lib/v2/file").read_text() == "text"
        for path, error in [("app", "not empty"), ("lib", "not empty"), ("Bad", "Invalid")]:
            words = ["mkdir" if path == "Bad" else "rmdir", mounted.path / path]
            assert error in run(words, check=False).stderr
        (mounted.path / "typo").mkdir()
        assert (local / "typo/oci-layout").is_file()
        (mounted.path / "typo").rmdir()
        assert not (local / "typo").exists()
    copied = run(["skopeo", "inspect", "--raw", f"oci:{local / 'app'}:v1"])
    assert '"title":"file"' in copied.stdout.replace("org.opencontainers.image.", "")


@pytest.mark.parametrize(
    ("kind", "file", "media_type", "annotations"),
    [
        ("sbom", "nested/a/top.txt", "text/plain", {}),
        ("signature", "config.json", "application/json", {"who": "one"}),
    ],
)
def test_what_is_attached_has_the_golden_digest(
    layout: Path,
    tmp_path: Path,
    kind: str,
    file: str,
    media_type: str,
    annotations: dict[str, str],
) -> None:
    with Mounted(f"oci:{layout}", tmp_path, "pack=files") as mounted:
        referrers = mounted.path / "single/.oras/referrers"
        before = {path.name for path in (referrers / "sha256").iterdir()}
        draft = referrers / kind
        (draft / file).parent.mkdir(parents=True)
        shutil.copyfile(GOLDEN / "inputs" / file, draft / file)
        os.setxattr(draft / file, "user.oras.mediatype", media_type.encode())
        os.setxattr(draft, "user.oras.artifacttype", f"application/vnd.acme.{kind}".encode())
        os.setxattr(draft, "user.oras.epoch", str(GOLDEN_CREATED).encode())
        for key, value in annotations.items():
            os.setxattr(draft, f"user.oras.annotation.{key}", value.encode())
        run(["sync", draft])
        assert {path.name for path in (referrers / "sha256").iterdir()} == before
        assert os.getxattr(draft, "user.oras.digest").decode().partition(":")[2] in before


def test_a_tag_of_a_layout_is_edited(layout: Path, tmp_path: Path) -> None:
    with Mounted(f"oci:{layout}", tmp_path) as mounted:
        single = mounted.path / "single"
        os.setxattr(single, "user.oras.edit", b"1")
        for _ in range(100):
            if os.getxattr(single, "user.oras.state") == b"modified":
                break
        (single / "artifact.txt").write_text("changed")
        run(["sync", single])
        assert (single / "artifact.txt").read_text() == "changed"
    with Mounted(f"oci:{layout}", tmp_path) as mounted:
        assert (mounted.path / "single/artifact.txt").read_text() == "changed"
