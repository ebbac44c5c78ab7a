"""A file of a draft while it is written, as the content of a blob that is sent meanwhile.

Owns a descriptor of its own, so that it outlives the writer's and every rename. What is known of
the writing is `orasfs.staging.writtendigest`'s. Blocking, for worker threads.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

from orasfs.oci.digest import Digest
from orasfs.staging.localdisk import translated
from orasfs.staging.writtendigest import Following


class GrowingFile:
    """Implements `orasfs.oci.storage.GrowingContent`.

    Args:
        following: what is known of its writing.
        fd: by which it is open somewhere.

    Raises (on construction):
        LocalFailure: its mode does not let us read it.
    """

    def __init__(self, following: Following, fd: int) -> None:
        self._following = following
        with translated("read what is written"):
            self._fd = _reopen(fd)

    def __repr__(self) -> str:
        return f"<GrowingFile of {self._following.written} bytes>"

    @property
    def is_lost(self) -> bool:
        """Whether it is not to be followed any more."""
        return self._following.is_lost

    def wait(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        """See `GrowingContent.wait`."""
        return self._following.wait(offset, is_cancelled)

    def flow(self, offset: int, is_cancelled: Callable[[], bool]) -> int:
        """See `GrowingContent.flow`."""
        return self._following.flow(offset, is_cancelled)

    def digest_now(self) -> Digest | None:
        """See `GrowingContent.digest_now`."""
        found = self._following.digest_now()
        return None if found is None else Digest("sha256", found)

    def open(self) -> BinaryIO:
        """See `GrowingContent.open`; the `OSError` is the caller's."""
        return os.fdopen(_reopen(self._fd), "rb", buffering=0)

    def close(self) -> None:
        """Close it. Harmless twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _reopen(fd: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
