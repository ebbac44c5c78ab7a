"""A file that is written from its beginning to its end, in which runs of zeros are holes."""

import os
from collections.abc import Iterator

from orasfs.store.files import disk

_BLOCK_BYTES = 4096
_ZEROS = bytes(_BLOCK_BYTES)


class HoleyFile:
    """Appends to the file `fd`, leaving out blocks of zeros.

    All methods raise `OSError`, which is the caller's to translate.

    Attributes:
        size: how many bytes were appended.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = 0

    def append(self, content: memoryview) -> None:
        """Write the next bytes; a run of blocks that are not zero is one write."""
        run = 0
        for start, stop in self._zeros(content):
            disk.write_fully(self._fd, content[run:start], self.size + run)
            run = stop
        disk.write_fully(self._fd, content[run:], self.size + run)
        self.size += len(content)
        if run == len(content):
            self.extend(self.size)

    def extend(self, size: int) -> None:
        """Let the file have `size` bytes, zeros at its end."""
        os.ftruncate(self._fd, size)

    def _zeros(self, content: memoryview) -> Iterator[tuple[int, int]]:
        """Yield where blocks of zeros are; those at the ends of `content` may be parts of blocks.

        Blocks are counted from the file's beginning, as the disk counts them.
        """
        head = -self.size % _BLOCK_BYTES
        if head and bytes(content[:head]) == _ZEROS[: min(head, len(content))]:
            yield 0, min(head, len(content))
        # The first byte decides most often; those of all blocks are looked through at once.
        firsts = bytes(content[head::_BLOCK_BYTES])
        number = firsts.find(0)
        while number >= 0:
            start = head + number * _BLOCK_BYTES
            block = bytes(content[start : start + _BLOCK_BYTES])
            if block == _ZEROS[: len(block)]:
                yield start, start + len(block)
            number = firsts.find(0, number + 1)
