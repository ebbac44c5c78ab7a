"""The FUSE session straight on /dev/fuse: mount, serve until told to stop, unmount.

Owns the order in which its parts begin and end. Knows the port of the filesystem and nothing
behind it.

INVARIANT: whatever ends `serve`, the mount is gone when it returns.
INVARIANT: nothing in this process touches a path below the mountpoint: it would wait for itself.
"""

import logging
import os
from collections.abc import Callable
from functools import partial

import trio

from orasfs.fuse.device import replies
from orasfs.fuse.device.changing import ChangeHandlers
from orasfs.fuse.device.channel import Channel
from orasfs.fuse.device.handlers import ReadHandlers
from orasfs.fuse.device.listings import Listings
from orasfs.fuse.device.mounting import mount
from orasfs.fuse.device.openfiles import OpenFiles
from orasfs.fuse.device.replies import Encoder
from orasfs.fuse.device.routes import change_routes, listing_routes, read_routes
from orasfs.fuse.device.server import Server
from orasfs.fuse.device.wire import Notification
from orasfs.fuse.notifier import SessionNotifier
from orasfs.fuse.options import may_pass_through
from orasfs.fuse.place import detach_if_there, device_at, raise_read_ahead
from orasfs.fuse.service import Service
from orasfs.vfs.operations import MountOperations

logger = logging.getLogger(__name__)


class DeviceCache:
    """Carries notifications to the kernel (orasfs.fuse.notifier.KernelCache)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def invalidate_inode(self, ino: int) -> None:
        """Drop cached pages and attributes of an inode."""
        self._channel.notify(Notification.INVAL_INODE, replies.invalidate_inode(ino))

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Drop a name."""
        self._channel.notify(Notification.INVAL_ENTRY, replies.invalidate_entry(parent, name))


async def serve(service: Service) -> None:
    """Mount a filesystem and answer the kernel; as `orasfs.fuse.session.serve`."""
    mountpoint, notifier = service.mountpoint, service.notifier
    channel = Channel(await trio.to_thread.run_sync(partial(mount, mountpoint, service.options)))
    device = device_at(mountpoint)
    server = make_server(channel, service.operations, notifier)
    try:
        with notifier.speaking_to(DeviceCache(channel)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_announce, server, mountpoint, service.on_ready)
                await server.run(service.stop)
                nursery.cancel_scope.cancel()
    finally:
        channel.close()
        detach_if_there(mountpoint, device)
        logger.info("unmounted mountpoint=%s", mountpoint)


def make_server(
    channel: Channel, operations: MountOperations, notifier: SessionNotifier
) -> Server:
    """Put the parts together that answer the kernel."""
    encoder = Encoder(os.getuid(), os.getgid())
    wants_passthrough = may_pass_through()
    files = OpenFiles(channel if wants_passthrough else None)
    readers = ReadHandlers(operations, encoder, files, notifier.invalidate_content, channel.store)
    changers = ChangeHandlers(operations, encoder, files)
    listings = Listings(operations, encoder, channel.drop_names)
    routes = {**read_routes(readers), **listing_routes(listings), **change_routes(changers)}
    return Server(channel, readers, routes, wants_passthrough=wants_passthrough)


async def _announce(server: Server, mountpoint: str, on_ready: Callable[[], None]) -> None:
    await server.initialized.wait()
    # The kernel takes its own value from our first answer, so ours is set behind it.
    raise_read_ahead(mountpoint)
    agreement = server.agreement
    logger.info(
        "mounted mountpoint=%s protocol=7.%s passthrough=%s",
        mountpoint,
        agreement.minor if agreement else 0,
        bool(agreement and agreement.may_pass_through),
    )
    on_ready()
