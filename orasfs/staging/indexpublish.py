"""Publishes the indexes of packed layers beside an artifact that was committed.

Owns which layers have one published, where their indexes come from (one pass over the blob that
the commit has made, or the cache), and the manifest that refers to the artifact. An index that is
made before the artifact's manifest is named there by its layer. The form of an index is
`orasfs.tree.publishedindex`.

INVARIANT: nothing here fails a commit: what cannot be published is a warning. The same artifact
has the same referrer, and what is there is not sent again.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import trio

from orasfs.errors import InvalidContent, NotFound, OrasfsError
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import BlobContent, ReferrerLister, Target
from orasfs.staging import gojson
from orasfs.staging.commit import Uploaded
from orasfs.staging.contents import BytesContent, LocalBlob, small_blob
from orasfs.staging.localdisk import translated
from orasfs.staging.manifest import EMPTY_DESCRIPTOR, descriptor_value
from orasfs.staging.progress import Progress
from orasfs.staging.upload import Uploader
from orasfs.tree.chunktable import ChunkMaker
from orasfs.tree.compression import open_decompressor
from orasfs.tree.filedigests import FileHashes
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.names import clean_title
from orasfs.tree.publishedindex import ANNOTATION_LAYER, ARTIFACT_TYPE, MEDIA_TYPE, encode
from orasfs.tree.tar import TarScanner

logger = logging.getLogger(__name__)

PUBLISH_BYTES = 64 * 1024 * 1024  # of a layer: up to here readers fetch and verify it whole
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MadeIndex:
    """An index of a layer, the table of its chunks, and digests of its files, in binary forms.

    There are none where they were not made.
    """

    index: bytes | memoryview = field(repr=False)
    chunks: bytes = field(repr=False)
    digests: bytes = field(default=b"", repr=False)


# Returns the index of a verified layer that is here, or was, if it can be had. Blocks.
FindIndex = Callable[[Descriptor], MadeIndex | None]


def know_none(_layer: Descriptor) -> MadeIndex | None:
    """Know no index."""
    return None


@runtime_checkable
class _Lists(ReferrerLister, Protocol):
    """A target that tells what refers to a manifest."""


@dataclass(frozen=True, slots=True)
class IndexReferrer:
    """A manifest that names indexes, all of which are at the target."""

    subject: Digest
    manifest: LocalBlob


class IndexPublisher:
    """Publishes the indexes of one mount's commits.

    Args:
        find: tells indexes that are known.
        least_bytes: layers up to this size have none.
    """

    def __init__(self, find: FindIndex = know_none, least_bytes: int = PUBLISH_BYTES) -> None:
        self._find = find
        self._least_bytes = least_bytes

    def __repr__(self) -> str:
        return f"<IndexPublisher from {self._least_bytes} bytes>"

    def make(self, blob: LocalBlob) -> bytes | None:
        """Return the index that is to be published of a layer that was packed, None for none.

        Blocks; for a worker thread of trio.
        """
        layer = blob.descriptor
        if layer.size <= self._least_bytes:
            return None
        try:
            return self._make(layer, blob.content)
        except OrasfsError as error:
            logger.info("no index is made title=%s error=%s", layer.title, error)
            return None

    async def prepare(
        self, uploaded: Uploaded, target: Target, progress: Progress
    ) -> IndexReferrer | None:
        """Bring the indexes of an artifact's layers to the target; None if there are none.

        Args:
            uploaded: the artifact, whose manifest need not be put yet.
            target: where it is put.
            progress: of the commit; is told what could not be done.
        """
        try:
            return await self._prepare(uploaded, target, progress)
        except OrasfsError as error:
            _warn(progress, error)
            return None

    async def attach(self, referrer: IndexReferrer, target: Target, progress: Progress) -> None:
        """Put the manifest that names the indexes, unless it is there."""
        try:
            if not await _is_there(referrer, target):
                with referrer.manifest.content.open() as content:
                    raw = content.read()
                descriptor = referrer.manifest.descriptor
                name = str(descriptor.digest)
                await target.push_manifest(raw, descriptor.media_type, name)
        except OrasfsError as error:
            _warn(progress, error)
            return
        logger.info("index published subject=%s", referrer.subject)

    async def _prepare(
        self, uploaded: Uploaded, target: Target, progress: Progress
    ) -> IndexReferrer | None:
        at_hand = {blob.descriptor.digest: blob.content for blob in uploaded.blobs}
        uploader = Uploader(target, lambda _: ())
        named: list[Descriptor] = []
        for layer in self._layers(uploaded):
            if layer.digest in uploaded.indexes:
                content = uploaded.indexes[layer.digest]
            else:
                work = partial(self._make, layer, at_hand.get(layer.digest))
                content = await trio.to_thread.run_sync(work)
            if content is None:
                progress.warnings += (f"{layer.title}: no index of it can be published",)
                continue
            blob = Descriptor(
                MEDIA_TYPE,
                Digest.of(content),
                len(content),
                annotations={ANNOTATION_LAYER: str(layer.digest)},
            )
            told = progress.add(f"index of {layer.title}", blob.size)
            await uploader.ensure(blob, BytesContent(content), told)
            named.append(blob)
        if not named:
            return None
        config = EMPTY_DESCRIPTOR
        told = progress.add(config.media_type, config.size)
        await uploader.ensure(config, BytesContent(config.data or b""), told)
        manifest = _manifest(uploaded.descriptor, named)
        return IndexReferrer(uploaded.descriptor.digest, manifest)

    def _layers(self, uploaded: Uploaded) -> list[Descriptor]:
        """Return the packed layers that are to have an index, each once."""
        with uploaded.manifest.content.open() as content:
            document = parse_document(content.read(), uploaded.descriptor.media_type)
        if not isinstance(document, Manifest):
            return []
        layers = {layer.digest: layer for layer in document.layers if layer.is_packed_directory}
        return [layer for layer in layers.values() if layer.size > self._least_bytes]

    def _make(self, layer: Descriptor, content: BlobContent | None) -> bytes | None:
        """Return the published form of a layer's index, None if there is none. Blocks.

        What is known may lack the digests of files, so that a pass is better.
        """
        made = None if content is None else index_of(content)
        published = None if made is None else _encode(made, layer)
        if published is None:
            made = self._find(layer)
            published = None if made is None else _encode(made, layer)
        return published


def index_of(content: BlobContent) -> MadeIndex | None:
    """Return the index of a layer, by one pass over it; None if it cannot be read by parts.

    For a worker thread of trio: a cancelled commit ends it.

    Raises:
        LocalFailure: it cannot be read.
    """
    hashes = FileHashes()
    scanner = TarScanner(hashes)
    try:
        with translated("read a packed layer"), content.open() as blob:
            chunk = blob.read(_READ_BYTES)
            decompressor, chunks = open_decompressor(chunk), ChunkMaker(chunk)
            while chunk:
                trio.from_thread.check_cancelled()
                for piece in decompressor.feed(chunk):
                    chunks.take(decompressor.stream_start, piece)
                    scanner.feed(piece)
                chunk = blob.read(_READ_BYTES)
            decompressor.finish()
            table = chunks.finish(content.size)
        index = b"".join(scanner.sections())
        digests = hashes.in_order(LayerIndex(index))
    except InvalidContent:
        return None
    return None if table is None else MadeIndex(index, table.to_bytes(), digests)


def _encode(made: MadeIndex, layer: Descriptor) -> bytes | None:
    try:
        return encode(made.index, made.chunks, layer, clean_title(layer.title), made.digests)
    except InvalidContent:  # the title of a base, or an index that is damaged
        return None


def _manifest(subject: Descriptor, indexes: list[Descriptor]) -> LocalBlob:
    """Return the manifest that refers to an artifact; there is no time in it."""
    bare = Descriptor(subject.media_type, subject.digest, subject.size)
    raw = gojson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": descriptor_value(EMPTY_DESCRIPTOR),
            "layers": [descriptor_value(index) for index in indexes],
            "subject": descriptor_value(bare),
        }
    )
    return small_blob(Descriptor(mediatype.OCI_MANIFEST, Digest.of(raw), len(raw)), raw)


async def _is_there(referrer: IndexReferrer, target: Target) -> bool:
    """Tell whether the manifest is among the referrers; at least whether it is there."""
    digest = referrer.manifest.descriptor.digest
    if isinstance(target, _Lists):
        found = await target.list_referrers(referrer.subject)
        return any(each.digest == digest for each in found)
    try:
        await target.resolve(str(digest))
    except NotFound:
        return False
    return True


def _warn(progress: Progress, error: OrasfsError) -> None:
    """Tell what was not done; the artifact itself is pushed, or will be."""
    logger.info("index not published error=%s", error)
    progress.warnings += (f"the index of its packed directories is not published: {error}",)
