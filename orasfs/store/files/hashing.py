"""Hashing a file in a thread beside the one that writes it.

Owns that thread. To receive, to hash and to write a byte each take about as long; done one after
the other they would keep a download at half its speed. What is hashed is read back from the file,
so the digest is that of what readers get. Blocking; knows no trio.

INVARIANT: the thread has ended when `finish` or `abandon` has returned.
"""

import os
import threading

from orasfs.errors import OrasfsError
from orasfs.oci.digest import Verifier
from orasfs.store.files import disk

_BUFFER_BYTES = 1024 * 1024


class FollowingVerifier:
    """Passes bytes [offset, …) of the file `fd` through `verifier` as they are written.

    One thread calls the methods. The verifier has seen what is before `offset`, and is the
    follower's alone until `finish` has returned.
    """

    def __init__(self, fd: int, verifier: Verifier, offset: int) -> None:
        self._fd = fd
        self._verifier = verifier
        self._hashed = offset
        self._written = offset
        self._is_last = False
        self._is_abandoned = False
        self._error: OrasfsError | None = None
        self._changed = threading.Condition()
        # A daemon, as the workers of trio: a process that ends does not wait for downloads.
        self._thread = threading.Thread(target=self._work, name="hashing", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<FollowingVerifier {self._hashed}/{self._written}>"

    def advance(self, offset: int) -> None:
        """Say that the file has been written up to `offset`."""
        with self._changed:
            self._written = offset
            self._changed.notify()

    def finish(self) -> None:
        """Wait until all that was written has passed.

        Raises:
            ContentMismatch: there is more of it than the verifier expects.
            StorageFailure: the file cannot be read back.
        """
        with self._changed:
            self._is_last = True
            self._changed.notify()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """End without regard to what has not passed. Harmless after `finish`, and twice."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._follow()
        except OrasfsError as error:
            self._error = error

    def _follow(self) -> None:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        while (stop := self._next_stop()) > self._hashed:
            part = buffer[: min(len(buffer), stop - self._hashed)]
            with disk.translated("read back what was written"):
                count = os.preadv(self._fd, [part], self._hashed)
                if not count:
                    raise OSError(0, f"the file ends at byte {self._hashed}")
            self._verifier.update(part[:count])
            self._hashed += count

    def _next_stop(self) -> int:
        """Wait for bytes to hash; return up to where, which is `_hashed` at the end."""
        with self._changed:
            while self._written == self._hashed and not (self._is_last or self._is_abandoned):
                self._changed.wait()
            return self._hashed if self._is_abandoned else self._written
