"""Which request is parsed and answered by what, and how it may wait.

Owns the table. An operation that is not in it is answered ENOSYS, which the kernel takes for good:
it then does without (flush, access, opendir, lseek), by itself (copy_file_range), or says
EOPNOTSUPP to the caller (fallocate).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from orasfs.fuse.device import parsing
from orasfs.fuse.device.changing import ChangeHandlers
from orasfs.fuse.device.handlers import Answer, ReadHandlers
from orasfs.fuse.device.listings import Listings
from orasfs.fuse.device.parsing import Body
from orasfs.fuse.device.requests import Header
from orasfs.fuse.device.wire import Opcode

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is still to be done for an answer; without effect, it may be interrupted."""

    work: Callable[[], Awaitable[Answer]]
    may_interrupt: bool


@dataclass(frozen=True, slots=True)
class Late:
    """What is still to be done for an answer that nobody waits for, in a spare moment."""

    work: Callable[[], Answer]


Route = Callable[[Header, Body], Answer | Waiting | Late]


def late(parse: Callable[[Header, Body], R], handle: Callable[[R], Answer]) -> Route:
    """Return the route of what never waits, and nobody waits for."""

    def begin(header: Header, body: Body) -> Late:
        return Late(partial(handle, parse(header, body)))

    return begin


def at_once(parse: Callable[[Header, Body], R], handle: Callable[[R], Answer]) -> Route:
    """Return the route of what never waits."""

    def begin(header: Header, body: Body) -> Answer:
        return handle(parse(header, body))

    return begin


def waiting(
    parse: Callable[[Header, Body], R],
    handle: Callable[[R], Awaitable[Answer]],
    *,
    now: Callable[[R], Answer | None] | None = None,
    may_interrupt: bool = False,
) -> Route:
    """Return the route of what may wait; `now` is tried first, and returns None if it must."""

    def begin(header: Header, body: Body) -> Answer | Waiting:
        request = parse(header, body)
        answer = now(request) if now is not None else None
        return answer or Waiting(partial(handle, request), may_interrupt)

    return begin


def interruptible(
    parse: Callable[[Header, Body], R],
    handle: Callable[[R], Awaitable[Answer]],
    now: Callable[[R], Answer | None] | None = None,
) -> Route:
    """Return the route of what may wait and changes nothing."""
    return waiting(parse, handle, now=now, may_interrupt=True)


def read_routes(handlers: ReadHandlers) -> Mapping[int, Route]:
    """Return the routes of requests that read."""
    return {
        Opcode.LOOKUP: interruptible(parsing.parse_named, handlers.lookup, handlers.lookup_now),
        Opcode.GETATTR: interruptible(parsing.parse_of, handlers.getattr, handlers.getattr_now),
        Opcode.READLINK: interruptible(parsing.parse_of, handlers.readlink),
        Opcode.OPEN: _open_route(handlers),
        Opcode.READ: interruptible(parsing.parse_read, handlers.read, handlers.read_now),
        Opcode.RELEASE: late(parsing.parse_handle, handlers.release),
        Opcode.STATFS: at_once(parsing.parse_of, handlers.statfs),
        Opcode.GETXATTR: interruptible(
            parsing.parse_getxattr, handlers.getxattr, handlers.getxattr_now
        ),
        Opcode.LISTXATTR: interruptible(parsing.parse_listxattr, handlers.listxattr),
    }


def listing_routes(listings: Listings) -> Mapping[int, Route]:
    """Return the routes of requests that list; opening and closing directories is not offered."""
    return {
        Opcode.READDIR: interruptible(parsing.parse_readdir, listings.list, listings.list_now),
        Opcode.READDIRPLUS: interruptible(
            parsing.parse_readdirplus, listings.list, listings.list_now
        ),
    }


def _open_route(handlers: ReadHandlers) -> Route:
    """Return the route of OPEN: opening to read changes nothing, opening to write may."""

    def begin(header: Header, body: Body) -> Answer | Waiting:
        request = parsing.parse_open(header, body)
        answer = handlers.open_now(request)
        return answer or Waiting(partial(handlers.open, request), not request.may_change)

    return begin


def change_routes(handlers: ChangeHandlers) -> Mapping[int, Route]:
    """Return the routes of requests that change something."""
    return {
        Opcode.SETATTR: waiting(parsing.parse_setattr, handlers.setattr),
        Opcode.SYMLINK: waiting(parsing.parse_symlink, handlers.symlink),
        Opcode.MKNOD: waiting(parsing.parse_mknod, handlers.mknod),
        Opcode.MKDIR: waiting(parsing.parse_mkdir, handlers.mkdir),
        Opcode.UNLINK: waiting(parsing.parse_named, handlers.unlink),
        Opcode.RMDIR: waiting(parsing.parse_named, handlers.rmdir),
        Opcode.RENAME: waiting(parsing.parse_rename, handlers.rename),
        Opcode.RENAME2: waiting(parsing.parse_rename2, handlers.rename),
        Opcode.LINK: waiting(parsing.parse_link, handlers.link),
        Opcode.WRITE: waiting(parsing.parse_write, handlers.write, now=handlers.write_now),
        Opcode.FSYNC: waiting(parsing.parse_sync, handlers.fsync),
        Opcode.FSYNCDIR: waiting(parsing.parse_fsyncdir, handlers.fsyncdir),
        Opcode.SETXATTR: waiting(parsing.parse_setxattr, handlers.setxattr),
        Opcode.REMOVEXATTR: waiting(parsing.parse_removexattr, handlers.removexattr),
        Opcode.CREATE: waiting(parsing.parse_create, handlers.create),
    }
