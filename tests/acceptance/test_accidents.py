"""Accidents with drafts and committed tags, on a real mount: none pushes or destroys anything."""

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.gestures import (
    LayoutOne,
    RemoteOne,
    Repository,
    commit,
    orasfs,
    refused,
    written,
)
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

REFUSED_BUSY = 6
REFUSED_INVALID = 9


@dataclass
class Scene:
    """A mounted repository that has v1, which must stay what it is."""

    mount: Path
    repository: Repository
    front: Front | None
    before: dict[str, str]

    @property
    def v1(self) -> Path:
        return self.repository.tag(self.mount, "v1")

    def nothing_happened(self) -> bool:
        """Tell whether the repository is what it was, and was never asked to change."""
        asked = written(self.front) if self.front is not None else []
        return not asked and dict(self.repository.tags()) == self.before


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(scope="module", params=["registry", "oci"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mounted, Repository, Front | None]]:
    home = tmp_path_factory.mktemp("home")
    if request.param == "oci":
        with Mounted((layout := LayoutOne(home / "layout")).source, home) as mounted:
            yield mounted, layout, None
        return
    registry: DockerRegistry = request.getfixturevalue("server")
    with Front(registry.port) as front:
        one = RemoteOne(registry, front.host, "team/site")
        with Mounted(one.source, home, "tag_ttl=0") as mounted:
            yield mounted, one, front


@pytest.fixture(scope="module")
def filled(
    opened: tuple[Mounted, Repository, Front | None],
) -> tuple[Mounted, Repository, Front | None]:
    mounted, repository, _ = opened
    first = repository.draft(mounted.path, "v1")
    first.mkdir()
    (first / "index.html").write_text("<p>one</p>")
    (first / "empty").touch()
    (first / "docs").mkdir()
    (first / "docs/hollow").mkdir()
    (first / "docs/a").touch()
    commit(first)
    return opened


@pytest.fixture
def scene(filled: tuple[Mounted, Repository, Front | None]) -> Scene:
    mounted, repository, front = filled
    if front is not None:
        front.forget_requests()
    return Scene(mounted.path, repository, front, dict(repository.tags()))


@pytest.fixture
def draft(scene: Scene) -> Iterator[Path]:
    path = scene.repository.tag(scene.mount, "draft")
    path.mkdir()
    yield path
    run(["rm", "-rf", path])
    assert scene.nothing_happened()


def test_a_database_pushes_nothing(draft: Path, scene: Scene) -> None:
    for sql in ("create table t (a)", "insert into t values (1)", "pragma journal_mode=wal",
                "insert into t values (2)", "pragma wal_checkpoint", "vacuum"):  # fmt: skip
        run(["sqlite3", draft / "db", sql])
    assert run(["sqlite3", draft / "db", "select sum(a) from t"]).stdout == "3\n"
    assert scene.nothing_happened()


def test_shredding_and_syncing_what_is_below_pushes_nothing(draft: Path, scene: Scene) -> None:
    (draft / "sub").mkdir()
    (draft / "sub/secret").write_text("secret" * 1000)
    run(["sync", draft / "sub", draft / "sub/secret"])
    run(["sync", "-d", draft])
    run(["sync", "-f", draft])
    run(["shred", "-n", "2", "-u", draft / "sub/secret"])
    assert not list((draft / "sub").iterdir())
    assert scene.nothing_happened()


def test_a_directory_of_another_disk_cannot_be_moved_onto_a_tag(
    scene: Scene, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "new.html").write_text("new")
    for what, how in ((site, "-T"), (site / "new.html", "-n"), (site / "new.html", "-fT")):
        run(["mv", how, what, scene.v1], check=False)
        assert (site / "new.html").read_text() == "new"
        assert (scene.v1 / "index.html").read_text() == "<p>one</p>"
    assert scene.nothing_happened()


def test_find_delete_destroys_nothing(scene: Scene, draft: Path) -> None:
    (draft / "kept").write_text("content")
    run(["find", scene.mount, "-empty", "-delete"], check=False)
    assert (draft / "kept").read_text() == "content"
    assert {each.name for each in scene.v1.iterdir()} == {"docs", "empty", "index.html"}
    assert scene.nothing_happened()


def test_git_finds_no_repository_and_asks_nothing_of_it(scene: Scene, draft: Path) -> None:
    for place in (scene.mount, scene.v1, scene.v1.parent, draft):
        environ = {"GIT_DISCOVERY_ACROSS_FILESYSTEM": "1"}
        done = run(["git", "-C", place, "status"], check=False, environ=environ)
        assert "not a git repository" in done.stderr
    assert scene.nothing_happened()


def test_a_mapped_file_refuses_the_commit(scene: Scene, draft: Path) -> None:
    with (draft / "mapped").open("w+b") as file:
        file.truncate(10_000)
        mapped = mmap.mmap(file.fileno(), 0)
    mapped[5000:5004] = b"mark"
    status, said = refused(draft)
    assert status == REFUSED_BUSY
    assert "open for writing" in said
    with pytest.raises(OSError, match="busy"):
        _fsync(draft)
    mapped.close()
    assert (draft / "mapped").read_bytes()[5000:5004] == b"mark"
    assert scene.nothing_happened()


def test_a_link_out_of_the_draft_refuses_the_commit(scene: Scene, draft: Path) -> None:
    (draft / "f").write_text("content")
    (draft / "leak").symlink_to("/etc/shadow")
    status, said = refused(draft)
    assert status == REFUSED_INVALID
    assert "leak" in said
    with pytest.raises(OSError, match="Invalid argument"):
        _fsync(draft)
    assert "leak" in (draft / ".oras/error").read_text()
    assert scene.nothing_happened()


def test_a_link_that_leads_out_through_another_refuses_the_commit(
    scene: Scene, draft: Path
) -> None:
    (draft / "out").symlink_to("/etc")
    (draft / "leak").symlink_to("out/passwd")
    assert refused(draft)[0] == REFUSED_INVALID


def test_removing_everything_changes_nothing(scene: Scene) -> None:
    for place in (scene.v1 / "docs", scene.v1, scene.v1.parent, scene.mount / ".orasfs",
                  scene.v1 / ".oras", scene.mount):  # fmt: skip
        run(["rm", "-rf", place], check=False)
    code = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"
    run([sys.executable, "-c", code, scene.mount])
    assert (scene.v1 / "index.html").read_text() == "<p>one</p>"
    assert scene.nothing_happened()


def test_unmounting_pushes_nothing_and_the_draft_stays(
    filled: tuple[Mounted, Repository, Front | None], scene: Scene, draft: Path
) -> None:
    mounted = filled[0]
    (draft / "f").write_text("content")
    mounted.stop()
    mounted.start()
    assert (draft / "f").read_text() == "content"
    assert scene.nothing_happened()


def test_without_leave_nothing_is_removed_from_the_registry(scene: Scene) -> None:
    done = orasfs("rm", scene.v1, check=False)
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert run(["mv", "-T", scene.v1, scene.v1.parent / "v9"], check=False).returncode
    assert scene.nothing_happened()


def test_a_command_says_what_refused_it_and_nothing_older(scene: Scene) -> None:
    run(["rmdir", scene.v1], check=False)  # refused, in other words
    unknown = f"{scene.v1}@sha256:{'0' * 64}"
    done = orasfs("rm", unknown, check=False)
    assert done.stderr == f"Error: {unknown}: No such file or directory\n"
    assert "needs the mount option delete" in orasfs("rm", scene.v1, check=False).stderr


@pytest.mark.parametrize("verb", ["commit", "discard"])
def test_a_command_for_a_draft_says_so_of_what_is_in_it(verb: str, draft: Path) -> None:
    (draft / "docs").mkdir()
    done = orasfs(verb, draft / "docs", check=False)
    assert done.returncode
    assert f"{verb}: is for the top of the draft" in done.stderr
    assert (draft / "docs").is_dir()


def test_a_site_is_copied_again_after_a_push_that_failed(
    filled: tuple[Mounted, Repository, Front | None], tmp_path: Path
) -> None:
    mounted, repository, front = filled
    if front is None:
        pytest.skip("a layout is not away")
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_text("<p>two</p>")
    (site / "sub/page.html").write_text("page")
    path = repository.draft(mounted.path, "v2")
    run(["cp", "-rT", site, path])
    front.override(r"/uploads/", method="POST", status=403, body=b"{}")
    assert refused(path)[0] == 4
    front.clear()
    (site / "index.html").write_text("<p>three</p>")
    run(["cp", "-rT", site, path])
    commit(path)
    published = repository.tag(mounted.path, "v2")
    assert run(["diff", "-r", site, published]).stdout == ""
    assert "v2" in repository.tags()
    assert run(["cp", "-rT", site, path], check=False).returncode
    assert run(["diff", "-r", site, published]).stdout == ""


def _fsync(directory: Path) -> None:
    """fsync(2) a directory from a process of its own: it may take long."""
    code = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "try:\n    os.fsync(fd)\nexcept OSError as e:\n    sys.exit(e.errno)\n"
    )
    command = (sys.executable, "-c", code, str(directory))
    status = subprocess.run(command, timeout=60, check=False).returncode
    if status:
        raise OSError(status, os.strerror(status))
