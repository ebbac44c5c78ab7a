"""Reads a file as `cat FILE > /dev/null` does, in a process of its own, and prints the seconds.

Run as a script: `reader.py FILE PASSES`. Prints the seconds from before open(2) to the end of the
file and the number of bytes, of one pass. Imports next to nothing: it shares the machine with
what it measures.
"""

import os
import sys
import time

BLOCK = 1 << 20


def read_all(path: str, passes: int) -> tuple[float, int]:
    """Read a file to its end, `passes` times; return the seconds and the bytes of one pass."""
    buffer = bytearray(BLOCK)
    total = 0
    start = time.perf_counter()
    for _ in range(passes):
        fd = os.open(path, os.O_RDONLY)
        try:
            while (count := os.readv(fd, [buffer])) > 0:
                total += count
        finally:
            os.close(fd)
    return (time.perf_counter() - start) / passes, total // passes


if __name__ == "__main__":
    print(*read_all(sys.argv[1], int(sys.argv[2])))
