"""Bytes in memory as an open file."""


class MemoryReader:
    """A `BlobReader` over bytes."""

    is_verified = True

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._content)

    def read_now(self, offset: int, size: int) -> bytes:
        """Return the bytes."""
        return self._content[offset : offset + size]

    async def read(self, offset: int, size: int) -> bytes:
        """Return the bytes."""
        return self.read_now(offset, size)

    def close(self) -> None:
        """Do nothing: memory needs no release."""
