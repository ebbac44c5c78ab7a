"""Layers that are shown by a table of contents that their manifest vouches for.

Owns how such a table is had: from the cache, where it is a blob of its own, or by one request, two
at most, for the part of the layer that has it; and the memory of layers whose table is of no use,
which are then read whole. What tables look like is `orasfs.tree.toc`.

INVARIANT: a table is used only if its digest is the one that the manifest names.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from cachetools import LRUCache

from orasfs.errors import (
    ContentMismatch,
    InvalidContent,
    Unreachable,
    Unsupported,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, verify
from orasfs.oci.storage import BlobStreamer
from orasfs.store.content.cas import ContentStore
from orasfs.store.layout import InPlace
from orasfs.store.packed import ranges
from orasfs.store.packed.parts import Parts
from orasfs.store.packed.rangedlayer import RangedLayer, Ranging
from orasfs.store.packed.unpack import Unpacked
from orasfs.tree.chunktable import ChunkTable
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.node import PackedLayer
from orasfs.tree.toc import (
    MAX_TOC_BYTES,
    TocForm,
    TocPlace,
    estargz_start,
    find_toc,
    read_contents,
    unpack_estargz,
)
from orasfs.tree.tocentries import Contents

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REMEMBERED = 4096
_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Listed:
    """A layer whose members are known, and whose bytes are had by ranges."""

    unpacked: Unpacked
    ranged: RangedLayer


class Tocs:
    """The tables of contents of layers.

    Args:
        store: where tables are kept.
        ranging: what reads the layers that have one, and keeps tables.
    """

    def __init__(self, store: ContentStore, ranging: Ranging) -> None:
        self._store = store
        self._ranging = ranging
        self._useless: LRUCache[Digest, None] = LRUCache(_REMEMBERED)

    def __repr__(self) -> str:
        return f"<Tocs {len(self._useless)} useless>"

    def may_tell(self, layer: PackedLayer, source: BlobStreamer) -> bool:
        """Tell whether a layer is to be shown by its table.

        Not if its tar has a digest to be checked, nor where all of it is here; and not from a
        source that is not trusted, since that may be mirrors, which are asked for no parts,
        unless the table is here already.
        """
        descriptor = layer.descriptor
        if layer.content_digest is not None or descriptor.digest in self._useless:
            return False
        place = find_toc(descriptor)
        if place is None or isinstance(source, InPlace) or self._store.has(descriptor):
            return False
        return source.is_trusted or self._store.size_of(place.digest) is not None

    async def open(
        self, layer: PackedLayer, source: BlobStreamer, directory: Path
    ) -> Listed | None:
        """Return what the table of a layer tells; None if it is of no use.

        Raises:
            Unreachable: and whatever else the source raises.
        """
        descriptor = layer.descriptor
        place = find_toc(descriptor)
        if place is None:
            return None
        try:
            contents, fetched = await self._in_thread(
                partial(self._read, place, descriptor, source)
            )
            index = LayerIndex(contents.index)
        except (ContentMismatch, InvalidContent, Unsupported) as error:
            self._useless[descriptor.digest] = None
            logger.warning("layer is read whole: digest=%s reason=%s", descriptor.digest, error)
            return None
        unpacked = Unpacked(index, -1, ())
        if fetched is not None:  # nobody need wait until it is on the disk
            made = Descriptor(_MEDIA_TYPE, place.digest, len(fetched))
            self._ranging.keeping.keep(
                made.digest, partial(self._store.ingest_bytes, made, fetched)
            )
        parts = Parts(contents.chunks, descriptor, directory, self._store)
        return Listed(unpacked, RangedLayer(parts, self._ranging, is_only=True))

    def ranged(
        self, chunks: ChunkTable | None, descriptor: Descriptor, directory: Path
    ) -> RangedLayer | None:
        """Return random access into a layer that was unpacked once, if its table is known."""
        if chunks is None:
            return None
        return RangedLayer(Parts(chunks, descriptor, directory, self._store), self._ranging)

    def _read(
        self, place: TocPlace, descriptor: Descriptor, source: BlobStreamer
    ) -> tuple[Contents, bytes | None]:
        """Return what a table says, and the table itself if it is not in the cache."""
        is_first = place.form is TocForm.ZSTD_CHUNKED
        stop = place.start if is_first else descriptor.size
        kept = self._kept(place.digest)
        if kept is not None:
            return read_contents(place, kept, stop), None
        fetched = self._fetch(place, descriptor, source)
        verify(fetched, place.digest, len(fetched))
        return read_contents(place, fetched, stop), fetched

    def _fetch(self, place: TocPlace, descriptor: Descriptor, source: BlobStreamer) -> bytes:
        fetch = partial(ranges.fetch, source, descriptor, check_stop=self._check_stop)
        found = bytes(fetch(place.start, place.stop))
        if place.form is TocForm.ZSTD_CHUNKED:
            return found
        start = estargz_start(found, descriptor.size)
        if start >= place.start:
            return unpack_estargz(found[start - place.start :])
        if place.start - start > MAX_TOC_BYTES:
            raise InvalidContent(
                f"eStargz: a table of contents of {descriptor.size - start} bytes"
            )
        return unpack_estargz(bytes(fetch(start, place.start)) + found)

    def _kept(self, digest: Digest) -> bytes | None:
        size = self._store.size_of(digest)
        if size is None or size > MAX_TOC_BYTES:
            return None
        return self._store.read_bytes(Descriptor(_MEDIA_TYPE, digest, size))

    def _check_stop(self) -> None:
        if self._ranging.is_stopping.is_set():
            raise Unreachable("reading a table of contents was stopped")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(
            work, limiter=self._ranging.fetches, abandon_on_cancel=True
        )
