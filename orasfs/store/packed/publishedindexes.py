"""Finds the indexes that are published beside artifacts, and keeps those that were of use.

Owns the requests that this takes: one for what refers to a manifest, one for each manifest that
says it has indexes, whatever the number of layers, and one for each index; and the memory of where
there is none. A failure is never told: the layer is read without. Knows the ports of a source.

On disk are the index as it is published, a blob like any other, and `index.published` beside the
layer's other files, which names it. It is checked each time it is read.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import msgspec
import trio
from cachetools import LRUCache

from orasfs.aio import SingleFlight
from orasfs.errors import InvalidName, OrasfsError, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, verify
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import BlobStreamer, ManifestFetcher, ReferrerLister
from orasfs.store.content.cas import ContentStore
from orasfs.store.files import disk, ingest
from orasfs.store.packed import ranges
from orasfs.store.packed.rangedlayer import Ranging
from orasfs.tree.node import PackedLayer
from orasfs.tree.publishedindex import (
    ANNOTATION_LAYER,
    ARTIFACT_TYPE,
    MAX_COMPRESSED_BYTES,
    MEDIA_TYPE,
    Published,
    decode,
    is_vouched_for,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

FILE_NAME = "index.published"
PATIENCE_SECONDS = 5.0  # for all requests together: the layer itself can be had without
_MAX_TRIED = 4  # manifests of one subject that say they have indexes
_MAX_MANIFEST_BYTES = 256 * 1024
_REMEMBERED = 4096
_MANIFESTS = 256


@runtime_checkable
class Referred(ManifestFetcher, ReferrerLister, Protocol):
    """A source that can tell what refers to a manifest."""


class _Kept(msgspec.Struct, frozen=True):
    """What `index.published` says."""

    digest: str
    size: int


class PublishedIndexes:
    """The published indexes of layers.

    Args:
        store: where they are kept.
        ranging: whose nursery and threads are used, and what keeps them.
    """

    def __init__(self, store: ContentStore, ranging: Ranging) -> None:
        self._store = store
        self._ranging = ranging
        self._flights: SingleFlight[tuple[Manifest, ...]] = SingleFlight(ranging.nursery)
        self._told: LRUCache[Digest, tuple[Manifest, ...]] = LRUCache(_MANIFESTS)
        self._absent: LRUCache[tuple[Digest, Digest | None], None] = LRUCache(_REMEMBERED)

    def __repr__(self) -> str:
        return f"<PublishedIndexes {len(self._absent)} absent>"

    def may_have(self, layer: PackedLayer) -> bool:
        """Tell whether it is worth asking for the index of a layer."""
        return layer.manifest is not None and _key(layer) not in self._absent

    async def find(
        self, layer: PackedLayer, source: BlobStreamer, directory: Path
    ) -> Published | None:
        """Return the index of a layer that is kept, or published; None if there is none.

        Args:
            layer: which.
            source: may have it.
            directory: of the layer, in the cache.
        """
        found = await self._in_thread(partial(self._read_kept, layer, directory))
        if found is not None or not self.may_have(layer) or not isinstance(source, Referred):
            return found
        with trio.move_on_after(PATIENCE_SECONDS):
            found = await self._ask(layer, source, directory)
        if found is None:
            self._absent[_key(layer)] = None
        return found

    async def _ask(
        self, layer: PackedLayer, source: BlobStreamer, directory: Path
    ) -> Published | None:
        """Ask the source, until something of use is found."""
        if layer.manifest is None or not isinstance(source, Referred):
            return None
        told = self._told.get(layer.manifest)
        if told is None:
            learn = partial(self._learn, layer.manifest, source)
            told = await self._flights.run(layer.manifest, learn)
        for blob in sorted(_indexes_of(told, layer), key=partial(_is_doubtful, layer)):
            try:
                return await self._take(blob, layer, source, directory)
            except OrasfsError as error:
                logger.info(
                    "published index is of no use: layer=%s index=%s reason=%s",
                    layer.descriptor.digest,
                    blob.digest,
                    error,
                )
        return None

    async def _learn(self, subject: Digest, source: Referred) -> tuple[Manifest, ...]:
        """Ask for what refers to a manifest; it is remembered even if nobody waits any more."""
        told = self._told[subject] = await _ask(subject, source)
        return told

    async def _take(
        self, blob: Descriptor, layer: PackedLayer, source: BlobStreamer, directory: Path
    ) -> Published:
        """Fetch an index, check it, and have it kept."""
        content = await self._in_thread(partial(self._fetch, blob, source))
        found = await self._in_thread(partial(decode, content, layer.descriptor, layer.root))
        # Nobody need wait until it is on the disk.
        self._ranging.keeping.keep(blob.digest, partial(self._keep, blob, content, directory))
        return found

    def _fetch(self, blob: Descriptor, source: BlobStreamer) -> bytes:
        content = bytes(ranges.fetch(source, blob, 0, blob.size, self._check_stop))
        verify(content, blob.digest, blob.size)
        self._ranging.counters.bytes_received += len(content)
        return content

    def _read_kept(self, layer: PackedLayer, directory: Path) -> Published | None:
        """Read what `_keep` wrote, if it is there still. Blocks."""
        try:
            kept = msgspec.json.decode((directory / FILE_NAME).read_bytes(), type=_Kept)
            if not 0 < kept.size <= MAX_COMPRESSED_BYTES:
                return None
            descriptor = Descriptor(MEDIA_TYPE, Digest.parse(kept.digest), kept.size)
            content = self._store.read_bytes(descriptor)
            return None if content is None else decode(content, layer.descriptor, layer.root)
        except (OSError, msgspec.MsgspecError, InvalidName, OrasfsError):
            return None

    def _keep(self, blob: Descriptor, content: bytes, directory: Path) -> None:
        self._store.ingest_bytes(blob, content)
        name = msgspec.json.encode(_Kept(str(blob.digest), blob.size))
        with disk.translated(f"keep {blob.digest}"):
            fd, path = ingest.open_private(self._store.ingest_directory)
            try:
                disk.write_fully(fd, name, 0)
                directory.mkdir(parents=True, exist_ok=True)
                path.rename(directory / FILE_NAME)
            finally:
                path.unlink(missing_ok=True)
                os.close(fd)

    def _check_stop(self) -> None:
        if self._ranging.is_stopping.is_set():
            raise Unreachable("reading a published index was stopped")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(
            work, limiter=self._ranging.fetches, abandon_on_cancel=True
        )


def _key(layer: PackedLayer) -> tuple[Digest, Digest | None]:
    return layer.descriptor.digest, layer.manifest


async def _ask(subject: Digest, source: Referred) -> tuple[Manifest, ...]:
    """Return the manifests that name indexes of what another one has; none if that fails."""
    found: list[Manifest] = []
    try:
        referrers = await source.list_referrers(subject)
        for each in [each for each in referrers if _is_likely(each)][:_MAX_TRIED]:
            document = parse_document(await source.fetch_manifest(each), each.media_type)
            if isinstance(document, Manifest) and document.subject is not None:
                found += [document] if document.subject.digest == subject else []
    except OrasfsError as error:
        logger.info("no published indexes: subject=%s reason=%s", subject, error)
    return tuple(found)


def _is_likely(manifest: Descriptor) -> bool:
    return manifest.artifact_type == ARTIFACT_TYPE and manifest.size <= _MAX_MANIFEST_BYTES


def _is_doubtful(layer: PackedLayer, index: Descriptor) -> bool:
    """Tell whether the artifact does not vouch for an index."""
    return not is_vouched_for(layer.descriptor, index.digest)


def _indexes_of(manifests: Iterable[Manifest], layer: PackedLayer) -> Iterator[Descriptor]:
    """Yield what manifests say is the index of a layer."""
    for manifest in manifests:
        for blob in manifest.layers:
            is_of_it = blob.annotations.get(ANNOTATION_LAYER) == str(layer.descriptor.digest)
            is_fit = blob.media_type == MEDIA_TYPE and 0 < blob.size <= MAX_COMPRESSED_BYTES
            if is_of_it and is_fit:
                yield blob
