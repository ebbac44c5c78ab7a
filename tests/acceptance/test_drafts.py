"""Drafts through a real mount: what people and tools do to a directory, and what outlives them."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.support.filechecker import check_file
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_files

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

CHECKED_OPERATIONS = int(os.environ.get("ORASFS_FILE_OPERATIONS", "1500"))


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        publish_files(registry, "team/site", "v1", **{"index.html": b"<p>one</p>"})
        yield registry


@pytest.fixture(scope="module")
def mounted(registry: FakeRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted(registry.host, tmp_path_factory.mktemp("home")) as mounted:
        yield mounted
        assert mounted.stop() == 0, mounted.errors()


@pytest.fixture
def draft(mounted: Mounted) -> Iterator[Path]:
    path = mounted.path / "team/new:v1"
    path.mkdir()
    yield path
    run(["rm", "-rf", path])
    assert not path.exists()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with everything that a copy should keep."""
    top = tmp_path / "source"
    (top / "sub/deep").mkdir(parents=True)
    (top / "empty").mkdir()
    for number in range(40):
        (top / "sub" / f"{number:02}").write_bytes(os.urandom(number * 1000))
    (top / "sub/deep/script").write_text("#!/bin/sh\n")
    (top / "sub/deep/script").chmod(0o755)
    (top / "private").write_text("secret")
    (top / "private").chmod(0o400)
    (top / "caf\udce9").write_bytes(b"no UTF-8")
    (top / "link").symlink_to("sub/deep/script")
    (top / "dangling").symlink_to("/nowhere")
    (top / "hard").hardlink_to(top / "sub/01")
    os.setxattr(top / "sub/01", "user.mine", b"kept")
    (top / "sub/deep").chmod(0o750)
    for path in [*top.rglob("*"), top]:
        os.utime(path, ns=(10**18, 10**18 + 123_456_789), follow_symlinks=False)
    return top


def summary(top: Path) -> dict[str, tuple[object, ...]]:
    """Return what a copy should keep of everything below a directory."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        found[str(path.relative_to(top))] = (status.st_mode, status.st_mtime_ns, links, content)
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_cp_keeps_everything(draft: Path, source: Path) -> None:
    run(["cp", "-a", source, draft / "copy"])
    assert summary(draft / "copy") == summary(source)
    assert os.getxattr(draft / "copy/sub/01", "user.mine") == b"kept"


def test_rsync_keeps_everything_and_the_second_time_does_nothing(
    draft: Path, source: Path
) -> None:
    run(["rsync", "-aHX", f"{source}/", draft / "copy/"])
    assert summary(draft / "copy") == summary(source)
    again = run(["rsync", "-aHX", "--itemize-changes", f"{source}/", draft / "copy/"])
    assert again.stdout == ""


def test_tar_and_unzip_extract(draft: Path, source: Path, tmp_path: Path) -> None:
    run(["tar", "-C", source, "-cf", tmp_path / "a.tar", "."])
    (draft / "tar").mkdir()
    run(["tar", "-C", draft / "tar", "-xpf", tmp_path / "a.tar"])
    assert summary(draft / "tar") == summary_with_whole_seconds(source)
    run(["sh", "-c", 'cd "$1" && zip -qry "$2" sub', "-", source, tmp_path / "a.zip"])
    run(["unzip", "-q", tmp_path / "a.zip", "-d", draft / "zip"])
    assert run(["diff", "-r", source / "sub", draft / "zip/sub"]).stdout == ""


def summary_with_whole_seconds(top: Path) -> dict[str, tuple[object, ...]]:
    return {
        name: (mode, int(str(mtime)) // 10**9 * 10**9, links, content)
        for name, (mode, mtime, links, content) in summary(top).items()
    }


def test_git_works_in_a_draft(draft: Path, tmp_path: Path) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=m")
    origin = tmp_path / "origin"
    run(["git", *who, "init", "-q", origin])
    for number in range(30):
        (origin / f"f{number}").write_text(f"{number}\n" * 100)
    run(["git", *who, "-C", origin, "add", "."])
    run(["git", *who, "-C", origin, "commit", "-qm", "one"])
    clone = draft / "clone"
    run(["git", "clone", "-q", "--no-hardlinks", origin, clone])
    assert run(["git", "-C", clone, "status", "--short"]).stdout == ""
    (clone / "f1").write_text("changed")
    run(["git", *who, "-C", clone, "commit", "-qam", "two"])
    run(["git", *who, "-C", clone, "gc", "-q"])
    assert run(["git", "-C", clone, "fsck"]).returncode == 0


def test_editors_replace_files(draft: Path) -> None:
    file = draft / "f"
    file.write_text("one two\n")
    run(["sed", "-i", "s/one/three/", file])
    assert file.read_text() == "three two\n"
    with file.open("a") as out:
        out.write("more\n")
    assert file.read_text() == "three two\nmore\n"
    with file.open("r+") as out:
        out.truncate(5)
    assert file.read_text() == "three"
    run(["mv", file, draft / "g"])
    assert not file.exists()
    assert (draft / "g").read_text() == "three"


def test_a_database_works(draft: Path) -> None:
    database = draft / "db"
    for sql in ("create table t (a)", "insert into t values (1), (2)", "vacuum"):
        run(["sqlite3", database, sql])
    assert run(["sqlite3", database, "select sum(a) from t"]).stdout == "3\n"


def test_an_unlinked_open_file_still_works(draft: Path) -> None:
    with (draft / "f").open("w+b") as file:
        file.write(b"content")
        file.flush()
        (draft / "f").unlink()
        os.ftruncate(file.fileno(), 3)
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.pread(file.fileno(), 10, 0) == b"con"


def test_a_listing_goes_on_while_names_are_removed(draft: Path) -> None:
    for number in range(1000):
        (draft / f"{number}").touch()
    run(["rm", "-rf", "--", *draft.glob("*[05]")])
    assert len(list(draft.iterdir())) == 800


def test_exchange_and_special_files(draft: Path) -> None:
    (draft / "a").write_text("a")
    (draft / "b").write_text("b")
    code = (
        "import ctypes, os, sys\n"
        "a, b = (os.fsencode(p) for p in sys.argv[1:])\n"
        "assert ctypes.CDLL(None).renameat2(-100, a, -100, b, 2) == 0\n"
    )
    run([sys.executable, "-c", code, draft / "a", draft / "b"])
    assert (draft / "a").read_text() == "b"
    with pytest.raises(PermissionError):
        os.mkfifo(draft / "fifo")
    done = run(["fallocate", "-n", "-l", "10", draft / "a"], check=False)
    assert "unsupported" in done.stderr


def test_random_operations_on_a_file_agree_with_memory(draft: Path) -> None:
    check_file(draft / "checked", operations=CHECKED_OPERATIONS, seed=1)


def test_settings_are_checked_and_told(draft: Path) -> None:
    (draft / "f").touch()
    os.setxattr(draft / "f", "user.oras.mediatype", b"text/plain")
    assert os.getxattr(draft / "f", "user.oras.mediatype") == b"text/plain"
    assert os.getxattr(draft, "user.oras.state") == b"draft"
    for path, name, value in (
        (draft / "f", "user.oras.mediatype", b"nonsense"),
        (draft / "f", "user.oras.order", b"f"),
        (draft, "user.oras.epoch", b"yesterday"),
        (draft, "user.oras.unknown", b"1"),
    ):
        with pytest.raises(OSError, match="Invalid argument"):
            os.setxattr(path, name, value)
    assert "no such setting" in (draft / ".oras/error").read_text()
    (draft / ".oras/annotations.json").write_text('{"f": {"k": "v"}}')
    assert (draft / ".oras/annotations.json").read_text() == '{"f": {"k": "v"}}'
    assert names(draft) == ["f"]


def test_what_is_committed_stays_as_it_is(mounted: Mounted) -> None:
    site = mounted.path / "team/site"
    for action in (
        lambda: (site / "v1/index.html").write_text("x"),
        (site / "v1/new").touch,
        lambda: (site / "v1").chmod(0o700),
        lambda: os.setxattr(site / "v1", "user.oras.epoch", b"1"),
    ):
        with pytest.raises(OSError, match="Read-only"):
            action()
    with pytest.raises(OSError, match="not empty"):
        (site / "v1").rmdir()
    with pytest.raises(PermissionError):
        (site / "file").write_text("x")
    with pytest.raises(FileExistsError):
        (site / "v1").mkdir()
    run(["rm", "-rf", site / "v1"], check=False)
    assert (site / "v1/index.html").read_text() == "<p>one</p>"


def test_a_draft_is_listed_and_moved_in_its_repository_only(mounted: Mounted) -> None:
    site = mounted.path / "team/site"
    (site / ".new").mkdir()
    (site / ".new/f").write_text("content")
    inode = (site / ".new").stat().st_ino
    assert names(site) == [".new", "v1"]
    (site / ".new").rename(site / ".newer")
    assert (site / ".newer").stat().st_ino == inode
    with pytest.raises(OSError, match="cross-device"):
        (site / ".newer").rename(mounted.path / "team/other")
    with pytest.raises(OSError, match="not empty"):
        (site / ".newer").rmdir()
    run(["rm", "-r", site / ".newer"])
    assert names(site) == ["v1"]


def test_fsynced_bytes_outlive_a_kill(registry: FakeRegistry, tmp_path: Path) -> None:
    with Mounted(registry.host, tmp_path) as mounted:
        draft = mounted.path / "team/new:v2"
        draft.mkdir()
        with (draft / "f").open("wb") as file:
            file.write(b"durable")
            file.flush()
            os.fsync(file.fileno())
        mounted.kill9()
    with Mounted(registry.host, tmp_path) as again:
        draft = again.path / "team/new:v2"
        assert (draft / "f").read_bytes() == b"durable"
        assert names(again.path / "team") == ["new:v2", "site"]
        assert "new:v2" in (again.path / ".orasfs/drafts.json").read_text()


def test_read_only_refuses_all_of_it(registry: FakeRegistry, tmp_path: Path) -> None:
    with Mounted(registry.host, tmp_path, "ro") as mounted:
        for path in (mounted.path / "team/new:v1", mounted.path / "team/site/v2"):
            done = run(["mkdir", path], check=False)
            assert "Read-only" in done.stderr
        shutil.rmtree(mounted.path / "none", ignore_errors=True)


def test_a_mapped_file_is_written(draft: Path) -> None:
    code = (
        "import mmap, sys\n"
        "with open(sys.argv[1], 'w+b') as f:\n"
        "    f.truncate(10000)\n"
        "    with mmap.mmap(f.fileno(), 0) as m:\n"
        "        m[5000:5004] = b'mark'\n"
    )
    subprocess.run([sys.executable, "-c", code, draft / "m"], check=True, timeout=30)
    assert (draft / "m").read_bytes() == bytes(5000) + b"mark" + bytes(4996)


def test_a_mount_of_what_is_not_there_yet_begins_it(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    with Mounted(f"{registry.host}/new/repo", tmp_path) as mounted:
        run(["mkdir", mounted.path / "v1", mounted.path / "v2.0", mounted.path / ":v3"])
        assert names(mounted.path) == [":v3", "v1", "v2.0"]
        for path in mounted.path.iterdir():
            assert os.getxattr(path, "user.oras.state") == b"draft"


def test_the_way_to_a_repository_below_another_is_no_draft(mounted: Mounted) -> None:
    draft = mounted.path / "team/site/new/deep:v1"
    run(["mkdir", "-p", draft])
    (draft / "f").write_text("content")
    assert os.getxattr(draft, "user.oras.reference").decode().endswith("/team/site/new/deep:v1")
    assert names(mounted.path / "team/site/new") == ["deep:v1"]
    run(["rm", "-r", mounted.path / "team/site/new"])
    assert names(mounted.path / "team/site") == ["v1"]
