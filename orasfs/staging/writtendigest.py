"""Digests of files while they are written, so that a commit need not read large ones again.

Owns, for each file of a draft that is written from its beginning to its end, a thread that reads
back and hashes what has been written. Knows no trio and no paths: inode numbers and descriptors
go in. Files that are written in another way, and those from before the daemon began, are not
known here, and are hashed when they are committed.

INVARIANT: a digest is given out only if each byte was hashed after it was written last: a write
anywhere but at the end, a truncation, a size or a modification time that is not ours forgets it.
"""

import hashlib
import os
import threading
from collections.abc import Callable

from orasfs.errors import Aborted

FOLLOWED_BYTES = 4 * 1024 * 1024  # from which on; less is hashed in no time
MAX_THREADS = 4  # files beyond have theirs later, or when they are committed
WORTH_BYTES = 16 * 1024 * 1024  # that a request of their own is worth
PIECE_BYTES = 1024 * 1024  # that are worth sending in a request that is under way
IDLE_SECONDS = 60.0  # without a write, after which nobody waits for more
PAUSE_SECONDS = 5.0  # without a write, after which no request is kept under way
_POLL_SECONDS = 0.2
_BUFFER_BYTES = 1024 * 1024


class WrittenDigests:
    """The digests of one draft. One thread calls all methods but `find`, which any may."""

    def __init__(self) -> None:
        self._files: dict[int, Following] = {}
        self._slots = threading.Semaphore(MAX_THREADS)

    def __repr__(self) -> str:
        return f"<WrittenDigests of {len(self._files)} files>"

    def wrote(self, number: int, fd: int, offset: int, size: int) -> None:
        """Note that bytes [offset, offset + size) of the inode are in the file open at `fd`."""
        found = self._files.get(number)
        if found is None or found.written != offset:
            self.forget(number)
            if offset:
                return
            found = self._files[number] = Following(self._slots)
        found.advance(fd, size)

    def closed(self, number: int, status: os.stat_result) -> None:
        """Note that a descriptor by which it was written is about to be closed."""
        found = self._files.get(number)
        if found is None:
            return
        if found.written < FOLLOWED_BYTES or found.written != status.st_size:
            self.forget(number)
            return
        found.mtime_ns = status.st_mtime_ns
        found.rest()

    def touched(self, number: int, mtime_ns: int) -> None:
        """Note that somebody gave the file another modification time."""
        found = self._files.get(number)
        if found is not None:
            found.mtime_ns = mtime_ns

    def forget(self, number: int) -> None:
        """Note that the content is another one, or that the file is gone."""
        found = self._files.pop(number, None)
        if found is not None:
            found.abandon()

    def following(self, number: int) -> "Following | None":
        """Return what is known of an inode that is written from its beginning on."""
        return self._files.get(number)

    def find(self, status: os.stat_result) -> str | None:
        """Return the SHA-256 of a file of the draft's disk as hexadecimal digits, if it is known.

        Blocks until what was written has been hashed. Nobody may write meanwhile.
        """
        found = self._files.get(status.st_ino)
        if found is None or (found.written, found.mtime_ns) != (
            status.st_size,
            status.st_mtime_ns,
        ):
            return None
        return found.result()


class Following:
    """One file; `written` is up to where, `mtime_ns` its time when it was closed."""

    def __init__(self, slots: threading.Semaphore) -> None:
        self._slots = slots
        self.written = 0
        self.mtime_ns: int | None = None
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._is_resting = False
        self._is_lost = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def advance(self, fd: int, size: int) -> None:
        """Note that so many more bytes are in the file open at `fd`."""
        with self._changed:
            self.written += size
            self._is_resting = False
            if self._thread is None and self.written >= FOLLOWED_BYTES and not self._is_lost:
                self._begin(fd)
            self._changed.notify_all()

    def rest(self) -> None:
        """Let the thread end when it has hashed all."""
        with self._changed:
            self._is_resting = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Note that what was written is not what is there."""
        with self._changed:
            self._is_lost = True
            self._changed.notify_all()

    def result(self) -> str | None:
        """Wait until all is hashed; return the digest, None if it is not known."""
        with self._changed:
            while self._thread is not None and not self._is_lost:
                self._changed.wait()
            is_complete = self._hashed == self.written and not self._is_lost
            return self._digest.hexdigest() if is_complete else None

    @property
    def is_lost(self) -> bool:
        """Whether what was written is not what is there now, or cannot be read."""
        return self._is_lost

    def wait(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        """Return up to where it is written: well behind `offset`, or to its end. Blocks.

        Raises:
            Aborted: it is lost, cancelled, not hashed, or nobody has written for a while.
        """
        found = self._wait(offset, WORTH_BYTES, IDLE_SECONDS, is_cancelled)
        if found is None:
            raise Aborted("nobody writes it now")
        return found

    def flow(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        """Return up to where it is written: behind `offset`, unless nobody writes now. Blocks.

        Raises:
            Aborted: it is lost, cancelled or not hashed.
        """
        found = self._wait(offset, PIECE_BYTES, PAUSE_SECONDS, is_cancelled)
        return self.written if found is None else found

    def _wait(
        self, offset: int, worth: int, patience: float, is_cancelled: Callable[[], bool]
    ) -> int | None:
        waited, seen = 0.0, self.written
        with self._changed:
            while not self._is_complete() and self.written - offset < worth:
                if self._is_stuck() or is_cancelled():
                    raise Aborted("it is not written from its beginning to its end now")
                if waited >= patience:
                    return None
                self._changed.wait(_POLL_SECONDS)
                waited = waited + _POLL_SECONDS if self.written == seen else 0.0
                seen = self.written
            return self.written

    def digest_now(self) -> str | None:
        """Return the digest if all is hashed, and nobody has it open to write more."""
        with self._changed:
            return self._digest.hexdigest() if self._is_complete() else None

    def _is_complete(self) -> bool:
        return self._is_resting and self._hashed == self.written and not self._is_lost

    def _is_stuck(self) -> bool:
        """Tell whether it will never be complete as things are."""
        return self._is_lost or (self._is_resting and self._thread is None)

    def _begin(self, fd: int) -> None:
        if not self._slots.acquire(blocking=False):
            return
        try:
            # A descriptor of its own: the writer's may be closed before all is hashed.
            reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a mode that does not let us read
            self._slots.release()
            self._is_lost = True
            return
        # A daemon: a process that ends does not wait for digests nobody will ask for.
        self._thread = threading.Thread(
            target=self._work, args=(reader,), name="hashing", daemon=True
        )
        self._thread.start()

    def _work(self, fd: int) -> None:
        try:
            self._follow(fd)
        except OSError:
            with self._changed:
                self._is_lost = True
                self._end()
        finally:
            os.close(fd)
            self._slots.release()

    def _follow(self, fd: int) -> None:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        while (stop := self._next_stop()) > self._hashed:
            part = buffer[: stop - self._hashed]
            count = os.preadv(fd, [part], self._hashed)
            if not count:
                raise OSError(0, f"the file ends at byte {self._hashed}")
            self._digest.update(part[:count])
            self._hashed += count

    def _next_stop(self) -> int:
        """Wait for bytes to hash; return up to where, which is what is hashed at the end."""
        with self._changed:
            while self._hashed == self.written and not (self._is_resting or self._is_lost):
                self._changed.wait()
            stop = self._hashed if self._is_lost else self.written
            if stop == self._hashed:
                self._end()  # before anybody else writes: then another thread begins
            return stop

    def _end(self) -> None:
        self._thread = None
        self._changed.notify_all()
