"""Sees to it that free memory is there.

A virtual machine gives free memory back to its host, and whoever writes to it first pays for its
return: here 2.4 s a GiB, several times what a download of as much takes. That would fall on the
contender that needs the most at a time, and on whoever comes after a pause.
"""

import mmap
from pathlib import Path

_MADV_POPULATE_WRITE = 23  # Linux 5.14, include/uapi/asm-generic/mman-common.h


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
