"""The layers of a cache, those among them that are shown by published indexes.

Owns the rules when a published index is used: for a layer over the size up to which everything is
verified before it is shown, from where parts of it might be served unverified, and if nothing else
is known of it here; and that such a layer has files in common only with what its `History` names.
All else is `orasfs.store.packed.layers`, which this stands in front of.

INVARIANT: once a published index was shown in this mount, the layer itself is shown in its place
only if it has the same members in the same places: inodes are numbers of members. If it has not,
the layer is shown to no one any more. What is shown by an index that an artifact vouches for is
shown so to none that does not, nor in another repository.
"""

import copy
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import trio
from cachetools import LRUCache

from orasfs.aio import SingleFlight
from orasfs.errors import ContentMismatch
from orasfs.oci.descriptor import ANNOTATION_INDEX
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStreamer
from orasfs.store.content.cas import ContentStore
from orasfs.store.fetching.counters import Counters
from orasfs.store.layout import InPlace
from orasfs.store.options import CacheOptions, Verify
from orasfs.store.packed import unpack
from orasfs.store.packed.donors import find_donors
from orasfs.store.packed.layers import LayerStore
from orasfs.store.packed.openlayer import OpenLayer, PassingLayer
from orasfs.store.packed.parts import Parts
from orasfs.store.packed.publishedindexes import FILE_NAME, PublishedIndexes
from orasfs.store.packed.publishedlayer import PublishedLayer
from orasfs.store.packed.rangedlayer import RangedLayer, Ranging
from orasfs.store.packed.sharedfiles import Donor, SharedFiles
from orasfs.store.packed.verdicts import key_of
from orasfs.tree.layerindex import Member
from orasfs.tree.node import PackedLayer
from orasfs.tree.publishedindex import Published, fingerprint

logger = logging.getLogger(__name__)

_RECENT_BYTES = 64 * 1024 * 1024  # of indexes, which are in memory


class History(Protocol):
    """What a repository's directories had; one for each repository."""

    @property
    def origin(self) -> Hashable:
        """What tells the repository from others."""
        ...

    def note(self, layer: PackedLayer) -> None:
        """Remember that a directory has a layer; returns at once."""
        ...

    def earlier(self, layer: PackedLayer) -> Sequence[Digest]:
        """Return the other layers that the layer's directory had."""
        ...


class IndexedLayers:
    """Opens layers, by their published indexes where that may be done.

    Args:
        layers: opens all others.
        store: the cache.
        nursery: where requests run.
        limiter: of threads that read members.
        counters: of what was done.
        options: whether published indexes are used at all, and for which layers.
        on_mismatch: called with the digest of a layer that was shown as it is not.
    """

    def __init__(
        self,
        layers: LayerStore,
        store: ContentStore,
        nursery: trio.Nursery,
        limiter: trio.CapacityLimiter,
        counters: Counters,
        options: CacheOptions,
        on_mismatch: Callable[[Digest], None] = lambda _: None,
    ) -> None:
        self._layers = layers
        self._store = store
        self._limiter = limiter
        self._on_mismatch = on_mismatch
        self._is_wanted = options.uses_published and options.verify is Verify.LAZY
        self._least_bytes = options.lazy_bytes
        self._is_stopping = threading.Event()
        self._ranging = Ranging(nursery, limiter, counters, self._is_stopping)
        self._indexes = PublishedIndexes(store, self._ranging)
        self._flights: SingleFlight[PublishedLayer | None] = SingleFlight(nursery)
        self._recent: LRUCache[Hashable, PublishedLayer] = LRUCache(
            _RECENT_BYTES, getsizeof=lambda opened: len(opened.index.buffer)
        )
        self._alive: weakref.WeakValueDictionary[Hashable, PublishedLayer] = (
            weakref.WeakValueDictionary()
        )
        self._shown: dict[Digest, bytes] = {}  # fingerprints, of the layers not yet compared
        self._wrong: dict[Digest, ContentMismatch] = {}

    def __repr__(self) -> str:
        return f"<IndexedLayers {len(self._alive)} published, {self._layers!r}>"

    def layer_now(
        self,
        layer: PackedLayer,
        source: BlobStreamer | None = None,
        history: History | None = None,
    ) -> OpenLayer | PublishedLayer | None:
        """Return the layer if it is known and was found good, without waiting; else None."""
        digest = layer.descriptor.digest
        if digest in self._wrong:
            return None
        if digest in self._shown:
            return self._alive.get(_key(layer, history))
        opened = self._layers.layer_now(layer, source)
        if opened is not None and history is not None:
            history.note(layer)
        return opened

    async def begin_layer(
        self, layer: PackedLayer, source: BlobStreamer, history: History | None = None
    ) -> OpenLayer | PassingLayer | PublishedLayer:
        """Return the layer as soon as something of it may be shown; raises as `open_layer`."""
        published = await self._find(layer, source, history)
        if published is not None:
            return published
        if layer.descriptor.digest in self._shown:
            return await self.open_whole(layer, source, history)
        begun = await self._layers.begin_layer(layer, source)
        if history is not None:
            history.note(layer)
        return begun

    async def open_layer(
        self, layer: PackedLayer, source: BlobStreamer, history: History | None = None
    ) -> OpenLayer | PublishedLayer:
        """Return the layer, with all that it has in it.

        Raises:
            ContentMismatch: as `LayerStore.open_layer`, or it is not as it was shown before.
            InvalidContent: it is no tar.
        """
        found = await self._find(layer, source, history)
        return found or await self.open_whole(layer, source, history)

    async def open_whole(
        self, layer: PackedLayer, source: BlobStreamer, history: History | None = None
    ) -> OpenLayer:
        """Return the layer itself, verified and unpacked; raises as `open_layer`."""
        self._check(layer)
        opened = await self._layers.open_layer(layer, source)
        digest = layer.descriptor.digest
        shown = self._shown.get(digest)
        if shown is not None:
            work = partial(fingerprint, opened.index.buffer)
            found = await trio.to_thread.run_sync(work, limiter=self._limiter)
            if found != shown:
                self._condemn(digest)
            elif self._shown.pop(digest, None) is not None:
                logger.info("layer is as its published index says: digest=%s", digest)
        self._check(layer)
        if history is not None:
            history.note(layer)
        return opened

    async def peek_layer(self, layer: PackedLayer, source: BlobStreamer) -> Member | None:
        """Return the member that is the top of a packed directory; see `LayerStore`."""
        return await self._layers.peek_layer(layer, source)

    def relax(self) -> None:
        """Let go of the layers that are open only because they may be of use again."""
        self._recent.clear()
        self._layers.relax()

    def stop(self) -> None:
        """Tell what is under way to end; returns at once."""
        self._is_stopping.set()
        self._layers.stop()

    async def wait_stopped(self) -> None:
        """Wait until all is kept, and nothing uses the store any more, after `stop`."""
        await self._layers.keeping.wait_idle()
        await self._layers.points.wait_stopped()
        await self._ranging.keeping.wait_idle()

    async def _find(
        self, layer: PackedLayer, source: BlobStreamer, history: History | None
    ) -> PublishedLayer | None:
        """Return the layer as its published index shows it, if that is to be used."""
        self._check(layer)
        key = _key(layer, history)
        opened = self._alive.get(key)
        if opened is not None and layer.descriptor.digest in self._shown:
            opened.source = source
            self._recent[key] = opened
            await trio.lowlevel.checkpoint()
            return opened
        if not self._may_show(layer, source):
            return None
        return await self._flights.run(key, partial(self._open, layer, source, history))

    def _may_show(self, layer: PackedLayer, source: BlobStreamer) -> bool:
        descriptor = layer.descriptor
        is_asked = self._is_wanted and not layer.has_whiteouts and not isinstance(source, InPlace)
        if not is_asked or descriptor.size <= self._least_bytes or self._store.has(descriptor):
            return False
        if source.is_trusted and self._indexes.may_have(layer):
            return True
        return (self._directory(descriptor.digest) / FILE_NAME).exists()

    async def _open(
        self, layer: PackedLayer, source: BlobStreamer, history: History | None
    ) -> PublishedLayer | None:
        if await self._layers.knows_layer(layer, source):
            return None
        digest = layer.descriptor.digest
        directory = self._directory(digest)
        published = await self._indexes.find(layer, source, directory)
        if published is None:
            return None
        if self._shown.setdefault(digest, published.fingerprint) != published.fingerprint:
            return None  # two that differ: the layer itself tells
        parts = Parts(published.chunks, layer.descriptor, directory, self._store)
        ranged = RangedLayer(parts, self._ranging)
        opened = PublishedLayer(
            digest,
            published,
            ranged,
            source,
            self._limiter,
            partial(self.open_whole, layer, source),
            self._shared(layer, published, history),
        )
        key = _key(layer, history)
        self._alive[key] = self._recent[key] = opened
        if history is not None:
            history.note(layer)
        logger.info("layer is shown by its published index: digest=%s", digest)
        return opened

    def _shared(
        self, layer: PackedLayer, published: Published, history: History | None
    ) -> SharedFiles | None:
        if published.digests is None or history is None:
            return None

        async def find() -> Sequence[Donor]:
            earlier = history.earlier(layer)
            return await find_donors(earlier, self._layers.opened, self._store, self._limiter)

        nursery = self._ranging.nursery
        return SharedFiles(published.index, published.digests, find, nursery, self._limiter)

    def _condemn(self, digest: Digest) -> None:
        """Show a layer no more that was shown as it is not."""
        if digest in self._wrong:
            return
        self._wrong[digest] = ContentMismatch(
            f"layer {digest}: it is not what the index says that is published beside it, by which "
            "it was shown; mount again, with index=ignore, to read it"
        )
        logger.error("layer was shown wrongly by a published index: digest=%s", digest)
        for opened in list(self._alive.values()):
            if opened.digest == digest:
                opened.forget_parts()
        self._on_mismatch(digest)

    def _check(self, layer: PackedLayer) -> None:
        error = self._wrong.get(layer.descriptor.digest)
        if error is not None:
            raise copy.copy(error) from error

    def _directory(self, digest: Digest) -> Path:
        return unpack.directory_of(self._store.root, digest)


def _key(layer: PackedLayer, history: History | None) -> Hashable:
    """Return all that it depends on how a layer is shown by its published index."""
    vouched = layer.descriptor.annotations.get(ANNOTATION_INDEX)
    if vouched is None or history is None:
        return key_of(layer)
    return key_of(layer), vouched, history.origin
