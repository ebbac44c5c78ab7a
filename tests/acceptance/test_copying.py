"""Promoting as a person does it: ln -s and orasfs tag between real registries and layouts."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.gestures import LayoutOne, commit, orasfs, refused, reports
from tests.support.mounted import Mounted, run
from tests.support.publish import (
    GOLDEN_LAYOUT,
    OCI_INDEX,
    OCI_MANIFEST,
    layout_tags,
    publish_layout,
)
from tests.support.secrets import HTPASSWD, write_config

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.registry]


@dataclass(frozen=True)
class Two:
    """Two registries, in one mount of all."""

    near: DockerRegistry
    far: DockerRegistry
    front: Front
    mount: Path
    prefix: str

    @property
    def source(self) -> str:
        return f"{self.near.host}/golden"

    def name(self, repository: str) -> str:
        """Return a repository of the far registry that only this test has."""
        return f"{self.prefix}/{repository}"

    def beside(self, repository: str, tag: str) -> Path:
        """Return the path by which a draft is begun there."""
        return self.mount / self.front.host / f"{self.name(repository)}:{tag}"

    def digest(self, repository: str, reference: str) -> str:
        path = f"/v2/{self.name(repository)}/manifests/{reference}"
        headers = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
        status, fields, _ = self.far.request("HEAD", path, headers=headers)
        return fields["docker-content-digest"] if status == 200 else ""


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[DockerRegistry, DockerRegistry]]:
    with DockerRegistry() as near, DockerRegistry() as far:
        for tag in ("index", "multi", "single"):
            publish_layout(near, GOLDEN_LAYOUT, tag, "golden")
        yield near, far


@pytest.fixture
def two(servers: tuple[DockerRegistry, DockerRegistry], tmp_path: Path) -> Iterator[Two]:
    near, far = servers
    with Front(far.port) as front, Mounted("registries", tmp_path / "home") as mounted:
        yield Two(near, far, front, mounted.path, f"t{abs(hash(tmp_path)):x}")


def xattr(path: Path, name: str) -> str:
    return run(["getfattr", "--only-values", "-n", f"user.oras.{name}", path]).stdout


def golden(tag: str) -> str:
    return str(layout_tags()[tag]["digest"])


def link(text: str, path: Path) -> Path:
    run(["mkdir", "-p", path.parent])
    run(["ln", "-s", text, path])
    return path


def test_an_index_goes_to_another_registry_with_its_children_and_is_then_mounted(two: Two) -> None:
    draft = link(f"{two.source}:index", two.beside("app", "v1"))
    assert xattr(draft, "state") == "draft"
    children = sorted(path.name for path in draft.iterdir())
    assert len(children) == 2
    with pytest.raises(OSError, match="Read-only"):
        (draft / "more").write_text("")
    assert commit(draft) == golden("index") == two.digest("app", "v1")
    assert xattr(draft, "state") == "committed"
    assert sorted(path.name for path in draft.iterdir()) == children
    assert (draft / children[0] / "artifact.txt").read_bytes()
    inspected = run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false",
         f"docker://{two.far.host}/{two.name('app')}:v1"]
    )  # fmt: skip
    assert json.loads(inspected.stdout)["manifests"]
    uploads = two.front.count("PUT", r"/uploads/")
    assert uploads == 2  # the one file of both children, and the empty config

    two.front.forget_requests()
    second = link("app/v1", two.beside("release", "v1"))
    assert commit(second) == golden("index")
    assert two.front.count("PUT", r"/uploads/") == 0
    assert two.front.count("POST", r"mount=") == uploads


def test_what_was_interrupted_goes_on_from_what_is_there(two: Two) -> None:
    draft = link(f"{two.source}/multi", two.beside("cut", "v1"))
    fault = two.front.override(r"/manifests/v1", method="PUT", status=403)
    status, words = refused(draft)
    assert status
    assert "403" in words or "denied" in words.lower() or "not allowed" in words, words
    assert two.digest("cut", "v1") == ""
    sent = two.front.count("PUT", r"/uploads/")
    assert sent
    two.front.clear()
    two.front.forget_requests()
    assert fault is not None
    assert commit(draft) == golden("multi")
    assert two.front.count("PUT", r"/uploads/") == 0
    (report,) = reports(two.mount)
    assert report["skipped"] == report["blobs"]


def test_a_layout_gives_and_takes(two: Two, tmp_path: Path) -> None:
    draft = link(f"oci:{GOLDEN_LAYOUT}:index", two.beside("layout", "v1"))
    assert commit(draft) == golden("index") == two.digest("layout", "v1")
    taking = LayoutOne(tmp_path / "taking")
    with Mounted(taking.source, tmp_path / "other") as mounted:
        path = link(f"{two.far.host}/{two.name('layout')}:v1", mounted.path / "copied")
        assert commit(path) == golden("index")
        orasfs("tag", two.mount / two.front.host / two.name("layout") / "v1", mounted.path / "too")
    assert taking.tags() == {"copied": golden("index"), "too": golden("index")}
    copied = tmp_path / "out"
    run(["skopeo", "copy", "--all", f"oci:{taking.path}:copied", f"oci:{copied}:x"], check=False)


def test_a_private_registry_is_copied_from(two: Two, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"  htpasswd:\n    realm: test\n    path: {tmp_path / 'htpasswd'}\n"
    with DockerRegistry(two.near.directory, authentication=auth) as private:
        draft = two.beside("private", "v1")
        text = f"{private.host}/golden:index"
        run(["mkdir", "-p", draft.parent])
        assert "Permission denied" in run(["ln", "-s", text, draft], check=False).stderr
        config = two.mount.parent / ".docker/config.json"
        config.parent.mkdir()
        write_config(config, private.host)
        assert commit(link(text, draft)) == golden("index")
    assert two.digest("private", "v1") == golden("index")


def test_a_base_elsewhere_gives_its_unchanged_layers(two: Two) -> None:
    draft = two.beside("derived", "v1")
    run(["mkdir", "-p", draft])
    run(["setfattr", "-n", "user.oras.base", "-v", f"{two.source}:multi", draft])
    assert list((draft / "docs").iterdir())
    (draft / "artifact.txt").write_text("another\n")
    digest = commit(draft)
    assert digest != golden("multi")
    status, _, body = two.far.request(
        "GET", f"/v2/{two.name('derived')}/manifests/v1", headers={"Accept": OCI_MANIFEST}
    )
    assert status == 200
    old = json.loads(run(["cat", two.mount / two.source / "multi/.oras/manifest.json"]).stdout)
    new = json.loads(body)
    assert [one["digest"] for one in new["layers"][1:]] == [
        one["digest"] for one in old["layers"][1:]
    ]
    assert new["config"] == old["config"]


def test_a_tag_is_promoted_onto_one_that_exists(two: Two) -> None:
    link(f"{two.source}:single", two.beside("stable", "v1"))
    commit(two.beside("stable", "v1"))
    stable = two.mount / two.front.host / two.name("stable") / "v1"
    source = two.mount / two.near.host / "golden/multi"
    done = orasfs("tag", source, stable)
    assert golden("multi") in done.stdout
    assert two.digest("stable", "v1") == golden("multi")
    assert (stable / "docs").is_dir()
    assert orasfs("tag", source, stable, f"{stable}2").returncode == 0  # also where it is already
    assert two.digest("stable", "v12") == golden("multi")


def test_an_artifact_is_attached_by_mkdir(two: Two) -> None:
    draft = link(f"{two.source}:single", two.beside("signed", "v1"))
    subject = commit(draft)
    referrers = draft / ".oras/referrers"
    assert list(referrers.iterdir()) == []
    assert not (referrers / "sha256").exists()
    bill = referrers / "sbom"
    bill.mkdir()
    assert [path.name for path in referrers.iterdir()] == ["sbom"]
    (bill / "sbom.json").write_text("{}")
    status, words = refused(bill)
    assert status == 9
    assert "user.oras.artifacttype" in words
    run(["setfattr", "-n", "user.oras.artifacttype", "-v", "application/vnd.acme.sbom", bill])
    digest = commit(bill)
    assert two.digest("signed", digest) == digest
    _, _, body = two.far.request(
        "GET", f"/v2/{two.name('signed')}/manifests/{subject.replace(':', '-')}",
        headers={"Accept": OCI_INDEX},
    )  # fmt: skip
    assert [entry["digest"] for entry in json.loads(body)["manifests"]] == [digest]
    found = referrers / "sha256" / digest.partition(":")[2]
    assert (found / "sbom.json").read_text() == "{}"
    assert (bill / "sbom.json").read_text() == "{}"  # by its old name, as long as it is mounted
    manifest = json.loads((found / ".oras/manifest.json").read_bytes())
    assert manifest["subject"]["digest"] == subject
    second = referrers / "signature"
    second.mkdir()
    run(["setfattr", "-n", "user.oras.artifacttype", "-v", "application/vnd.acme.sig", second])
    run(["setfattr", "-n", "user.oras.annotation.who", "-v", "me", second])
    run(["sync", second])
    assert len([*(referrers / "sha256").iterdir()]) == 2

    copy = link(f"{two.front.host}/{two.name('signed')}:v1", two.beside("whole", "v1"))
    run(["setfattr", "-n", "user.oras.referrers", "-v", "1", copy])
    commit(copy)
    assert len([*(copy / ".oras/referrers/sha256").iterdir()]) == 2


def test_a_draft_that_is_to_be_attached_outlives_the_mount(tmp_path: Path) -> None:
    layout = LayoutOne(tmp_path / "layout")
    with Mounted(layout.source, tmp_path / "home") as mounted:
        link(f"oci:{GOLDEN_LAYOUT}:single", mounted.path / "v1")
        commit(mounted.path / "v1")
        draft = mounted.path / "v1/.oras/referrers/note"
        draft.mkdir()
        (draft / "note.txt").write_text("note")
        run(["setfattr", "-n", "user.oras.artifacttype", "-v", "application/vnd.acme.n", draft])
        mounted.kill9()
        subprocess.run(["fusermount3", "-u", "-z", "--", mounted.path], check=False)
        mounted.start()
        assert (draft / "note.txt").read_text() == "note"
        digest = commit(draft).partition(":")[2]
        found = mounted.path / "v1/.oras/referrers/sha256" / digest
        assert (found / "note.txt").read_text() == "note"
        gone = mounted.path / "v1/.oras/referrers/gone"
        gone.mkdir()
        orasfs("discard", gone)
        assert not gone.exists()
