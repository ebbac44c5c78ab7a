"""The composition root: the one place that knows every concrete class.

Owns the order in which the parts of a mount begin and end. No policy: it reads the configuration
and hands each part what it asks for.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import trio

from orasfs.daemon import control
from orasfs.daemon.config import MountConfig
from orasfs.daemon.connect import connector
from orasfs.daemon.fetches import fetch_documents
from orasfs.daemon.knownhosts import known_hosts
from orasfs.daemon.logs import LogRing
from orasfs.daemon.offline import OfflineRegistry, refuse
from orasfs.daemon.pins import pinned_digests
from orasfs.daemon.registries import MountRegistries
from orasfs.daemon.source import LAYOUT_PREFIX, MountSource, default_local, parse_source
from orasfs.daemon.writing import Writing, default_state, source_date_epoch
from orasfs.errors import LocalFailure, StorageFailure, StorageFull
from orasfs.fuse.notifier import SessionNotifier
from orasfs.fuse.options import (
    SessionOptions,
    Transport,
    chosen_transport,
    may_pass_through,
)
from orasfs.fuse.service import Service
from orasfs.fuse.session import serve
from orasfs.oci.digest import Digest
from orasfs.staging.layerblob import Compression
from orasfs.staging.pack import Packing, PackSettings
from orasfs.store.cache import Cache
from orasfs.store.files.pending import Patience
from orasfs.store.options import CacheOptions, Transfer, Verify
from orasfs.tree.views import ViewOptions
from orasfs.vfs.fetching import Fetching
from orasfs.vfs.filesystem import Filesystem
from orasfs.vfs.operations import FilesystemStatus
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.root import LayoutRoot, reaches

logger = logging.getLogger(__name__)

# What was fetched can be fetched again: it leaves the disk to who copies out of the mount.
_PATIENCE = Patience(quiet_seconds=2.0, most_seconds=25.0)
CLOSE_SECONDS = 10.0  # for the cache to put away what it has, once nobody reads any more


async def mount_and_serve(
    config: MountConfig, ring: LogRing, *, on_ready: Callable[[], None], stop: trio.Event
) -> None:
    """Put the parts together, mount, and return when it is unmounted.

    Raises:
        InvalidName: the source names a layout that is none.
        StorageFailure: the cache's directory cannot be used.
        MountFailed: the kernel or fusermount3 refused.
    """
    source = parse_source(config.source, local=default_local())
    async with trio.open_nursery() as nursery:
        mismatches = _Mismatches()
        cache = Cache(
            config.cache, nursery, options=cache_options(config), on_mismatch=mismatches.tell
        )
        registries = _registries(config, source, cache)
        writing = _writing(config, source, registries, cache)
        if writing is not None:
            writing.begin(nursery)
        try:
            if isinstance(source.root, LayoutRoot):
                registries.registry(f"{LAYOUT_PREFIX}{source.root.label}")  # fail before mounting
            notifier = SessionNotifier()
            texts = control_files(config, registries, cache, ring, writing)
            filesystem = _filesystem(config, source, registries, cache, texts, nursery, writing)
            filesystem.set_notifier(notifier)
            mismatches.listener = filesystem.content_mismatch
            options = session_options(config)
            await serve(Service(filesystem, config.mountpoint, options, notifier, on_ready, stop))
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await _close(registries, cache, writing)
        nursery.cancel_scope.cancel()


async def _close(registries: MountRegistries, cache: Cache, writing: Writing | None) -> None:
    """Put away what the parts have open."""
    if writing is not None:
        writing.close()
    await registries.aclose()
    await cache.aclose()


class _Mismatches:
    """Passes wrong blobs on to the filesystem, which is made after the cache."""

    def __init__(self) -> None:
        self.listener: Callable[[Digest], None] | None = None

    def tell(self, digest: Digest) -> None:
        """Pass a digest on."""
        if self.listener is not None:
            self.listener(digest)


def _registries(config: MountConfig, source: MountSource, cache: Cache) -> MountRegistries:
    hosts = (*config.registries, *known_hosts(config.credential_files))
    if config.is_offline:
        return MountRegistries(
            source,
            (*hosts, *_seen(cache)),
            OfflineRegistry,
            cache.repository,
            cache.remembered,
            refuse,
        )
    return MountRegistries(
        source, hosts, connector(config, source.root), cache.repository, cache.remembered
    )


def _seen(cache: Cache) -> Sequence[str]:
    return [host for host in cache.registries() if not host.startswith(LAYOUT_PREFIX)]


def _writing(
    config: MountConfig, source: MountSource, registries: MountRegistries, cache: Cache
) -> Writing | None:
    """Return the writing half, None if there is to be none, or no disk for it."""
    if config.read_only:
        return None
    try:
        return Writing(
            default_state(),
            registries.target,
            registries.source,
            cache,
            pack_settings(config),
            reaches=partial(reaches, source.root),
            may_delete=config.may_delete,
            is_eager=config.is_eager,
            publishes_indexes=config.index == "publish",
        )
    except (LocalFailure, StorageFull) as error:
        logger.warning("mounted read-only, since drafts cannot be kept: %s", error)
        return None


def _filesystem(
    config: MountConfig,
    source: MountSource,
    registries: MountRegistries,
    cache: Cache,
    texts: Mapping[str, Callable[[], bytes]],
    nursery: trio.Nursery,
    writing: Writing | None,
) -> Filesystem:
    fetching = Fetching(nursery)

    def fetches() -> bytes:
        return control.as_json(fetch_documents(fetching.orders(), cache.transfers()))

    return Filesystem(
        source.root,
        registries,
        filesystem_options(config),
        control={**texts, control.FETCHES: fetches},
        statfs=lambda: filesystem_status(default_state() if writing else config.cache),
        nursery=nursery,
        drafts=writing.drafts if writing else None,
        fetching=fetching,
    )


def cache_options(config: MountConfig) -> CacheOptions:
    """Return the cache's part of the configuration."""
    return CacheOptions(
        verify=Verify.STRICT if config.is_strict else Verify.LAZY,
        budget=config.cache_budget,
        pinned=partial(pinned_digests, default_state() / "drafts", config.cache),
        uses_published=config.index != "ignore",
        patience=_PATIENCE,
    )


def filesystem_options(config: MountConfig) -> FilesystemOptions:
    """Return the filesystem's part of the configuration."""
    return FilesystemOptions(
        tag_ttl_seconds=config.tag_ttl_seconds,
        wait_seconds=config.wait_seconds,
        pin=config.pin,
        catalog_complete=config.catalog_complete,
        edits=config.edits,
        view=ViewOptions(
            media_type=config.media_type,
            images=config.merge_images,
            platform=config.platform,
        ),
        mountpoint=config.mountpoint,
    )


def pack_settings(config: MountConfig) -> PackSettings:
    """Return how drafts are packed, as the configuration and the environment say.

    Raises:
        InvalidInput: SOURCE_DATE_EPOCH is no number.
    """
    return PackSettings(
        packing=Packing(config.packing),
        compression=Compression(config.compression),
        allow_links=config.allow_links,
        epoch_seconds=source_date_epoch(),
    )


def session_options(config: MountConfig) -> SessionOptions:
    """Return the mount's part of the configuration."""
    return SessionOptions(
        source=config.source,
        allow_other=config.allow_other,
        read_only=config.read_only,
        flags=config.kernel_flags,
        transport=chosen_transport(Transport(config.transport), may_pass_through),
    )


def filesystem_status(directory: Path) -> FilesystemStatus:
    """Return the free space of the disk that a directory is on.

    That is where drafts are kept, which is what a write can fill; where there can be none, the
    cache.

    Raises:
        StorageFailure: the directory is gone.
    """
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        raise StorageFailure(f"{directory}: {error.strerror}") from error
    return FilesystemStatus(
        block_size=disk.f_frsize,
        blocks=disk.f_blocks,
        blocks_free=disk.f_bfree,
        blocks_available=disk.f_bavail,
        files=disk.f_files,
        files_free=disk.f_ffree,
    )


def control_files(
    config: MountConfig,
    registries: MountRegistries,
    cache: Cache,
    ring: LogRing,
    writing: Writing | None = None,
) -> Mapping[str, Callable[[], bytes]]:
    """Return what makes the content of each file of `MOUNT/.orasfs`."""
    since = time.time()
    version = installed_version()

    def status() -> bytes:
        health = registries.health()
        return control.as_json(
            control.status(
                config,
                version=version,
                pid=os.getpid(),
                since=since,
                registries=health,
                transport=session_options(config).transport.value,
            )
        )

    def metrics() -> bytes:
        statistics = dataclasses.asdict(cache.statistics())
        return control.metrics(statistics, registries.health(), since)

    def transfers() -> bytes:
        uploads = writing.uploads() if writing else []
        return control.as_json([*(_transfer(each) for each in cache.transfers()), *uploads])

    return {
        control.STATUS: status,
        control.TRANSFERS: transfers,
        control.DRAFTS: lambda: control.as_json([]),
        control.METRICS: metrics,
        control.LOG: ring.content,
        **(writing.control_files() if writing else {}),
    }


def _transfer(transfer: Transfer) -> dict[str, str | int]:
    return {
        "digest": str(transfer.digest),
        "size": transfer.size,
        "received": transfer.received,
        "state": transfer.state.value,
    }


def installed_version() -> str:
    """Return the version of the package, "0" for one that runs without being installed."""
    try:
        return metadata.version("orasfs")
    except metadata.PackageNotFoundError:
        return "0"
