"""An open file of a draft: reads and writes pass through to the real file.

Owns the descriptor. INVARIANT: nothing is kept back: what `write_now` took is in the file, and as
durable as the disk makes it.
"""

import os
from collections.abc import Callable
from functools import partial

import trio

from orasfs.staging.identity import Identity
from orasfs.staging.localdisk import translated
from orasfs.staging.writtendigest import WrittenDigests

_SYNCHRONOUS = os.O_SYNC | os.O_DSYNC
_CARRIED = os.O_ACCMODE | os.O_TRUNC | _SYNCHRONOUS


def real_flags(flags: int) -> int:
    """Return what of a caller's flags the real file is opened with.

    Not O_APPEND: with it pwrite(2) ignores the offset, which the kernel has worked out already.
    """
    return (flags & _CARRIED) | os.O_CLOEXEC | os.O_NOFOLLOW


class OpenStaged:
    """An open file of a draft; implements `orasfs.oci.storage.BlobReader`.

    Args:
        fd: which it closes.
        identity: what is open.
        flags: it was opened with.
        digests: is told what is written.

    Attributes:
        on_close: called once when it is closed.
        on_write: called with itself after each write.
    """

    is_verified = True

    def __init__(self, fd: int, identity: Identity, flags: int, digests: WrittenDigests) -> None:
        self._fd = fd
        self._digests = digests
        self._is_synchronous = bool(flags & _SYNCHRONOUS)
        self.on_close: Callable[[], None] = lambda: None
        self.on_write: Callable[[OpenStaged], None] = lambda _: None
        self.identity = identity
        self.is_writable = flags & os.O_ACCMODE != os.O_RDONLY
        identity.fds += (fd,)
        identity.writers += self.is_writable
        if flags & os.O_TRUNC:
            digests.forget(identity.number)

    def __repr__(self) -> str:
        return f"<OpenStaged {self.identity} fd={self._fd}>"

    @property
    def fd(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._fd

    @property
    def size(self) -> int:
        """The number of bytes it has now."""
        with translated("stat"):
            return os.fstat(self._fd).st_size

    def has_attribute(self, name: str) -> bool:
        """Tell whether the file has an extended attribute, whatever has become of its name."""
        try:
            os.getxattr(self._fd, name)
        except OSError:  # none, or a disk without
            return False
        return True

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if the page cache has them, else None."""
        wanted = min(size, self.size - offset)
        if wanted <= 0:
            return b""
        buffer = bytearray(wanted)
        try:
            count = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError:  # not in memory, or a disk that cannot tell: `read` says what is wrong
            return None
        return bytes(buffer) if count == wanted else None

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end of the file."""
        with translated("read"):
            return await trio.to_thread.run_sync(os.pread, self._fd, size, offset)

    def write_now(self, offset: int, content: bytes) -> bool:
        """Write all of it unless that needs to wait for the disk; tell whether it is written.

        Raises:
            StorageFull: the disk is full.
            LocalFailure: it failed otherwise.
        """
        if self._is_synchronous:
            return False
        try:
            self._write(offset, content)
        finally:
            self._note(offset, content)
        return True

    async def write(self, offset: int, content: bytes) -> None:
        """Write all of it, in a thread; raises as `write_now`."""
        try:
            await trio.to_thread.run_sync(self._write, offset, content)
        finally:
            self._note(offset, content)

    async def sync(self, *, data_only: bool) -> None:
        """Make the content durable, and unless `data_only` its attributes too."""
        sync = os.fdatasync if data_only else os.fsync
        with translated("sync"):
            await trio.to_thread.run_sync(partial(sync, self._fd))

    def close(self) -> None:
        """Close the file. Harmless twice."""
        if self._fd >= 0:
            self.identity.fds = tuple(fd for fd in self.identity.fds if fd != self._fd)
            self.identity.writers -= self.is_writable
            if self.is_writable:
                self._digests.closed(self.identity.number, os.fstat(self._fd))
            os.close(self._fd)
            self._fd = -1
            self.on_close()

    def _note(self, offset: int, content: bytes) -> None:
        # After a write that failed half-way the size is another one, or the offset not the end.
        self._digests.wrote(self.identity.number, self._fd, offset, len(content))
        self.on_write(self)

    def _write(self, offset: int, content: bytes) -> None:
        view = memoryview(content)
        with translated("write"):
            while view:
                count = os.pwrite(self._fd, view, offset)
                offset += count
                view = view[count:]
