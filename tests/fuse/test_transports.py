"""Both transports behind a real kernel: the fake filesystem, in a process of its own."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import operations as fake
from tests.support.mounted import Mounted, run
from tests.support.patience import eventually

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module", params=["pyfuse3", "device"])
def mounted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    home = tmp_path_factory.mktemp("fake")
    fake_mount = ("tests.support.fake_mount",)
    option = f"transport={request.param}"
    with Mounted(None, home, option, program=fake_mount, may_trace=True) as mount:
        yield mount
        assert mount.stop() == 0, mount.errors()


@pytest.fixture
def top(mounted: Mounted) -> Path:
    return mounted.path


def errno_of(path: Path, action: str) -> str:
    """Do something with a path in another process, and return the name of its errno or "0"."""
    code = (
        "import errno, os, sys\npath = sys.argv[1]\n"
        f"try:\n    {action}\nexcept OSError as error:\n"
        "    print(errno.errorcode[error.errno])\nelse:\n    print(0)\n"
    )
    return run(["python3", "-c", code, path]).stdout.strip()


def test_a_listing_has_every_name_once(top: Path) -> None:
    assert sorted(path.name for path in top.iterdir()) == sorted(
        ["plain", "empty", "slow", "hang", "given", "backed", "link", "caf\udce9", "dir"]
    )
    assert sorted(path.name for path in (top / "dir").iterdir()) == [
        f"{n:03}" for n in range(fake.CHILDREN)
    ]


def test_attributes_are_those_of_the_filesystem(top: Path) -> None:
    found = (top / "plain").stat()
    assert stat.S_IMODE(found.st_mode) == 0o644
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert found.st_size == len(fake.PLAIN)
    assert found.st_blocks == 1
    assert found.st_mtime_ns == found.st_ctime_ns == found.st_atime_ns == fake.MTIME_NS
    assert found.st_nlink == 1
    assert (top / "empty").stat().st_blocks == 0


def test_bytes_at_hand_and_bytes_waited_for_are_read(top: Path) -> None:
    assert (top / "plain").read_bytes() == fake.PLAIN
    assert (top / "empty").read_bytes() == b""
    digest = hashlib.sha256(fake.SLOW).hexdigest()
    assert run(["sha256sum", top / "slow"]).stdout.startswith(digest)


def test_a_name_that_is_no_utf8_is_carried(top: Path) -> None:
    assert Path(os.fsdecode(os.fsencode(top) + b"/caf\xe9")).read_bytes() == fake.PLAIN


def test_a_symlink_has_its_target(top: Path) -> None:
    assert (top / "link").readlink() == Path("plain")
    assert (top / "link").read_bytes() == fake.PLAIN


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("nothing", "ENOENT"),
        ("raise-NotFound", "ENOENT"),
        ("raise-TimedOut", "ETIMEDOUT"),
        ("raise-RateLimited", "EBUSY"),
        ("raise-Unauthorized", "EACCES"),
        ("raise-ContentMismatch", "EIO"),
        ("raise-StorageFull", "ENOSPC"),
        ("raise-TLSFailure", "EPROTO"),
        ("plain/below", "ENOTDIR"),
    ],
)
def test_a_failure_is_the_errno_of_the_table(top: Path, name: str, number: str) -> None:
    assert errno_of(top / name, "os.stat(path)") == number


def test_what_nobody_foresaw_is_eio_with_a_traceback_and_the_mount_lives(
    mounted: Mounted,
) -> None:
    assert errno_of(mounted.path / "raise-bug", "os.stat(path)") == "EIO"
    assert "ZeroDivisionError: raise-bug" in mounted.log()
    assert (mounted.path / "plain").read_bytes() == fake.PLAIN


def test_an_absent_name_is_asked_for_once(top: Path) -> None:
    for _ in range(3):
        assert errno_of(top / "never-there", "os.stat(path)") == "ENOENT"
    requests = os.getxattr(top, "user.fake.requests").decode().splitlines()
    assert requests.count("lookup never-there") == 1


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("new", "open(path, 'x')"),
        ("new", "os.mkdir(path)"),
        ("new", "os.mkfifo(path)"),
        ("new", "os.symlink('x', path)"),
        ("new", "os.link(path + '/../plain', path)"),
        ("plain", "open(path, 'w')"),
        ("plain", "open(path, 'a')"),
        ("plain", "os.open(path, os.O_RDWR)"),
        ("plain", "os.truncate(path, 0)"),
        ("plain", "os.chmod(path, 0o600)"),
        ("plain", "os.utime(path)"),
        ("plain", "os.unlink(path)"),
        ("plain", "os.rename(path, path + '2')"),
        ("plain", "os.setxattr(path, 'user.x', b'1')"),
        ("plain", "os.removexattr(path, 'user.fake')"),
        ("dir", "os.rmdir(path)"),
    ],
)
def test_whatever_writes_is_refused_as_read_only(top: Path, name: str, action: str) -> None:
    path = top / name
    if "os.link" in action:
        action = "os.link(os.path.dirname(path) + '/plain', path)"
    assert errno_of(path, action) == "EROFS"


def test_making_what_exists_says_so(top: Path) -> None:
    assert errno_of(top / "dir", "os.mkdir(path)") == "EEXIST"
    assert errno_of(top / "plain", "open(path, 'x')") == "EEXIST"


def test_close_and_fsync_succeed(top: Path) -> None:
    for name in ("plain", "dir"):
        descriptor = os.open(top / name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def test_descriptors_of_many_processes_read_at_once(top: Path) -> None:
    digest = hashlib.sha256(fake.SLOW).hexdigest()
    command = 'for n in 1 2 3 4 5 6 7 8; do sha256sum < "$0" & done; wait'
    assert run(["sh", "-c", command, top / "slow"]).stdout.count(digest) == 8


def test_a_value_is_told_its_length_and_refused_too_little_room(top: Path) -> None:
    code = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "path = os.fsencode(sys.argv[1])\n"
        "print(libc.getxattr(path, b'user.fake', None, 0))\n"
        "print(libc.getxattr(path, b'user.fake', ctypes.create_string_buffer(2), 2))\n"
        "print(ctypes.get_errno())\n"
    )
    lines = run(["python3", "-c", code, top / "plain"]).stdout.split()
    assert lines == ["5", "-1", str(errno.ERANGE)]


def test_what_is_not_offered_is_done_without(top: Path) -> None:
    """No flush, no lseek, no copying inside: the kernel makes do, or says so."""
    with (top / "plain").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == len(fake.PLAIN)
    assert errno_of(top / "plain", "os.posix_fallocate(os.open(path, 0), 0, 1)") == "EBADF"


def test_extended_attributes(top: Path) -> None:
    assert os.getxattr(top / "plain", "user.fake") == b"value"
    assert os.listxattr(top / "plain") == ["user.fake"]
    assert os.listxattr(top / "empty") == []
    assert errno_of(top / "plain", "os.getxattr(path, 'user.other')") == "ENODATA"
    acl = "os.getxattr(path, 'system.posix_acl_access')"
    assert errno_of(top / "plain", acl) in {"ENOTSUP", "EOPNOTSUPP"}


def test_statfs_is_that_of_the_filesystem(top: Path) -> None:
    found = os.statvfs(top)
    assert (found.f_bsize, found.f_blocks, found.f_bfree, found.f_bavail) == (4096, 1000, 500, 400)
    assert (found.f_files, found.f_ffree, found.f_namemax) == (10_000, 9_000, 255)


def test_no_inode_is_forgotten_more_often_than_it_was_found(top: Path) -> None:
    """Listings count a lookup for each entry; dropping the caches gives them all back."""

    def balance() -> int:
        found = int(os.getxattr(top, "user.fake.balance"))
        assert found >= 0
        return found

    def drop() -> bool:  # only root may
        return not run(["sh", "-c", "echo 2 > /proc/sys/vm/drop_caches"], check=False).returncode

    def is_balanced() -> bool:
        drop()
        return balance() == 0

    are_dropped = False
    for _ in range(3):
        run(["ls", "-laR", top])
        are_dropped = drop()
        balance()
    # What the kernel forgets it tells in its own time, and what was just in use it drops later.
    if are_dropped:
        eventually(is_balanced)


def test_the_mount_table_shows_what_is_mounted_and_that_it_is_harmless(top: Path) -> None:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    line = next(line for line in lines if line.split()[1] == str(top))
    source, _, kind, options, *_ = line.split(" ")
    assert source == r"a,b\040\134??"
    assert kind == "fuse.orasfs"
    assert {"nosuid", "nodev", "default_permissions"} <= set(options.split(","))
