"""Readers of the file members of an unpacked layer: extents of its slab, zeros between them."""

import bisect
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import trio

from orasfs.store import disk
from orasfs.tree.layerindex import Extent


class SlabOwner(Protocol):
    """Whose life keeps the slab open."""

    @property
    def slab_fd(self) -> int:
        """The open slab."""
        ...


class MemberReader:
    """A file member as `orasfs.oci.storage.BlobReader`; the layer was verified when unpacked."""

    def __init__(
        self,
        owner: SlabOwner,
        size: int,
        extents: Sequence[Extent],
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._owner: SlabOwner | None = owner
        self._size = size
        self._extents = extents
        self._limiter = limiter
        # Where the bytes are in one piece, which they are in all files that are not sparse.
        self._start: int | None = None
        if len(extents) == 1 and extents[0].file_offset == 0 and extents[0].length >= size:
            self._start = extents[0].tar_offset

    def __repr__(self) -> str:
        return f"<MemberReader size={self._size} extents={len(self._extents)}>"

    @property
    def size(self) -> int:
        """The number of bytes, holes included."""
        return self._size

    @property
    def is_verified(self) -> bool:
        """Always: only verified layers are unpacked."""
        return True

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if the page cache has them, else None."""
        count = min(size, self._size - offset)
        if count <= 0:
            return b""
        if self._owner is None:
            return None
        if self._start is not None:
            return disk.read_now(self._owner.slab_fd, self._start + offset, count)
        content = bytearray(count)
        for place, tar_offset, length in self._pieces(offset, count):
            piece = disk.read_now(self._owner.slab_fd, tar_offset, length)
            if piece is None:
                return None
            content[place : place + length] = piece
        return bytes(content)

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end of the member."""
        count = min(size, self._size - offset)
        if count <= 0:
            await trio.lowlevel.checkpoint()
            return b""
        if self._owner is None:
            raise ValueError("the reader is closed")
        # The thread holds the owner, so that the slab stays open until it is done.
        work = partial(self._read, self._owner, offset, count)
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def close(self) -> None:
        """Let go of the layer. Harmless twice."""
        self._owner = None

    def _read(self, owner: SlabOwner, offset: int, count: int) -> bytes:
        content = bytearray(count)
        for place, tar_offset, length in self._pieces(offset, count):
            content[place : place + length] = disk.read_fully(owner.slab_fd, tar_offset, length)
        return bytes(content)

    def _pieces(self, offset: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield (place in the answer, offset in the slab, length) of what is no hole."""
        end = offset + count
        first = bisect.bisect_right(self._extents, offset, key=lambda one: one.file_offset) - 1
        for number in range(max(0, first), len(self._extents)):
            extent = self._extents[number]
            start = max(offset, extent.file_offset)
            stop = min(end, extent.file_offset + extent.length)
            if extent.file_offset >= end:
                return
            if start < stop:
                tar_offset = extent.tar_offset + start - extent.file_offset
                yield start - offset, tar_offset, stop - start
