"""One repository behind the cache: what the filesystem sees (`orasfs.vfs.ports.Repository`).

Owns the rules of when to ask the source and when to answer from what is known. Below a digest
nothing changes, so the store's answer is final. Of what may change (tags, lists, referrers) the
source is asked, and its last answer stands where asking fails. Knows no HTTP and no files.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import trio
from cachetools import LRUCache

from orasfs.aio import SingleFlight
from orasfs.errors import (
    InvalidContent,
    InvalidName,
    NotFound,
    OrasfsError,
    RegistryError,
    StorageFailure,
    StorageFull,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import MAX_MANIFEST_BYTES, parse_document
from orasfs.oci.storage import BlobReader, Page, Source
from orasfs.store.content.cas import ContentStore
from orasfs.store.content.room import Room
from orasfs.store.fetching.blobs import Blobs
from orasfs.store.fetching.passing import Passing
from orasfs.store.fetching.readers import FileReader, open_inline
from orasfs.store.layerhistory import LayerHistory
from orasfs.store.layout import InPlace
from orasfs.store.outage import Outage
from orasfs.store.packed.indexedlayers import IndexedLayers
from orasfs.store.references import References
from orasfs.tree.layerindex import Member
from orasfs.tree.layers import Layer, PassingLayer
from orasfs.tree.node import PackedLayer

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_LISTINGS = 16
_MAX_REFERRERS = 256


@dataclass(frozen=True, slots=True)
class Shared:
    """What all repositories of one cache share."""

    store: ContentStore
    blobs: Blobs
    layers: IndexedLayers
    references: References
    flights: SingleFlight[object]
    disk_limiter: trio.CapacityLimiter
    patience_seconds: float
    room: Room
    passing: Passing


class CachedRepository:
    """The repository `name` of `registry`, whose content comes from `source`."""

    def __init__(
        self, shared: Shared, source: Source, registry: str, name: str, outage: Outage
    ) -> None:
        self._shared = shared
        self._source = source
        self._registry = registry
        self._name = name
        self._outage = outage
        self._is_local = isinstance(source, InPlace)
        history = LayerHistory(shared.references, registry, name)
        self._history = None if self._is_local else history
        # Listings under way: the token of the next page -> the names before it.
        self._listings: LRUCache[str, tuple[str, ...]] = LRUCache(_MAX_LISTINGS)
        self._referrers: LRUCache[Digest, tuple[Descriptor, ...]] = LRUCache(_MAX_REFERRERS)

    def __repr__(self) -> str:
        return f"<CachedRepository {self._registry}/{self._name}>"

    async def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor that a tag or digest names; see `oci.storage.Resolver`.

        A digest whose manifest is in the store is not asked for. A tag is; if that fails, or has
        no answer within the cache's patience, what the tag was last is returned.

        Raises:
            NotFound: the source says so; the tag is then forgotten.
        """
        if ":" in reference:
            return await self._resolve_digest(Digest.parse(reference))
        last = self._shared.references.tag(self._registry, self._name, reference)
        return await self._with_last(
            ("resolve", reference), partial(self._ask_tag, reference), last
        )

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest's bytes, verified; see `oci.storage.ManifestFetcher`."""
        if descriptor.size > MAX_MANIFEST_BYTES:
            raise InvalidContent(
                f"{descriptor.digest}: a manifest of {descriptor.size} bytes, over the limit of "
                f"{MAX_MANIFEST_BYTES}"
            )
        if descriptor.data is not None:
            return descriptor.data
        if self._is_local:
            return await self._source.fetch_manifest(descriptor)
        kept = await self._in_thread(partial(self._shared.store.read_bytes, descriptor))
        if kept is not None:
            return kept
        return await self._once(
            ("manifest", descriptor.digest, descriptor.size),
            partial(self._fetch_manifest, descriptor),
        )

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        """Return a page of tags; see `oci.storage.TagLister`.

        If the first page cannot be had, the last complete list stands; without one, the tags
        that have been resolved.
        """
        work = partial(self._ask_tags, token, limit)
        last = self._last_tags(limit) if token is None else None
        return await self._with_last(("tags", token, limit), work, last, is_passing=_is_outage)

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to `subject`; see `oci.storage.ReferrerLister`.

        If the source cannot say, what it said last in this mount stands.
        """
        work = partial(self._ask_referrers, subject)
        last = self._referrers.get(subject)
        return await self._with_last(("referrers", subject), work, last, is_passing=_is_outage)

    async def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob once its first bytes are local, or take long; see `oci.storage.BlobOpener`.

        Reads wait for what they need, and for the verification of what must not be served before.
        """
        inline = open_inline(descriptor)
        if inline is not None:
            return inline
        self._note_origin(descriptor)
        work = partial(self._open_kept, descriptor)
        if self._is_local:
            return await work()
        return await self._shared.passing.open_kept(descriptor, self._source, work)

    async def _open_kept(self, descriptor: Descriptor) -> FileReader:
        blob = await self._shared.blobs.acquire(descriptor, self._source)
        return FileReader(self._shared.blobs, blob, self._source, self._shared.disk_limiter)

    async def complete_blob(self, descriptor: Descriptor) -> BlobReader:
        """Return the blob once it is complete, verified and kept; it stays until that is closed.

        Raises:
            StorageFull: there is no room to keep it.
            ContentMismatch: the source served something else.
        """
        inline = open_inline(descriptor)
        if inline is not None:
            return inline
        self._note_origin(descriptor)
        reader = await self._open_kept(descriptor)
        try:
            await reader.wait_kept()
        except BaseException:
            reader.close()
            raise
        return reader

    def layer_now(self, layer: PackedLayer) -> Layer | None:
        """Return the layer if its index is at hand; see `tree.layers.LayerOpener`."""
        return self._shared.layers.layer_now(layer, self._source, self._history)

    async def begin_layer(self, layer: PackedLayer) -> PassingLayer:
        """Begin to unpack a layer; see `tree.layers.LayerOpener`."""
        return await self._shared.layers.begin_layer(layer, self._source, self._history)

    async def peek_layer(self, layer: PackedLayer) -> Member | None:
        """Look at the head of a layer; see `tree.layers.LayerOpener`."""
        return await self._shared.layers.peek_layer(layer, self._source)

    async def open_layer(self, layer: PackedLayer) -> Layer:
        """Fetch, verify and unpack a layer; see `tree.layers.LayerOpener`."""
        self._note_origin(layer.descriptor)
        return await self._shared.layers.open_layer(layer, self._source, self._history)

    async def complete_layer(self, layer: PackedLayer) -> Layer:
        """Fetch, verify and unpack a layer, even if it can be read by parts; the disk has it then.

        Raises:
            OrasfsError: as `open_layer`, or there is no room to keep it.
        """
        self._note_origin(layer.descriptor)
        opened = await self._shared.layers.open_whole(layer, self._source, self._history)
        await self._shared.blobs.settle(layer.descriptor.digest)
        return opened

    def _note_origin(self, descriptor: Descriptor) -> None:
        origin = (self._registry, self._name)
        self._shared.room.ledger.note_origin(str(descriptor.digest), origin)

    async def _resolve_digest(self, digest: Digest) -> Descriptor:
        if not self._is_local:
            kept = await self._in_thread(partial(_describe, self._shared.store, digest))
            if kept is not None:
                return kept
        return await self._once(("resolve", digest), partial(self._source.resolve, str(digest)))

    async def _ask_tag(self, tag: str) -> Descriptor:
        references = self._shared.references
        try:
            descriptor = await self._timed(partial(self._source.resolve, tag))
        except NotFound:
            references.forget_tag(self._registry, self._name, tag)
            raise
        self._outage.end()
        references.remember_tag(self._registry, self._name, tag, descriptor)
        return descriptor

    async def _fetch_manifest(self, descriptor: Descriptor) -> bytes:
        self._note_origin(descriptor)
        raw = await self._timed(partial(self._source.fetch_manifest, descriptor))
        try:
            await self._in_thread(partial(self._shared.store.ingest_bytes, descriptor, raw))
        except (StorageFull, StorageFailure) as error:
            # It is here and it is right: a full disk is no reason to withhold it.
            logger.warning("manifest not kept: digest=%s reason=%s", descriptor.digest, error)
        return raw

    async def _timed(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and let the pace of blobs know how quick an answer can be."""
        asked_at = time.monotonic()
        answer = await ask()
        seconds = time.monotonic() - asked_at
        self._shared.blobs.pace_of(self._source).answered(seconds, is_part=False)
        return answer

    def _last_tags(self, limit: int | None) -> Page | None:
        references = self._shared.references
        names = references.tags(self._registry, self._name)
        if names is None:
            names = references.resolved_tags(self._registry, self._name) or None
        return None if names is None else Page(names[:limit])

    async def _ask_tags(self, token: str | None, limit: int | None) -> Page:
        references = self._shared.references
        try:
            page = await self._source.list_tags(token, limit=limit)
        except NotFound:
            references.forget_tags(self._registry, self._name)
            raise
        self._outage.end()
        if limit is not None:  # a probe: some registries do not say that there is more
            return page
        if token is None:
            names: tuple[str, ...] | None = tuple(page.names)
        else:
            before = self._listings.pop(token, None)
            names = None if before is None else (*before, *page.names)
        if names is not None and page.next_token is not None:
            self._listings[page.next_token] = names
        elif names is not None:
            references.remember_tags(self._registry, self._name, names)
        return page

    async def _ask_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        referrers = await self._source.list_referrers(subject)
        self._outage.end()
        self._referrers[subject] = referrers
        return referrers

    async def _with_last(
        self,
        key: tuple[object, ...],
        work: Callable[[], Awaitable[T]],
        last: T | None,
        *,
        is_passing: Callable[[OrasfsError], bool] = lambda error: not isinstance(error, NotFound),
    ) -> T:
        """Ask; where that fails in passing, or takes too long, answer what was answered last."""
        if last is None or self._is_local:
            return await self._once(key, work)
        patience = self._outage.patience_seconds(self._shared.patience_seconds)
        try:
            with trio.move_on_after(patience):
                return await self._once(key, work)
            raise TimedOut(f"no answer within {patience:g} seconds")
        except OrasfsError as error:
            if not is_passing(error):
                raise
            self._outage.begin(error)
            return last

    async def _once(self, key: tuple[object, ...], work: Callable[[], Awaitable[T]]) -> T:
        """Share one call with all who ask the same now; it goes on if they give up."""
        name = (self._registry, self._name, *key)
        # The key begins with the method, so the flight found by it has that method's type.
        return cast("T", await self._shared.flights.run(name, work))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._shared.disk_limiter)


def _is_outage(error: OrasfsError) -> bool:
    """Tell whether a list that was complete once is a better answer than the failure."""
    if isinstance(error, Unauthorized):
        return False
    return isinstance(error, RegistryError | Unreachable)


def _describe(store: ContentStore, digest: Digest) -> Descriptor | None:
    """Return the descriptor of a manifest in the store; None if there is none. Blocks."""
    size = store.size_of(digest)
    if size is None or size > MAX_MANIFEST_BYTES:
        return None
    raw = store.read_bytes(Descriptor("", digest, size))
    if raw is None:
        return None
    try:
        return Descriptor(parse_document(raw).media_type, digest, size)
    except (InvalidContent, InvalidName):
        return None
