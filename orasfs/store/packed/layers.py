"""The layers that are at hand: unpacked ones, and passes that are under way.

Owns which layers are open, and the single pass over each. Unpacking runs in worker threads and is
shared by all who ask.

INVARIANT: a slab is closed when nothing refers to its layer any more; what is open stays readable
whatever becomes of its name. A layer that was judged bad (`orasfs.store.packed.verdicts`) is shown
to no one any more.
"""

import copy
import logging
import os
import threading
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from cachetools import LRUCache

from orasfs.aio import LocalWork, SingleFlight, telling
from orasfs.errors import InvalidContent, StorageFailure
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStreamer
from orasfs.store.content.cas import ContentStore
from orasfs.store.fetching.blobs import Blobs
from orasfs.store.fetching.counters import Counters
from orasfs.store.options import PointOptions
from orasfs.store.packed import unpack
from orasfs.store.packed.openlayer import OpenLayer, PassingLayer
from orasfs.store.packed.openlayers import OpenLayers
from orasfs.store.packed.peek import peek
from orasfs.store.packed.points import SeekPoints
from orasfs.store.packed.rangedlayer import RangedLayer, Ranging
from orasfs.store.packed.sealed import SealedLayer
from orasfs.store.packed.tocs import Tocs
from orasfs.store.packed.unpacking import Unpacking, Workshop, hash_tar
from orasfs.store.packed.verdicts import Verdicts, judge, key_of
from orasfs.tree.layerindex import Member
from orasfs.tree.node import PackedLayer

_PASSES = 2
_PEEKED = 4096
_UNPACKING_THREADS = 2
# What `layer_now` may do on the trio thread without being felt.
_MAX_INDEX_BYTES_NOW = 1024 * 1024

logger = logging.getLogger(__name__)

T = TypeVar("T")


class LayerStore:
    """Opens layers, unpacking those that are not yet unpacked; `opened` has those that are open.

    Args:
        store: where unpacked layers are.
        blobs: where their blobs come from.
        nursery: where passes run.
        limiter: of threads that read members.
        counters: of what was done.
        on_mismatch: called with the digest of a layer that was shown and then judged to be bad.
        points: for which layers seek points are made; the attribute makes them.
    """

    def __init__(
        self,
        store: ContentStore,
        blobs: Blobs,
        nursery: trio.Nursery,
        limiter: trio.CapacityLimiter,
        counters: Counters,
        on_mismatch: Callable[[Digest], None] = lambda _: None,
        points: PointOptions | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._limiter = limiter
        self._counters = counters
        self._on_mismatch = on_mismatch
        self._is_stopping = threading.Event()
        self._unpack_limiter = trio.CapacityLimiter(_UNPACKING_THREADS)
        self._workshop = Workshop(store, blobs, self._unpack_limiter, self._is_stopping)
        self._flights: SingleFlight[OpenLayer] = SingleFlight(nursery)  # by what is judged
        self._finding: SingleFlight[OpenLayer | None] = SingleFlight(nursery)  # by digest
        self._passes: dict[Digest, Unpacking] = {}
        self.opened = OpenLayers()
        self._verdicts = Verdicts()
        self._peeked: LRUCache[Hashable, Member | None] = LRUCache(_PEEKED)
        ranging = Ranging(nursery, limiter, counters, self._is_stopping)
        self.keeping = ranging.keeping
        self._tocs = Tocs(store, ranging)
        self.points = SeekPoints(store, ranging, points or PointOptions())

    def __repr__(self) -> str:
        return f"<LayerStore {len(self.opened)} open>"

    def layer_now(
        self, layer: PackedLayer, source: BlobStreamer | None = None
    ) -> OpenLayer | None:
        """Return the layer if it is unpacked and was found good, without waiting; else None."""
        opened = self.opened.get(layer.descriptor.digest)
        if opened is None:
            if layer.descriptor.digest in self._passes:
                return None
            directory = self._directory(layer.descriptor.digest)
            unpacked = unpack.open_unpacked(directory, max_index_bytes=_MAX_INDEX_BYTES_NOW)
            if unpacked is None:
                return None
            opened = self._enter(layer, unpacked)
        opened.source = source or opened.source
        return opened if self._verdicts.is_good(layer, opened) else None

    async def begin_layer(
        self, layer: PackedLayer, source: BlobStreamer
    ) -> OpenLayer | PassingLayer:
        """Return the layer as soon as something of it may be shown; raises as `open_layer`."""
        self._verdicts.check(layer)
        digest = layer.descriptor.digest
        if self.opened.get(digest) is not None:
            return await self.open_layer(layer, source)
        if digest not in self._passes and await self._look(layer, source) is not None:
            return await self.open_layer(layer, source)
        unpacking = self._begin(layer, source)
        await unpacking.wait_until(lambda: unpacking.is_shown)
        if unpacking.is_shown:
            return PassingLayer(self, unpacking, layer, source, self._limiter)
        return await self.open_layer(layer, source)

    async def open_layer(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer:
        """Return the layer, fetched, verified and unpacked.

        Raises:
            ContentMismatch: the blob or its uncompressed tar is another than its digests say.
            InvalidContent: it is no tar, or its compression is damaged or unknown.
            ContentRefused: its members would leave `layer.root`.
        """
        self._verdicts.check(layer)
        opened = self.opened.get(layer.descriptor.digest)
        if opened is not None and self._verdicts.is_known(layer):
            opened.source = source
            self.opened.use(layer.descriptor.digest, opened)
            await trio.lowlevel.checkpoint()
            return opened
        return await self._flights.run(key_of(layer), partial(self._open, layer, source))

    async def peek_layer(self, layer: PackedLayer, source: BlobStreamer) -> Member | None:
        """Return the member that is the top of a packed directory, if the layer's head tells it.

        None, too, if the head may not be shown before the whole is verified.
        """
        key = key_of(layer)
        if key not in self._peeked:
            self._peeked[key] = await peek(layer, source, self._blobs, self._limiter)
        return self._peeked[key]

    async def knows_layer(self, layer: PackedLayer, source: BlobStreamer) -> bool:
        """Tell whether a layer is unpacked, or passing, or known by a table of its own."""
        is_here = self.layer_now(layer, source) is not None
        is_here = is_here or layer.descriptor.digest in self._passes
        return is_here or await self._look(layer, source) is not None

    def relax(self) -> None:
        """Let go of the layers that are open only because they may be of use again."""
        self.opened.relax()

    def stop(self) -> None:
        """Tell the unpacking that is under way to end; returns at once."""
        self._is_stopping.set()
        self.points.stop()

    async def restore(self, opened: OpenLayer) -> Unpacking | None:
        """Return the pass that brings back what is gone of a layer, None if it is back."""
        digest = opened.layer.descriptor.digest
        if opened.unpacking is None or opened.unpacking.ended.is_set():
            done = opened.unpacking
            if done is not None and done.error is None:
                opened.take_back(done)
                return None
            if opened.source is None:
                raise StorageFailure(f"layer {digest}: its bytes are gone, and its source unknown")
            opened.unpacking = self._begin(opened.layer, opened.source)
        return opened.unpacking

    async def _open(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer:
        opened = await self._obtain(layer, source)
        opened.source = source
        wanted = layer.content_digest
        if wanted is not None and wanted.algorithm not in opened.tar_digests:
            found = await hash_tar(self._workshop, layer.descriptor, source, wanted.algorithm)
            opened.tar_digests[wanted.algorithm] = found
        verdict = await self._in_thread(partial(judge, layer, opened))
        self._verdicts.note(layer, verdict)
        if verdict is not None:
            self._on_mismatch(layer.descriptor.digest)
            raise copy.copy(verdict) from verdict
        return opened

    async def _obtain(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer:
        """Open what is unpacked, else wait until it is."""
        digest = layer.descriptor.digest
        opened = self.opened.get(digest)
        if opened is None and digest not in self._passes:
            opened = await self._look(layer, source)
        if opened is not None:
            return opened
        for _ in range(_PASSES):  # of which each may have been evicted before it is opened
            unpacking = self._begin(layer, source)
            try:
                await unpacking.wait_ended()
            except InvalidContent as error:
                self._verdicts.note(layer, error)  # the blob is what it is
                raise
            opened = await self._finding.run(digest, partial(self._find, layer))
            if opened is not None:
                return opened
        raise StorageFailure(f"layer {digest}: what was unpacked cannot be read back")

    async def _look(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer | None:
        """Open a layer that is unpacked, or is shown by a table of contents."""
        digest = layer.descriptor.digest
        opened = await self._finding.run(digest, partial(self._find, layer))
        if opened is not None or not self._tocs.may_tell(layer, source):
            return opened
        return await self._finding.run(("toc", digest), partial(self._list, layer, source))

    async def _list(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer | None:
        """Open a layer by its table of contents."""
        digest = layer.descriptor.digest
        listed = await self._tocs.open(layer, source, self._directory(digest))
        opened = self.opened.get(digest)
        if listed is None or opened is not None:
            return opened
        return self._enter(layer, listed.unpacked, listed.ranged)

    async def _find(self, layer: PackedLayer) -> OpenLayer | None:
        """Open a layer that is unpacked."""
        digest = layer.descriptor.digest
        unpacked = await self._in_thread(partial(unpack.open_unpacked, self._directory(digest)))
        opened = self.opened.get(digest)
        if opened is None:
            return None if unpacked is None else self._enter(layer, unpacked)
        if unpacked is not None and unpacked.slab_fd >= 0:
            os.close(unpacked.slab_fd)
        return opened

    def _begin(self, layer: PackedLayer, source: BlobStreamer) -> Unpacking:
        """Return the pass over a layer, begun now if there is none."""
        digest = layer.descriptor.digest
        unpacking = self._passes.get(digest)
        if unpacking is None:
            algorithm = layer.content_digest.algorithm if layer.content_digest else "sha256"
            unpacking = Unpacking(
                self._workshop, layer.descriptor, source, self._directory(digest), algorithm
            )
            self._passes[digest] = unpacking
            self.keeping.start(partial(self._run, layer, unpacking))
        return unpacking

    async def _run(self, layer: PackedLayer, unpacking: Unpacking) -> None:
        """Run a pass; what it has made is open, and can be opened, from its end on."""
        digest = layer.descriptor.digest
        try:
            await unpacking.run()
        finally:
            del self._passes[digest]
            if unpacking.sealed is not None:
                self._keep(layer, unpacking.sealed)
        if unpacking.error is None:
            self._counters.layers_unpacked += 1
            logger.debug("layer unpacked: digest=%s", digest)

    def _keep(self, layer: PackedLayer, sealed: SealedLayer) -> None:
        """Have a layer open until it has its final names, which it is given some time later."""
        digest = layer.descriptor.digest
        opened = self.opened.get(digest)
        if opened is None:
            self._enter(layer, sealed.unpacked)
        else:
            os.close(sealed.unpacked.slab_fd)  # what is open takes that of the pass
            self.points.consider(opened, self._directory(digest))
        self.opened.hold(digest, sealed)
        self._store.pending.add(sealed, subject=digest, may_wait=True)

    def _enter(
        self, layer: PackedLayer, unpacked: unpack.Unpacked, ranged: RangedLayer | None = None
    ) -> OpenLayer:
        directory = self._directory(layer.descriptor.digest)
        ranged = ranged or self._tocs.ranged(unpacked.chunks, layer.descriptor, directory)
        opened = OpenLayer(unpacked, self, self._store, self._limiter, layer, ranged)
        self.opened.use(layer.descriptor.digest, opened)
        self._store.touch(directory / unpack.SLAB_NAME)
        self.points.consider(opened, directory)
        return opened

    def _directory(self, digest: Digest) -> Path:
        return unpack.directory_of(self._store.root, digest)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with telling(LocalWork()):
            return await trio.to_thread.run_sync(work, limiter=self._unpack_limiter)
