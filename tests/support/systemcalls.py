# ruff: noqa: PTH102, PTH106, PTH108, PTH110, PTH115, PTH116, PTH123, PTH208 - they are what is tried
"""System calls in a directory, one after the other, and what each of them answers.

`python -m tests.support.systemcalls DIRECTORY` prints a line for each: a mounted directory should
answer as one of the local disk does, whoever speaks with the kernel. Sizes of directories, device
and inode numbers, and times that nobody has set are left out.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import sys
from collections.abc import Callable

_NOREPLACE, _EXCHANGE, _UNKNOWN = 1, 2, 64  # linux/fs.h
_CREATE = os.O_WRONLY | os.O_CREAT
_TIMES = 1_000_000_000_123_456_789, 1_600_000_000_987_654_321
_MANY = 700  # names, of which a listing takes several requests


def do(name: str, call: Callable[..., object], *args: object) -> None:
    """Print what a call returns, or the name of its errno."""
    try:
        print(name, call(*args))  # noqa: T201
    except OSError as error:
        print(name, errno.errorcode[error.errno or 0])  # noqa: T201


def rename(old: str, new: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, old.encode(), -100, new.encode(), ctypes.c_uint(flags)):
        raise OSError(ctypes.get_errno(), "renameat2")


def write(name: str | bytes, content: bytes = b"content", flags: int = 0) -> int:
    fd = os.open(name, flags or _CREATE | os.O_TRUNC, 0o666)
    try:
        return os.write(fd, content)
    finally:
        os.close(fd)


def read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def kind(name: str) -> tuple[str, int, int]:
    found = os.lstat(name)
    if stat.S_ISDIR(found.st_mode):
        return oct(found.st_mode), 0, 0
    return oct(found.st_mode), found.st_size, found.st_nlink


def opened(name: str, flags: int, work: Callable[..., object], *args: object) -> object:
    fd = os.open(name, flags, 0o640)
    try:
        return work(fd, *args)
    finally:
        os.close(fd)


def mapped(fd: int) -> bytes:
    with mmap.mmap(fd, 4096) as view:
        view[10:13] = b"map"
        view.flush()
        return view[8:15]


def work_on_unlinked(fd: int, name: str) -> tuple[bytes, int, int, str]:
    os.unlink(name)
    os.write(fd, b"0123456789")
    os.ftruncate(fd, 4)
    os.fchmod(fd, 0o600)
    found = os.fstat(fd)
    return os.pread(fd, 100, 0), found.st_size, found.st_nlink, oct(found.st_mode)


def lock_twice(fd: int, name: str) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX)
    opened(name, os.O_RDWR, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def copy_range(fd: int, name: str) -> object:
    return opened(name, _CREATE, lambda other: os.copy_file_range(fd, other, 100))


def set_times(name: str, times: tuple[int, int]) -> int:
    os.utime(name, ns=times)
    return os.stat(name).st_mtime_ns


def remove_while_listing(name: str) -> tuple[int, int]:
    os.mkdir(name)
    for number in range(_MANY):
        write(f"{name}/{number:04}-{'x' * 60}", b"")
    seen = []
    with os.scandir(name) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    os.rmdir(name)
    return len(seen), len(set(seen))


def make_in_removed(fd: int, name: str) -> None:
    os.rmdir(name)
    os.mkdir("new", dir_fd=fd)


def files() -> None:
    """Make, open, write and read."""
    do("create", write, "file")
    do("create what is there", write, "file", b"", _CREATE | os.O_EXCL)
    os.umask(0o027)
    do("create masked", write, "masked")
    do("make directory masked", os.mkdir, "dir", 0o777)
    os.umask(0o022)
    do("are masked", lambda: (kind("masked"), kind("dir")))
    do("append", write, "file", b"+", os.O_WRONLY | os.O_APPEND)
    do("is appended", read, "file")
    do("write what is open to read", opened, "file", os.O_RDONLY, os.write, b"x")
    do("read what is open to write", opened, "file", os.O_WRONLY, os.read, 1)
    do("write behind the end", opened, "file", os.O_RDWR, os.pwrite, b"end", 100_000)
    do("read the hole", opened, "file", os.O_RDONLY, os.pread, 4, 50_000)
    do("seek data", opened, "masked", os.O_RDONLY, os.lseek, 0, os.SEEK_DATA)
    do("seek a hole", opened, "masked", os.O_RDONLY, os.lseek, 0, os.SEEK_HOLE)
    do("seek behind the end", opened, "masked", os.O_RDONLY, os.lseek, 1000, os.SEEK_DATA)
    do("map", opened, "file", os.O_RDWR, mapped)
    do("truncate", os.truncate, "file", 14)
    do("is mapped", read, "file")
    do("lengthen", os.truncate, "file", 20)
    do("is longer", read, "file")
    do("truncate by opening", write, "file", b"", os.O_WRONLY | os.O_TRUNC)
    do("allocate", opened, "file", os.O_RDWR, os.posix_fallocate, 0, 5000)
    do("is allocated", kind, "file")
    do("write at once", opened, "masked", os.O_RDWR | os.O_DSYNC, os.write, b"sync")
    do("fsync", opened, "masked", os.O_RDWR, os.fsync)
    do("fdatasync a directory", opened, "dir", os.O_RDONLY, os.fdatasync)
    do("work on what is gone", opened, "gone", os.O_RDWR | os.O_CREAT, work_on_unlinked, "gone")
    do("lock twice", opened, "file", os.O_RDWR, lock_twice, "file")
    do("copy a range", opened, "masked", os.O_RDONLY, copy_range, "copy")
    do("is copied", read, "copy")
    do("write a directory", os.open, "dir", os.O_WRONLY)
    do("open as directory", os.open, "file", os.O_RDONLY | os.O_DIRECTORY)


def attributes() -> None:
    """Change what is known of a file."""
    do("change mode", os.chmod, "file", 0o4751)
    do("mode is changed", kind, "file")
    do("write set-user-ID", write, "file", b"x")
    do("mode after that", kind, "file")
    do("own", os.chown, "file", os.getuid(), os.getgid())
    do("set times", set_times, "file", _TIMES)
    do("set times before the epoch", set_times, "file", (-5_000_000_000, -5_000_000_001))
    do("set", os.setxattr, "file", "user.a", b"1", os.XATTR_CREATE)
    do("create what is set", os.setxattr, "file", "user.a", b"2", os.XATTR_CREATE)
    do("replace", os.setxattr, "file", "user.a", b"3", os.XATTR_REPLACE)
    do("replace what is not set", os.setxattr, "file", "user.b", b"3", os.XATTR_REPLACE)
    do("set nothing", os.setxattr, "file", "user.c", b"")
    do("get", os.getxattr, "file", "user.a")
    do("get nothing", os.getxattr, "file", "user.c")
    do("get what is not set", os.getxattr, "file", "user.b")
    do("list", lambda: sorted(os.listxattr("file")))
    do("remove", os.removexattr, "file", "user.a")
    do("remove again", os.removexattr, "file", "user.a")


def names() -> None:
    """Link, rename and remove."""
    do("link", os.link, "file", "other")
    do("link again", os.link, "file", "other")
    do("is linked", kind, "other")
    do("rename to itself", os.rename, "file", "other")
    do("link symbolically", os.symlink, "dir/nowhere", "link")
    do("link far", os.symlink, "x" * 4000, "far")
    do("are links", lambda: (kind("link"), os.readlink("link"), len(os.readlink("far"))))
    do("open a link", os.open, "link", os.O_RDONLY | os.O_NOFOLLOW)
    do("take a long name", write, "n" * 255)
    do("take too long a name", write, "n" * 256)
    do("take any bytes", write, b"caf\xe9\xff\n")
    do("write a", write, "a", b"a")
    do("write b", write, "b", b"b")
    do("rename to what is there", rename, "a", "b", _NOREPLACE)
    do("exchange", rename, "a", "b", _EXCHANGE)
    do("are exchanged", lambda: (read("a"), read("b")))
    do("exchange kinds", rename, "a", "dir", _EXCHANGE)
    do("kinds are exchanged", lambda: (kind("a"), kind("dir")))
    do("exchange back", rename, "a", "dir", _EXCHANGE)
    do("exchange with nothing", rename, "a", "nothing", _EXCHANGE)
    do("give both flags", rename, "a", "b", _EXCHANGE | _NOREPLACE)
    do("give another flag", rename, "a", "b", _UNKNOWN)
    do("rename over", os.rename, "a", "b")
    do("is renamed", lambda: (read("b"), os.path.exists("a")))
    do("rename over a directory", os.rename, "b", "dir")
    do("rename a directory over", os.rename, "dir", "b")
    do("rename into itself", os.rename, "dir", "dir/below")
    do("remove a file as directory", os.rmdir, "b")
    do("remove a directory as file", os.unlink, "dir")
    do("look below a file", os.stat, "b/below")


def directories() -> None:
    """Fill, list and remove."""
    do("make", os.mkdir, "full")
    do("fill", write, "full/file")
    do("remove what is full", os.rmdir, "full")
    do("rename over what is full", os.rename, "dir", "full")
    do("remove while listing", remove_while_listing, "many")
    do("make one to be removed", os.mkdir, "removed")
    do("make in it", opened, "removed", os.O_RDONLY, make_in_removed, "removed")
    do("how long names are", lambda: os.statvfs(".").f_namemax)
    do("what is there", lambda: sorted(os.fsencode(name) for name in os.listdir()))


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    files()
    attributes()
    names()
    directories()
