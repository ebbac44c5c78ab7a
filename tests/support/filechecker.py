"""Random operations on one file against a model in memory, in the manner of fsx.

Run by itself for more: `python -m tests.support.filechecker FILE OPERATIONS SEED`.
"""

import mmap
import os
import random
import sys
from pathlib import Path

MAX_SIZE = 256 * 1024


class FileChecker:
    """One file, and what should be in it."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._model = bytearray()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def run(self, operations: int) -> None:
        """Do so many random operations; raises AssertionError with the number of a wrong one."""
        actions = (
            self.write, self.write, self.read, self.read, self.truncate, self.map_write,
            self.map_read, self.append, self.reopen, self.sync,
        )  # fmt: skip
        for number in range(operations):
            action = self._random.choice(actions)
            try:
                action()
                assert os.fstat(self._fd).st_size == len(self._model)
            except AssertionError as error:
                raise AssertionError(f"operation {number}, {action.__name__}: {error}") from error
        os.close(self._fd)
        assert self._path.read_bytes() == self._model

    def write(self) -> None:
        self._write(self._random.randrange(MAX_SIZE // 2))

    def append(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        content = self._random.randbytes(self._random.randrange(1, 100))
        assert os.write(fd, content) == len(content)
        os.close(fd)
        self._model += content

    def read(self) -> None:
        offset = self._random.randrange(MAX_SIZE)
        size = self._random.randrange(MAX_SIZE)
        found = os.pread(self._fd, size, offset)
        assert found == self._model[offset : offset + size], f"at {offset}, {size} bytes"

    def truncate(self) -> None:
        size = self._random.randrange(MAX_SIZE)
        if self._random.random() < 0.5:
            os.ftruncate(self._fd, size)
        else:
            os.truncate(self._path, size)
        del self._model[size:]
        self._model += bytes(size - len(self._model))

    def map_write(self) -> None:
        if not self._model:
            return
        offset = self._random.randrange(len(self._model))
        content = self._random.randbytes(min(3000, len(self._model) - offset))
        with mmap.mmap(self._fd, 0) as mapped:
            mapped[offset : offset + len(content)] = content
        self._model[offset : offset + len(content)] = content

    def map_read(self) -> None:
        if self._model:
            with mmap.mmap(self._fd, 0, prot=mmap.PROT_READ) as mapped:
                assert mapped[:] == self._model

    def reopen(self) -> None:
        os.close(self._fd)
        self._fd = os.open(self._path, os.O_RDWR)

    def sync(self) -> None:
        os.fsync(self._fd)

    def _write(self, offset: int) -> None:
        content = self._random.randbytes(self._random.randrange(1, MAX_SIZE // 2))
        assert os.pwrite(self._fd, content, offset) == len(content)
        self._model += bytes(max(0, offset - len(self._model)))
        self._model[offset : offset + len(content)] = content


def check_file(path: Path, *, operations: int, seed: int) -> None:
    """Check one file with so many operations."""
    FileChecker(path, seed).run(operations)


if __name__ == "__main__":
    check_file(Path(sys.argv[1]), operations=int(sys.argv[2]), seed=int(sys.argv[3]))
