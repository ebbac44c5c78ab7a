"""Sees to it that free memory is there.

A virtual machine gives free memory back to its host, and whoever writes to it first pays for its
return: here 2.4 s a GiB, several times what a download of as much takes. That would fall on the
contender that needs the most at a time, and on whoever comes after a pause.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The order of the blocks that the kernel reports to the host as free (mm/page_reporting.c).
REPORTING = Path("/sys/module/page_reporting/parameters/page_reporting_order")
_NEVER = ("11", "10")  # larger than any block; else the largest there is
_MADV_POPULATE_WRITE = 23  # Linux 5.14, include/uapi/asm-generic/mman-common.h


@contextmanager
def kept(reporting: Path = REPORTING) -> Iterator[bool]:
    """Have the kernel keep its free memory meanwhile; yields whether it does.

    Only root can have that; a kernel that gives nothing back does so in any case.
    """
    try:
        before = reporting.read_text(encoding="ascii").strip()
    except OSError:
        yield True
        return
    is_kept = any(_write(reporting, order) for order in _NEVER)
    try:
        yield is_kept
    finally:
        if is_kept:
            _write(reporting, before)


def _write(parameter: Path, value: str) -> bool:
    try:
        parameter.write_text(value, encoding="ascii")
    except OSError:
        return False
    return True


def bring(size: int) -> None:
    """Have `size` bytes of memory in use for a moment, at most half of what is available."""
    length = min(size, _available() // 2)
    if length <= 0:
        return
    with mmap.mmap(-1, length) as memory:
        try:
            memory.madvise(_MADV_POPULATE_WRITE)
        except OSError:  # an older kernel
            for start in range(0, length, mmap.PAGESIZE):
                memory[start] = 1


def _available() -> int:
    """Return how much memory can be had, in bytes; see proc_meminfo(5)."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0
