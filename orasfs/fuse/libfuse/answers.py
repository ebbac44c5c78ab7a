"""What goes back to the kernel by pyfuse3: its exception for failures, its attributes for ours.

Owns the one place of this transport that catches everything, and the encoding of attributes.

INVARIANT: only FUSEError leaves an answered handler: anything else would end pyfuse3's loop and
leave the caller waiting for ever.
"""

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import pyfuse3

from orasfs.fuse.answers import BLOCK_SIZE, errno_for
from orasfs.vfs.operations import Attr, Entry

P = ParamSpec("P")
T = TypeVar("T")


def answered(
    handler: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn whatever a handler raises into the errno that the caller gets."""
    name = handler.__name__

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:
            raise pyfuse3.FUSEError(errno_for(error, name, args)) from error

    return answer


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes attributes; `uid` and `gid` own every file: the mounting user."""

    uid: int
    gid: int

    def entry(self, entry: Entry) -> pyfuse3.EntryAttributes:
        """Return the answer to a lookup; a name that is absent has inode 0."""
        if entry.attr is not None:
            return self.attributes(entry.attr, entry.name_seconds, entry.attr_seconds)
        absent = pyfuse3.EntryAttributes()
        absent.st_ino = 0
        absent.entry_timeout = entry.name_seconds
        return absent

    def attributes(
        self, attr: Attr, name_seconds: float, attr_seconds: float
    ) -> pyfuse3.EntryAttributes:
        """Return attributes, with for how many seconds name and attributes may be kept."""
        answer = pyfuse3.EntryAttributes()
        answer.st_ino = attr.ino
        answer.generation = 0
        answer.entry_timeout = name_seconds
        answer.attr_timeout = attr_seconds
        answer.st_mode = attr.mode
        answer.st_nlink = attr.link_count
        answer.st_uid = self.uid
        answer.st_gid = self.gid
        answer.st_size = attr.size
        answer.st_blksize = BLOCK_SIZE
        answer.st_blocks = attr.blocks
        answer.st_atime_ns, answer.st_mtime_ns, answer.st_ctime_ns = attr.times
        return answer
