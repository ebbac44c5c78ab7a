"""The first answer: what this mount and the kernel will use of what both can do.

Owns the sizes of requests and the choice of features. Pure.
"""

from dataclasses import dataclass

from orasfs.errors import MountFailed
from orasfs.fuse.device import wire
from orasfs.fuse.device.requests import InitRequest
from orasfs.fuse.device.wire import Init

MAX_TRANSFER_BYTES = 1024 * 1024  # of one read or write
MAX_PAGES = MAX_TRANSFER_BYTES // 4096
MAX_BACKGROUND = 64  # reads ahead under way at once; the kernel's default is 12
CONGESTION_THRESHOLD = MAX_BACKGROUND * 3 // 4
# One: our files may be passed through to a disk, and an overlay may still be put on top of us.
STACK_DEPTH = 1

# Not among them: the write-back cache, which excludes passing through, and would keep from us
# what is written; and posix ACLs.
_WANTED = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC
    | Init.BIG_WRITES
    | Init.AUTO_INVAL_DATA
    | Init.DO_READDIRPLUS
    | Init.READDIRPLUS_AUTO
    | Init.ASYNC_DIO
    | Init.PARALLEL_DIROPS
    | Init.MAX_PAGES
    | Init.CACHE_SYMLINKS
    | Init.INIT_EXT
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed on, and the answer that says so."""

    minor: int
    may_pass_through: bool
    reply: bytes


def negotiate(request: InitRequest, *, wants_passthrough: bool) -> Agreement:
    """Choose among what the kernel offers.

    Args:
        request: the kernel's offer.
        wants_passthrough: whether the process may ask the kernel to read files by itself.

    Raises:
        MountFailed: the kernel is too old.
    """
    if request.major != wire.MAJOR or request.minor < wire.MIN_MINOR:
        raise MountFailed(
            f"the kernel speaks FUSE {request.major}.{request.minor}, "
            f"and {wire.MAJOR}.{wire.MIN_MINOR} is needed: use -o transport=pyfuse3"
        )
    wanted = _WANTED | (Init.PASSTHROUGH if wants_passthrough else Init(0))
    flags = wanted & request.flags
    passes = Init.PASSTHROUGH in flags
    minor = min(request.minor, wire.MINOR)
    reply = wire.INIT_OUT.pack(
        wire.MAJOR,
        minor,
        min(request.max_readahead, MAX_TRANSFER_BYTES),
        flags & 0xFFFFFFFF,
        MAX_BACKGROUND,
        CONGESTION_THRESHOLD,
        MAX_TRANSFER_BYTES,
        1,  # times are exact to the nanosecond
        MAX_PAGES,
        0,
        flags >> 32,
        STACK_DEPTH if passes else 0,
        0,
    )
    return Agreement(minor, passes, reply)
