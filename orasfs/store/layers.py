"""The unpacked layers that are open, and the readers of their members.

Owns which layers are at hand, the single unpacking of each, and the judgement whether a layer may
be shown below a title. Unpacking runs in worker threads and is shared by all who ask.

INVARIANT: a slab is closed when nothing refers to its layer any more; what is open stays readable
whatever becomes of its name.
"""

import copy
import logging
import os
import threading
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from cachetools import LRUCache

from orasfs.aio import SingleFlight
from orasfs.errors import ContentMismatch, InvalidContent, OrasfsError, StorageFailure
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStreamer
from orasfs.store import unpack
from orasfs.store.arrival import Stopped
from orasfs.store.blobs import Blobs
from orasfs.store.cas import ContentStore
from orasfs.store.counters import Counters
from orasfs.store.members import MemberReader
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.node import PackedLayer
from orasfs.tree.packed import check_packed

_OPEN_LAYERS = 128
_VERDICTS = 4096
# What `layer_now` may do on the trio thread without being felt.
_MAX_INDEX_BYTES_NOW = 1024 * 1024
_QUICK_MEMBERS = 5000

logger = logging.getLogger(__name__)

T = TypeVar("T")


class OpenLayer:
    """An unpacked layer; implements `orasfs.tree.layers.Layer`."""

    def __init__(self, unpacked: unpack.Unpacked, limiter: trio.CapacityLimiter) -> None:
        self._unpacked = unpacked
        self._limiter = limiter
        weakref.finalize(self, os.close, unpacked.slab_fd)

    def __repr__(self) -> str:
        return f"<OpenLayer {self._unpacked.index!r}>"

    @property
    def index(self) -> LayerIndex:
        """The layer's members."""
        return self._unpacked.index

    @property
    def slab_fd(self) -> int:
        """The open slab; valid as long as this object lives."""
        return self._unpacked.slab_fd

    @property
    def tar_digest(self) -> Digest:
        """The sha256 digest of the uncompressed tar."""
        return self._unpacked.tar_digest

    def open_member(self, ordinal: int) -> MemberReader:
        """Open the bytes of a file member."""
        member = self.index.member(ordinal)
        return MemberReader(self, member.size, self.index.extents(ordinal), self._limiter)


class LayerStore:
    """Opens layers, unpacking those that are not yet unpacked."""

    def __init__(
        self,
        store: ContentStore,
        blobs: Blobs,
        nursery: trio.Nursery,
        limiter: trio.CapacityLimiter,
        counters: Counters,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._limiter = limiter
        self._unpack_limiter = trio.CapacityLimiter(2)
        self._counters = counters
        self._flights: SingleFlight[OpenLayer] = SingleFlight(nursery)  # by what is judged
        self._obtaining: SingleFlight[OpenLayer] = SingleFlight(nursery)  # by digest
        self._recent: LRUCache[Digest, OpenLayer] = LRUCache(_OPEN_LAYERS)
        self._alive: weakref.WeakValueDictionary[Digest, OpenLayer] = weakref.WeakValueDictionary()
        # What is wrong with a layer as it is shown, None if nothing: content never changes.
        self._verdicts: LRUCache[Hashable, OrasfsError | None] = LRUCache(_VERDICTS)
        self._is_stopping = threading.Event()

    def __repr__(self) -> str:
        return f"<LayerStore {len(self._alive)} open>"

    def layer_now(self, layer: PackedLayer) -> OpenLayer | None:
        """Return the layer if it is unpacked and was found good, without waiting; else None."""
        opened = self._alive.get(layer.descriptor.digest)
        if opened is None:
            directory = self._directory(layer.descriptor.digest)
            unpacked = unpack.open_unpacked(directory, max_index_bytes=_MAX_INDEX_BYTES_NOW)
            if unpacked is None:
                return None
            opened = self._enter(layer.descriptor.digest, unpacked)
        key = _key(layer)
        if key not in self._verdicts and _is_quick(layer, opened):
            self._verdicts[key] = _judge(layer, opened)
        is_good = key in self._verdicts and self._verdicts[key] is None
        return opened if is_good else None

    async def open_layer(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer:
        """Return the layer, fetched, verified and unpacked.

        Raises:
            ContentMismatch: the blob or its uncompressed tar is another than its digests say.
            InvalidContent: it is no tar, or its compression is damaged or unknown.
            ContentRefused: its members would leave `layer.root`.
        """
        verdict = self._verdicts.get(_key(layer))
        if verdict is not None:
            raise copy.copy(verdict) from verdict
        opened = self._alive.get(layer.descriptor.digest)
        if opened is not None and _key(layer) in self._verdicts:
            self._recent[layer.descriptor.digest] = opened
            await trio.lowlevel.checkpoint()
            return opened
        return await self._flights.run(_key(layer), partial(self._open, layer, source))

    def relax(self) -> None:
        """Let go of the layers that are open only because they may be of use again."""
        self._recent.clear()

    def stop(self) -> None:
        """Tell the unpacking that is under way to end; returns at once."""
        self._is_stopping.set()

    async def _open(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer:
        digest = layer.descriptor.digest
        opened = self._alive.get(digest)
        if opened is None:
            obtain = partial(self._obtain, layer, source)
            try:
                opened = await self._obtaining.run(digest, obtain)
            except InvalidContent as error:
                self._verdicts[_key(layer)] = error  # the blob is what it is
                raise
        verdict = await self._in_thread(partial(_judge, layer, opened))
        self._verdicts[_key(layer)] = verdict
        if verdict is not None:
            raise copy.copy(verdict) from verdict
        return opened

    async def _obtain(self, layer: PackedLayer, source: BlobStreamer) -> OpenLayer:
        """Open what is unpacked, else fetch the blob whole and unpack it."""
        digest = layer.descriptor.digest
        directory = self._directory(digest)
        unpacked = await self._in_thread(partial(unpack.open_unpacked, directory))
        if unpacked is None:
            await self._unpack(layer, source, directory)
            unpacked = await self._in_thread(partial(unpack.open_unpacked, directory))
        if unpacked is None:
            raise StorageFailure(f"layer {digest}: what was unpacked cannot be read back")
        return self._enter(digest, unpacked)

    async def _unpack(self, layer: PackedLayer, source: BlobStreamer, directory: Path) -> None:
        blob = await self._blobs.acquire(layer.descriptor, source)
        try:
            await blob.arrival.wait_verified()
            error = blob.arrival.error
            if error is not None and not blob.arrival.is_verified:
                raise copy.copy(error) from error
            # The thread has a file of its own: it may outlive this call when the mount ends.
            fd = os.dup(blob.arrival.fd)
            await trio.to_thread.run_sync(
                partial(self._unpack_and_close, fd, directory),
                abandon_on_cancel=True,
                limiter=self._unpack_limiter,
            )
        except trio.Cancelled:
            self.stop()
            raise
        finally:
            self._blobs.release(blob)
        self._counters.layers_unpacked += 1
        logger.debug("layer unpacked: digest=%s", layer.descriptor.digest)

    def _unpack_and_close(self, fd: int, directory: Path) -> None:
        try:
            unpack.unpack(fd, directory, self._store.ingest_directory, self._check_stop)
            self._store.note(directory)
        finally:
            os.close(fd)

    def _check_stop(self) -> None:
        if self._is_stopping.is_set():
            raise Stopped

    def _enter(self, digest: Digest, unpacked: unpack.Unpacked) -> OpenLayer:
        opened = OpenLayer(unpacked, self._limiter)
        self._alive[digest] = opened
        self._recent[digest] = opened
        self._store.touch(self._directory(digest) / "slab")
        return opened

    def _directory(self, digest: Digest) -> Path:
        return self._store.root / "orasfs" / "layers" / digest.algorithm / digest.hex

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._unpack_limiter)


def _key(layer: PackedLayer) -> Hashable:
    """Return all that a verdict depends on."""
    descriptor = layer.descriptor
    return (
        descriptor.digest,
        descriptor.size,
        layer.root,
        layer.content_digest,
        layer.has_whiteouts,
    )


def _is_quick(layer: PackedLayer, opened: OpenLayer) -> bool:
    """Tell whether to judge the layer takes no time worth a thread."""
    content = layer.content_digest
    is_known = content is None or content.algorithm == opened.tar_digest.algorithm
    return is_known and (layer.has_whiteouts or len(opened.index) <= _QUICK_MEMBERS)


def _judge(layer: PackedLayer, opened: OpenLayer) -> OrasfsError | None:
    """Return what is wrong with showing the layer so, None if nothing.

    The members of an image layer are merged by name, so none of them can leave the directory.
    """
    try:
        _check_content(layer, opened)
        if not layer.has_whiteouts:
            check_packed(opened.index, layer.root)
    except (ContentMismatch, InvalidContent) as error:
        return error
    return None


def _check_content(layer: PackedLayer, opened: OpenLayer) -> None:
    wanted = layer.content_digest
    if wanted is None:
        return
    actual = opened.tar_digest
    if actual.algorithm != wanted.algorithm:
        actual = unpack.hash_slab(opened.slab_fd, wanted.algorithm)
    if actual != wanted:
        raise ContentMismatch(
            f"layer {layer.descriptor.digest}: its uncompressed tar is {actual}, "
            f"its content digest annotation says {wanted}"
        )
