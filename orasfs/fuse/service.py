"""What a transport serves, and where: what each session is given."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from orasfs.fuse.notifier import SessionNotifier
from orasfs.fuse.options import SessionOptions
from orasfs.vfs.operations import MountOperations


@dataclass(frozen=True, slots=True)
class Service:
    """A filesystem that is to be mounted.

    Attributes:
        operations: the filesystem.
        mountpoint: an absolute path without symbolic links.
        options: how to mount.
        notifier: works as long as the session lives.
        on_ready: called once the kernel has been answered for the first time.
        stop: ends the session. Requests under way get a few seconds, then an error.
    """

    operations: MountOperations
    mountpoint: str
    options: SessionOptions
    notifier: SessionNotifier
    on_ready: Callable[[], None]
    stop: trio.Event
