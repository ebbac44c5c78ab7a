"""The open /dev/fuse: requests out of it, answers, notifications and backing files into it.

Owns the descriptor and the buffer. Knows the frame of a message and nothing of what is in it.

INVARIANT: `receive` and `reply` never wait; notifications may, and come from a thread. `store` and
`drop_names` are two that do not, if their conditions are kept.
"""

import errno
import fcntl
import logging
import os

from orasfs.fuse.device import replies, wire
from orasfs.fuse.device.negotiation import MAX_TRANSFER_BYTES

logger = logging.getLogger(__name__)

_BUFFER_BYTES = MAX_TRANSFER_BYTES + 4096  # the largest write, and what stands before it
# What read(2) of the device says when there will be no more requests: fuse(4).
_ENDED = frozenset({errno.ENODEV, errno.ECONNABORTED})


class SessionEnded(Exception):
    """The kernel has unmounted, or has ended the connection."""


class Channel:
    """Messages with the kernel.

    Args:
        fd: the device, which this closes in the end.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    @property
    def fd(self) -> int:
        """The device's descriptor, to wait for; -1 once it is closed."""
        return self._fd

    def receive(self) -> memoryview | None:
        """Return the next request, None if there is none; it is good until the next call.

        Raises:
            SessionEnded: there will be none.
        """
        while True:
            try:
                length = os.readv(self._fd, [self._buffer])
                if not length:
                    raise SessionEnded("end of file")
                return self._view[:length]
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _ENDED:
                    raise SessionEnded(str(error)) from error
                if error.errno != errno.ENOENT:  # the asker went away just now: take the next
                    raise

    def reply(self, unique: int, body: bytes) -> bool:
        """Answer a request; tell whether somebody was there to take it."""
        header = wire.OUT_HEADER.pack(wire.OUT_HEADER.size + len(body), 0, unique)
        return self._write(header, body)

    def fail(self, unique: int, number: int) -> None:
        """Answer a request with an errno."""
        self._write(wire.OUT_HEADER.pack(wire.OUT_HEADER.size, -number, unique), b"")

    def _write(self, header: bytes, body: bytes) -> bool:
        try:
            os.writev(self._fd, (header, body))
        except OSError as error:
            # ENOENT: nobody waits for this answer any more. Others: there is no mount any more.
            if error.errno not in {errno.ENOENT, errno.EBADF, *_ENDED}:
                logger.error("no answer is taken error=%s", error)  # noqa: TRY400 - in short
            return False
        return True

    def notify(self, code: wire.Notification, *body: bytes) -> None:
        """Tell the kernel something. Blocks.

        Raises:
            OSError: it does not have what is to be dropped, or there is no mount any more.
        """
        length = wire.OUT_HEADER.size + sum(map(len, body))
        os.writev(self._fd, (wire.OUT_HEADER.pack(length, code, 0), *body))

    def store(self, ino: int, content: bytes) -> None:
        """Give the kernel the first bytes of an inode. It is harmless if they are not taken.

        Waits while the kernel wants any of them from us: so only of an inode that nobody has open,
        or one has whose open is not answered yet. Then nothing of it can be asked for.
        """
        try:
            self.notify(wire.Notification.STORE, replies.store_head(ino, len(content)), content)
        except OSError as error:
            logger.debug("the kernel takes no bytes ino=%d error=%s", ino, error)

    def drop_names(self, ino: int) -> None:
        """Let the kernel drop the names that it keeps of a directory, and its attributes.

        Waits for nobody while a reader of the directory waits for us, which keeps its inode: the
        kernel holds pages of names only while it copies them.
        """
        try:
            self.notify(wire.Notification.INVAL_INODE, replies.invalidate_inode(ino))
        except OSError as error:
            logger.debug("the kernel has no such directory ino=%d error=%s", ino, error)

    def open_backing(self, fd: int) -> int:
        """Register a file for the kernel to read by itself; return its number, from 1.

        Raises:
            OSError: it may not, or cannot, be passed through.
        """
        # In a buffer that may be changed, or Python would return that in place of the number.
        what = bytearray(wire.BACKING_MAP.pack(fd, 0, 0))
        return int(fcntl.ioctl(self._fd, wire.IOC_BACKING_OPEN, what))

    def close_backing(self, backing_id: int) -> None:
        """Take back a registration; files that are open keep it."""
        try:
            fcntl.ioctl(self._fd, wire.IOC_BACKING_CLOSE, wire.BACKING_ID.pack(backing_id))
        except OSError as error:
            logger.debug("a backing file is left to the end error=%s", error)

    def close(self) -> None:
        """End the connection: whoever still waits for an answer gets an error."""
        fd, self._fd = self._fd, -1
        os.close(fd)
