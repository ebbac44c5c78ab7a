"""Large trees through a mount: committed, mounted elsewhere, compared; and again from a copy.

ORASFS_TREE_FILES says how many files the tree has; a layout gets a tenth of them.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.gestures import LayoutOne, RemoteOne, Repository, commit, written
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

FILES = int(os.environ.get("ORASFS_TREE_FILES", "20000"))
PER_DIRECTORY = 100
MANY_SECONDS = 240.0
EPOCH = 1_700_000_000


@dataclass(frozen=True)
class Bench:
    """A repository, and the front that counts where it is of a registry."""

    repository: Repository
    front: Front | None

    def mounted(self, home: Path, *options: str, epoch: int | None = None) -> Mounted:
        environ = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
        return Mounted(self.repository.source, home, *options, environ=environ)


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(params=["registry", "oci"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "oci":
        yield Bench(LayoutOne(tmp_path / "layout"), None)
        return
    registry: DockerRegistry = request.getfixturevalue("server")
    with Front(registry.port) as front:
        name = f"test/r{os.stat(tmp_path).st_ino}"  # noqa: PTH116 - one call
        yield Bench(RemoteOne(registry, front.host, name), front)


def make_tree(top: Path, files: int) -> None:
    """Make a tree with so many files, and some of all that the reference client packs."""
    for number in range(files):
        directory = top / f"d{number // PER_DIRECTORY:03}"
        if number % PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
            (directory / "link").symlink_to(f"f{number:05}")
        path = directory / f"f{number:05}"
        path.write_bytes(b"%d\n" % number * (number % 7))
        if number % 50 == 0:
            path.chmod(0o755)
            (directory / f"hard{number}").hardlink_to(path)
    (top / "empty").mkdir()
    (top / "d000/caf\u00e9 \U0001f600").write_text("a name")
    (top / ("long" * 40)).write_text("another")
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        seconds = EPOCH - number
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9), follow_symlinks=False)
    os.utime(top, (EPOCH, EPOCH))


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    """Return what the reference client keeps of a tree; hard links are files of their own."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            path = Path(directory, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = path.readlink()
            mtime = int(status.st_mtime)
            found[str(path.relative_to(top))] = (status.st_mode, mtime, content)
    return found


def differences(one: dict[str, tuple[object, ...]], two: dict[str, tuple[object, ...]]) -> object:
    """Return some names that differ, for whoever reads a failure."""
    return sorted(name for name in {*one, *two} if one.get(name) != two.get(name))[:10]


def test_a_large_tree_arrives_and_its_copy_sends_nothing(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_tree(source, FILES if bench.front is not None else FILES // 10)
    with bench.mounted(tmp_path / "one", epoch=EPOCH) as mounted:
        draft = bench.repository.draft(mounted.path, "v1")
        draft.mkdir()
        run(["cp", "-a", source, draft / "tree"], timeout=MANY_SECONDS)
        commit(draft, timeout=MANY_SECONDS)
    expected = facts(source)
    with bench.mounted(tmp_path / "two") as mounted:
        found = facts(bench.repository.tag(mounted.path, "v1") / "tree")
        assert not differences(found, expected)
    digest = bench.repository.tags()["v1"]
    shutil.copytree(source, tmp_path / "second", symlinks=True)  # hard links become files
    if bench.front is not None:
        bench.front.forget_requests()
    with bench.mounted(tmp_path / "three") as mounted:
        draft = bench.repository.tag(mounted.path, "v2")
        draft.mkdir()
        os.setxattr(draft, "user.oras.epoch", str(EPOCH).encode())
        run(["cp", "-a", tmp_path / "second", draft / "tree"], timeout=MANY_SECONDS)
        commit(draft, timeout=MANY_SECONDS)
    assert bench.repository.tags() == {"v1": digest, "v2": digest}
    if bench.front is not None:
        assert [method for method, _ in written(bench.front)] == ["PUT"]
        assert written(bench.front)[0][1].endswith("/manifests/v2")


def test_later_times_are_clamped_to_the_epoch(bench: Bench, tmp_path: Path) -> None:
    with bench.mounted(tmp_path / "one", epoch=EPOCH) as mounted:
        for number in range(2):
            draft = bench.repository.draft(mounted.path, f"v{number}")
            (draft / "docs").mkdir(parents=True)
            (draft / "docs/page").write_text("page")
            os.utime(draft / "docs/page", (EPOCH + 5 + number, EPOCH + 5 + number))
            commit(draft)
    tags = bench.repository.tags()
    assert tags["v0"] == tags["v1"]


def test_the_same_content_again_is_not_sent_again(bench: Bench, tmp_path: Path) -> None:
    """The committed tag is edited without a change, and a draft is begun from it."""
    with bench.mounted(tmp_path / "one", epoch=EPOCH) as mounted:
        first = bench.repository.draft(mounted.path, "v1")
        first.mkdir()
        (first / "file").write_bytes(os.urandom(100_000))
        commit(first)
        content = (first / "file").read_bytes()
        digest = bench.repository.tags()["v1"]
        if bench.front is not None:
            bench.front.forget_requests()
        again = bench.repository.tag(mounted.path, "v2")
        again.mkdir()
        (again / "file").write_bytes(content)
        assert commit(again) == digest
        if bench.front is not None:
            assert [path.rpartition("/")[2] for _, path in written(bench.front)] == ["v2"]
