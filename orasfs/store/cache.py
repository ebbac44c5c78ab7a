"""The cache: everything of the store put together, at one root, for one mount.

Owns the composition; decides nothing. Several mounts and the reference client may share a root.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import trio
from cachetools import LRUCache

from orasfs.aio import SingleFlight
from orasfs.errors import StorageFailure, StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.filestate import FileState
from orasfs.oci.storage import BlobContent, Source
from orasfs.store.adopt import adopt
from orasfs.store.content.cas import ContentStore
from orasfs.store.content.room import open_room
from orasfs.store.fetching.blobs import Blobs
from orasfs.store.fetching.counters import Counters
from orasfs.store.fetching.downloads import Downloads
from orasfs.store.fetching.passing import Passing
from orasfs.store.files.pending import CLOSE_SECONDS
from orasfs.store.options import CacheOptions, Statistics, Transfer
from orasfs.store.outage import Outage
from orasfs.store.packed.indexedlayers import IndexedLayers
from orasfs.store.packed.layers import LayerStore
from orasfs.store.references import References
from orasfs.store.repository import CachedRepository, Shared

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0
_DURABLE_SECONDS = CLOSE_SECONDS + 5.0
_RELAX_SECONDS = 1.0
_DISK_THREADS = 8
_REPOSITORIES = 10_000
_MAX_ORIGINS = 8


class Cache:
    """The cache of one mount; make it inside trio, in the nursery that its work is to live in.

    Args:
        root: the directory, made if it is missing.
        nursery: where downloads and unpacking run.
        options: how it works.
        on_mismatch: called on the trio thread with the digest of a blob whose bytes were served
            before they turned out to be wrong.

    Raises (on construction):
        StorageFailure: the root cannot be used.
        StorageFull: its disk is full.
    """

    def __init__(
        self,
        root: Path,
        nursery: trio.Nursery,
        *,
        options: CacheOptions | None = None,
        on_mismatch: Callable[[Digest], None] = lambda _: None,
    ) -> None:
        options = options or CacheOptions()
        self.root = root
        self._counters = counters = Counters()
        self._repositories: LRUCache[tuple[str, str], CachedRepository] = LRUCache(_REPOSITORIES)
        self._outages: dict[str, Outage] = {}
        limiter = trio.CapacityLimiter(_DISK_THREADS)
        self._room = open_room(root, options.budget, options.pinned)
        store = ContentStore(root, self._room, options.patience)
        self._downloads = Downloads(nursery, options.downloads, options.lazy_bytes)
        blobs = Blobs(store, self._downloads, nursery, options, counters, on_mismatch)
        layers = LayerStore(store, blobs, nursery, limiter, counters, on_mismatch, options.points)
        self._layers = IndexedLayers(
            layers, store, nursery, limiter, counters, options, on_mismatch
        )
        self._references = References(root / "orasfs" / "references.sqlite")
        self._shared = Shared(
            store=store,
            blobs=blobs,
            layers=self._layers,
            references=self._references,
            flights=SingleFlight(nursery),
            disk_limiter=limiter,
            patience_seconds=options.patience_seconds,
            room=self._room,
            passing=Passing(options, on_mismatch),
        )
        self._is_closing = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._room.on_pressure(self._relax)
        self._is_recovered = trio.Event()
        nursery.start_soon(self._recover)

    def __repr__(self) -> str:
        return f"<Cache {self.root}>"

    def repository(self, source: Source, registry: str, name: str) -> CachedRepository:
        """Return the repository behind the cache; makes no request.

        The source given first for a registry and name is used as long as the name is remembered.
        """
        key = (registry, name)
        found = self._repositories.get(key)
        if found is None:
            outage = self._outages.setdefault(registry, Outage(registry))
            found = CachedRepository(self._shared, source, registry, name, outage)
            self._repositories[key] = found
        return found

    def keep(
        self, descriptor: Descriptor, content: BlobContent, state: FileState | None = None
    ) -> None:
        """Take over a blob that was made on this machine; see `store.adopt`. Blocks."""
        adopt(self._shared.store, descriptor, content, state)

    def path_of(self, descriptor: Descriptor) -> Path | None:
        """Return where a whole blob is, None if it is not here."""
        store = self._shared.store
        if not store.has(descriptor):
            return None
        return next(filter(Path.exists, store.places_of(descriptor.digest)), None)

    def note_origins(self, registry: str, name: str, digests: Iterable[Digest]) -> None:
        """Remember that a repository has blobs."""
        for digest in digests:
            self._room.ledger.note_origin(str(digest), (registry, name))

    def origins(self, registry: str, digest: Digest) -> Sequence[str]:
        """Return some repositories of a registry that had a blob. Blocks."""
        return self._room.ledger.repositories(registry, str(digest), _MAX_ORIGINS)

    def note_tag(self, registry: str, name: str, tag: str, descriptor: Descriptor) -> None:
        """Remember what a tag names now, for when its registry is away."""
        self._references.remember_tag(registry, name, tag, descriptor)

    def registries(self) -> Sequence[str]:
        """Return the registries of which something was seen."""
        return self._references.registries()

    def remembered(self, registry: str) -> Sequence[str]:
        """Return the repositories of a registry that had tags when it was last asked."""
        return self._references.repositories(registry)

    def transfers(self) -> Sequence[Transfer]:
        """Return the blobs that are being fetched or checked, in order of digest."""
        return self._downloads.transfers()

    def statistics(self) -> Statistics:
        """Return what the cache has done so far."""
        return self._counters.snapshot()

    async def aclose(self) -> None:
        """Stop what is under way, to be resumed later; wait for it a few seconds at most.

        What readers have seen whole is kept then, and has a minute more to get to the disk.
        """
        self._is_closing.set()
        self._downloads.stop()
        self._layers.stop()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_SECONDS):
            await self._downloads.wait_idle()
            await self._layers.wait_stopped()
            await self._is_recovered.wait()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _DURABLE_SECONDS):
            pending = self._shared.store.pending
            await trio.to_thread.run_sync(pending.close, abandon_on_cancel=True)
            await trio.to_thread.run_sync(self._room.ledger.close, abandon_on_cancel=True)
        self._references.close()

    def _relax(self) -> None:
        """Let go of what is not in use, called in a worker thread; wait a moment for that."""
        is_done = threading.Event()

        def relax() -> None:
            self._layers.relax()
            is_done.set()

        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(relax)
            is_done.wait(_RELAX_SECONDS)

    async def _recover(self) -> None:
        """Mend what killed processes have left, beside all else."""
        work = partial(self._room.recover, is_stopped=self._is_closing.is_set)
        try:
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        except (StorageFailure, StorageFull) as error:
            logger.warning("cache not looked through: root=%s reason=%s", self.root, error)
        finally:
            self._is_recovered.set()
