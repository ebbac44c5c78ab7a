"""Makes the kernel forget file content, so that a read is cold.

As root everything clean is dropped; otherwise each file is, by posix_fadvise(2), which leaves
directory entries and inodes cached: then "cold" times of trees on disk are too good.
"""

import os
from pathlib import Path

_DROP = Path("/proc/sys/vm/drop_caches")


def can_drop_all() -> bool:
    """Tell whether dentries and inodes can be dropped too."""
    return os.geteuid() == 0 and _DROP.exists()


def drop(*paths: Path) -> None:
    """Forget the content of these files and of the files below these directories."""
    os.sync()  # only clean pages can be dropped
    if can_drop_all():
        try:
            _DROP.write_text("3\n")
        except OSError:  # a container's root may not
            pass
        else:
            return
    for path in paths:
        for file in _files(path):
            _drop_file(file)


def warm(path: Path) -> None:
    """Read a file once, so that its pages are in memory."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        while file.readinto(buffer):
            pass


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return [path]


def _drop_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
