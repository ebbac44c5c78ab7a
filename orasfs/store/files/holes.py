"""A file that is written from its beginning to its end, in which runs of zeros are holes."""

import os

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
        position = 0
        while position < len(content):
            # Blocks are counted from the file's beginning, as the disk counts them.
            end = position + _BLOCK_BYTES - (self.size + position) % _BLOCK_BYTES
            block = content[position:end]
            # The first byte decides most often, without a copy; views compare byte by byte.
            if block[0] == 0 and bytes(block) == _ZEROS[: len(block)]:
                disk.write_fully(self._fd, content[run:position], self.size + run)
                run = position + len(block)
            position += len(block)
        disk.write_fully(self._fd, content[run:], self.size + run)
        self.size += len(content)
        if run == len(content):
            self.extend(self.size)

    def extend(self, size: int) -> None:
        """Let the file have `size` bytes, zeros at its end."""
        os.ftruncate(self._fd, size)
