"""Publishing as a person does it: cp, orasfs commit, sync, mv and ln on real mounts."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.golden import golden_tags
from tests.support.mounted import PROJECT, Mounted, run
from tests.support.staged import GOLDEN_CREATED, golden_inputs

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

ORASFS = (sys.executable, "-m", "orasfs")


@dataclass(frozen=True)
class Place:
    """A repository in a mount, and how others name it."""

    mounted: Mounted
    repository: Path
    skopeo: str

    def orasfs(self, *words: str | Path, check: bool = True) -> "subprocess.CompletedProcess[str]":
        environ = {"PYTHONPATH": str(PROJECT)}
        return run([*ORASFS, *words], timeout=60, check=check, environ=environ)

    def inspect(self, tag: str) -> dict[str, object]:
        command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"{self.skopeo}:{tag}"]
        found = json.loads(run(command).stdout)
        assert isinstance(found, dict)
        return found

    def draft(self, name: str, **files: str) -> Path:
        path = self.repository / name
        path.mkdir()
        for file, text in files.items():
            (path / file).write_text(text)
        return path


def _xattr(path: Path, name: str) -> str:
    return run(["getfattr", "--only-values", "-n", f"user.oras.{name}", path]).stdout


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


def _layout(path: Path) -> Path:
    path.mkdir()
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    (path / "blobs").mkdir()
    return path


@pytest.fixture(params=["oci", pytest.param("registry", marks=pytest.mark.registry)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    epoch = {"SOURCE_DATE_EPOCH": str(GOLDEN_CREATED)}
    if request.param == "oci":
        layout = _layout(tmp_path / "layout")
        with Mounted(f"oci:{layout}", tmp_path / "home", "delete", environ=epoch) as mounted:
            yield Place(mounted, mounted.path, f"oci:{layout}")
        return
    server: DockerRegistry = request.getfixturevalue("server")
    name = f"test/{abs(hash(tmp_path)):x}"
    with Mounted(server.host, tmp_path / "home", "delete", environ=epoch) as mounted:
        first = mounted.path / f"{name}:first"
        first.parent.mkdir(exist_ok=True)
        first.mkdir()
        run([*ORASFS, "commit", "-q", first], environ={"PYTHONPATH": str(PROJECT)})
        yield Place(mounted, mounted.path / name, f"docker://{server.host}/{name}")


def test_the_golden_files_are_published_under_their_digest(place: Place, tmp_path: Path) -> None:
    golden_inputs(tmp_path / "inputs", "artifact.txt", "docs")
    draft = place.repository / "v1"
    draft.mkdir()
    run(["cp", tmp_path / "inputs/artifact.txt", draft])
    said = place.orasfs("commit", draft)
    digest = golden_tags()["untyped"].digest
    assert said.stdout.strip().endswith(f":v1@{digest}")
    assert run(["getfattr", "--only-values", "-n", "user.oras.digest", draft]).stdout == str(
        digest
    )
    assert (draft / "artifact.txt").read_text() == "hello world\n"
    with pytest.raises(OSError, match="Read-only"):
        (draft / "artifact.txt").write_text("no")


def test_a_copied_tree_is_the_same_after_its_commit(place: Place, tmp_path: Path) -> None:
    golden_inputs(tmp_path / "inputs", "docs", "nested")
    source, draft = tmp_path / "inputs", place.repository / "v1"
    draft.mkdir()
    run(["cp", "-a", f"{source}/.", draft])
    run(["diff", "-r", "--no-dereference", source, draft])
    run(["sync", draft])
    assert _xattr(draft, "state") == "committed"
    run(["diff", "-r", "--no-dereference", source, draft])
    assert len(place.inspect("v1")["layers"]) == 2  # type: ignore[arg-type]  # a list in JSON


def test_publishing_in_two_steps_replaces_a_tag_at_once(place: Place) -> None:
    for text in ("one", "two"):
        draft = place.draft(".new", file=text)
        early = run(["mv", "-T", draft, place.repository / "v1"], check=False)
        assert early.returncode != 0
        assert "busy" in early.stderr.lower()
        place.orasfs("commit", "-q", draft)
        run(["mv", "-T", draft, place.repository / "v1"])
        assert (place.repository / "v1/file").read_text() == text
        assert not draft.exists()


def test_tags_are_linked_moved_and_removed(place: Place) -> None:
    repository = place.repository
    for name in ("v1", "v2"):
        place.orasfs("commit", "-q", place.draft(name, file=name))
    run(["ln", "-s", "v1", repository / "latest"])
    assert (repository / "latest/file").read_text() == "v1"
    run(["ln", "-s", "v2", repository / ".t"])
    run(["mv", "-T", repository / ".t", repository / "latest"])
    assert (repository / "latest/file").read_text() == "v2"
    place.orasfs("tag", repository / "v1", "latest")
    assert place.inspect("latest") == place.inspect("v1")
    place.orasfs("rm", repository / "latest")
    assert place.inspect("v1")
    gone = place.orasfs("rm", repository / "latest", check=False)
    assert gone.returncode == 1
    assert (repository / "v1/file").read_text() == "v1"


def test_nothing_is_pushed_or_destroyed_by_accident(place: Place) -> None:
    repository = place.repository
    place.orasfs("commit", "-q", place.draft("v1", file="kept"))
    before = place.inspect("v1")
    commands: list[list[str | Path]] = [
        ["rm", "-rf", repository / "v1"],
        ["rmdir", repository / "v1"],
        ["find", repository, "-empty", "-delete"],
        ["ln", "-sf", "nowhere", repository / "v1"],
    ]
    for command in commands:
        run(command, check=False, timeout=60)
    assert place.inspect("v1") == before
    draft = place.draft("v2", file="draft")
    (draft / "shadow").symlink_to("/etc/shadow")
    failed = place.orasfs("commit", "-q", draft, check=False)
    assert failed.returncode == 9
    assert "shadow" in failed.stderr
    assert "shadow" in (draft / ".oras/error").read_text()
    place.orasfs("discard", draft)
    assert not draft.exists()


def test_a_file_that_is_open_for_writing_makes_the_commit_busy(place: Place) -> None:
    draft = place.draft("v1", file="text")
    with (draft / "open").open("w"):
        assert place.orasfs("commit", "-q", draft, check=False).returncode == 6
    place.orasfs("commit", "-q", draft)


@pytest.mark.registry
def test_of_two_mounts_the_second_to_commit_is_told_that_the_tag_moved(tmp_path: Path) -> None:
    with DockerRegistry() as registry:
        mounts = [Mounted(f"{registry.host}/team", tmp_path / name) for name in ("a", "b")]
        with mounts[0], mounts[1]:
            drafts = [mount.path / "site:v1" for mount in mounts]
            for number, draft in enumerate(drafts):
                draft.mkdir()
                (draft / "file").write_text(str(number))
            environ = {"PYTHONPATH": str(PROJECT)}
            run([*ORASFS, "commit", "-q", drafts[0]], environ=environ)
            late = run([*ORASFS, "commit", "-q", drafts[1]], check=False, environ=environ)
            assert late.returncode == 3
            assert (drafts[1] / "file").read_text() == "1"
            run(["setfattr", "-n", "user.oras.force", "-v", "1", drafts[1]])
            run([*ORASFS, "commit", "-q", drafts[1]], environ=environ)


@pytest.mark.registry
def test_a_failed_sync_keeps_the_draft_and_the_next_completes_it(tmp_path: Path) -> None:
    with (
        DockerRegistry() as registry,
        Front(registry.port) as front,
        Mounted(f"{front.host}/team", tmp_path) as mounted,
    ):
        draft = mounted.path / "site:v1"
        draft.mkdir()
        (draft / "file").write_text("text")
        front.override(r"/manifests/v1", method="PUT", status=403)
        failed = run(["sync", draft], check=False, timeout=60)
        assert failed.returncode == 1
        assert "Permission denied" in failed.stderr
        assert "403" in (draft / ".oras/error").read_text()
        front.clear()
        run(["sync", draft])
        assert front.count("POST", r"/uploads/") == 2
        assert (draft / "file").read_text() == "text"


@pytest.mark.registry
def test_an_interrupted_commit_leaves_the_draft_whole(tmp_path: Path) -> None:
    with DockerRegistry() as registry, Mounted(f"{registry.host}/team", tmp_path) as mounted:
        draft = mounted.path / "site:v1"
        draft.mkdir()
        with (draft / "open").open("w"):  # the commit waits for it
            process = subprocess.Popen(
                [*ORASFS, "commit", draft], stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )  # fmt: skip
            assert process.stderr is not None
            assert "waiting" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "the draft is as it was" in said
        run([*ORASFS, "commit", draft], environ={"PYTHONPATH": str(PROJECT)})


def test_unmounting_names_the_drafts_that_are_left(place: Place) -> None:
    place.orasfs("commit", "-q", place.draft("v1", file="text"))
    place.draft("v2", file="text")
    said = place.orasfs("umount", place.mounted.path)
    assert said.stderr.startswith("Not committed")
    assert said.stderr.count("v2\n") == 1
    assert "v1" not in said.stderr
    place.mounted.wait()
    place.mounted.start()
    assert (place.repository / "v2/file").read_text() == "text"


def test_drafts_are_there_again_after_a_crash(place: Place) -> None:
    draft = place.draft("v1", file="text")
    run(["sync", draft / "file"])
    place.mounted.kill9()
    place.mounted.stop()
    place.mounted.start()
    assert (draft / "file").read_text() == "text"
    place.orasfs("commit", "-q", draft)
    assert place.inspect("v1")["layers"]


@pytest.mark.registry
def test_a_link_across_repositories_copies_by_its_commit(tmp_path: Path) -> None:
    with (
        DockerRegistry() as registry,
        Front(registry.port) as front,
        Mounted(front.host, tmp_path) as mounted,
    ):
        environ = {"PYTHONPATH": str(PROJECT)}
        source = mounted.path / "team/site:v1"
        source.parent.mkdir(exist_ok=True)
        source.mkdir()
        (source / "file").write_text("text")
        (source / "docs").mkdir()
        (source / "docs/read.me").write_text("read me")
        run([*ORASFS, "commit", "-q", source], environ=environ)
        copy = mounted.path / "team/copy:v1"
        run(["ln", "-s", "site:v1", copy])
        assert _xattr(copy, "state") in ("draft", "modified")
        front.forget_requests()
        run([*ORASFS, "commit", "-q", copy], environ=environ)
        assert _xattr(copy, "digest") == _xattr(source, "digest")
        assert front.count("PUT", r"/uploads/") == 0
        assert front.count("POST", r"mount=") == 3
        assert (copy / "docs/read.me").read_text() == "read me"

        mounted.stop()
        mounted.start()  # the cache remembers where the blobs are
        front.forget_requests()
        again = mounted.path / "team/again:v1"
        run(["cp", "-aT", copy, again])
        run([*ORASFS, "commit", "-q", again], environ=environ)
        assert front.count("POST", r"mount=") == 3
        assert front.count("PUT", r"/uploads/") == 0
