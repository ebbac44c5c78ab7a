"""Readers of the file members of a layer: parts of its slab or of a blob, zeros between them."""

import bisect
import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import trio

from orasfs.errors import StorageFailure, Unsupported
from orasfs.store.files import disk
from orasfs.tree.layerindex import Extent, Place
from orasfs.tree.layers import TarReader


class Files(Protocol):
    """Files that have the bytes of members; they stay open as long as this object lives."""

    @property
    def slab_fd(self) -> int:
        """The open slab, -1 if it is gone."""
        ...

    def open_blob(self, number: int) -> int | None:
        """Open a member that is a blob of its own; None if it is gone. The caller closes it."""
        ...


class MemberOwner(Protocol):
    """The layer of a member, which knows where bytes are and how to get them."""

    @property
    def is_verified(self) -> bool:
        """Whether the layer has been verified."""
        ...

    def files_now(self, stop: int) -> Files | None:
        """Return the files that may be read up to byte `stop` of the tar; None if that must wait.

        They may be gone even so.
        """
        ...

    def tar_reader(self) -> TarReader | None:
        """Return a reader of bytes that are not in files, if there is one."""
        ...

    async def obtain(self, stop: int) -> Files:
        """Return the same when there are some, unpacking the layer if need be.

        Raises:
            ContentMismatch: the layer turned out to be another one; and all that a fetch raises.
        """
        ...


class MemberReader:
    """A file member as `orasfs.oci.storage.BlobReader`.

    Args:
        owner: its layer.
        size: bytes, holes included.
        place: where the bytes that its extents name begin in a file.
        extents: which bytes of the tar are its own.
        limiter: of reading threads.
    """

    def __init__(
        self,
        owner: MemberOwner,
        size: int,
        place: Place,
        extents: Sequence[Extent],
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._owner: MemberOwner | None = owner
        self._size = size
        self._place = place
        self._extents = extents
        self._limiter = limiter
        self._blob_fd = -1
        self._reads = 0  # that a thread is at, with `_blob_fd`

    def __repr__(self) -> str:
        return f"<MemberReader size={self._size} extents={len(self._extents)}>"

    @property
    def size(self) -> int:
        """The number of bytes, holes included."""
        return self._size

    @property
    def is_verified(self) -> bool:
        """Whether the layer has been verified."""
        return self._owner is not None and self._owner.is_verified

    def backing_fd(self) -> int | None:
        """Return the file of a member that is a blob of its own, once verified, until `close`."""
        if self._owner is None or self._place.blob is None or not self._owner.is_verified:
            return None
        files = self._owner.files_now(self._place.tar_offset + self._size)
        fd = -1 if files is None else self._open(files)
        return fd if fd >= 0 else None

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if they may be served and the page cache has them, else None."""
        count = min(size, self._size - offset)
        pieces = self._pieces(offset, count)
        if self._owner is None:
            return None
        if not pieces:
            return bytes(max(count, 0))
        files = self._owner.files_now(pieces[-1].tar_offset + pieces[-1].length)
        fd = -1 if files is None else self._open(files)
        tar = self._owner.tar_reader() if fd < 0 else None
        if fd < 0 and tar is None:
            return None
        content = bytearray(count)
        for piece in pieces:
            if tar is not None:
                found = tar.read_now(piece.tar_offset, piece.tar_offset + piece.length)
            else:
                found = disk.read_now(fd, self._offset(piece), piece.length)
            if found is None or piece.length == count:
                return found
            content[piece.file_offset : piece.file_offset + piece.length] = found
        return bytes(content)

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end of the member.

        Waits until they have passed.

        Raises:
            ContentMismatch: the layer is not what its descriptor says; and all that a fetch does.
        """
        count = min(size, self._size - offset)
        pieces = self._pieces(offset, count)
        if not pieces:
            await trio.lowlevel.checkpoint()
            return bytes(max(count, 0))
        if self._owner is None:
            raise ValueError("the reader is closed")
        owner, stop = self._owner, pieces[-1].tar_offset + pieces[-1].length
        files = owner.files_now(stop)
        fd = -1 if files is None else self._open(files)
        if files is None or fd < 0:
            tar = owner.tar_reader()
            if tar is not None:
                with contextlib.suppress(Unsupported):  # the source gives no parts: all of it then
                    return await _read_tar(tar, pieces, count)
            files = await owner.obtain(stop)
            fd = self._open(files)
        if fd < 0:  # evicted since, or before the pass that was waited for
            files = await owner.obtain(stop)
            fd = self._open(files)
        if fd < 0:
            raise StorageFailure("a file of the cache has gone as soon as it was made")
        return await self._read(files, fd, pieces, count)

    def close(self) -> None:
        """Let go of the layer. Harmless twice."""
        self._owner = None
        if not self._reads:
            self._close_blob()

    async def _read(self, files: Files, fd: int, pieces: Sequence[Extent], count: int) -> bytes:
        # The thread holds what keeps the file open, until it is done.
        work = partial(self._read_pieces, files, fd, pieces, count)
        self._reads += 1
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._reads -= 1
            if self._owner is None and not self._reads:
                self._close_blob()

    def _read_pieces(self, _files: Files, fd: int, pieces: Sequence[Extent], count: int) -> bytes:
        content = bytearray(count)
        for piece in pieces:
            found = disk.read_fully(fd, self._offset(piece), piece.length)
            content[piece.file_offset : piece.file_offset + piece.length] = found
        return bytes(content)

    def _open(self, files: Files) -> int:
        """Return the file that has the bytes; negative if it is gone."""
        if self._place.blob is None:
            return files.slab_fd
        if self._blob_fd < 0:
            fd = files.open_blob(self._place.blob)
            self._blob_fd = -1 if fd is None else fd
        return self._blob_fd

    def _close_blob(self) -> None:
        if self._blob_fd >= 0:
            os.close(self._blob_fd)
            self._blob_fd = -1

    def _offset(self, piece: Extent) -> int:
        return self._place.offset + piece.tar_offset - self._place.tar_offset

    def _pieces(self, offset: int, count: int) -> Sequence[Extent]:
        """Return what of [offset, offset + count) is no hole, at its offset in the answer."""
        if len(self._extents) == 1 and self._extents[0].length == self._size:  # as most are
            start = self._extents[0].tar_offset + offset
            return (Extent(0, start, count),) if count > 0 else ()
        return list(self._parts(offset, count))

    def _parts(self, offset: int, count: int) -> Iterator[Extent]:
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
                yield Extent(start - offset, tar_offset, stop - start)


async def _read_tar(tar: TarReader, pieces: Sequence[Extent], count: int) -> bytes:
    content = bytearray(count)
    for piece in pieces:
        found = await tar.read(piece.tar_offset, piece.tar_offset + piece.length)
        content[piece.file_offset : piece.file_offset + piece.length] = found
    return bytes(content)
