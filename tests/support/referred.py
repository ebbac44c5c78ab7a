"""Sources that have a layer, and an index of it among what refers to its manifest."""

import json
from dataclasses import dataclass

from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.layerblob import Compression
from orasfs.store.repository import CachedRepository
from orasfs.tree.node import PackedLayer
from orasfs.tree.publishedindex import ANNOTATION_LAYER, ARTIFACT_TYPE, MEDIA_TYPE
from tests.fakes.source import MemorySource
from tests.support.caches import content
from tests.support.published import FILES, TAR, packed, published, vouching

BLOBS = {compression: packed(compression) for compression in Compression}
BLOB = BLOBS[Compression.GZIP]
EMPTY = Descriptor(mediatype.EMPTY, Digest.of(b"{}"), 2)


@dataclass
class Published:
    """A layer in a source, with an index beside it."""

    source: MemorySource
    layer: PackedLayer
    index: Descriptor

    @property
    def bytes_of_layer(self) -> int:
        """How much was asked for of the layer's blob."""
        return sum(
            (self.layer.descriptor.size if each.stop is None else each.stop) - each.start
            for each in self.source.streams
            if each.digest == self.layer.descriptor.digest
        )


def _json(descriptor: Descriptor, **annotations: str) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
        "annotations": annotations,
    }


def refer(
    source: MemorySource,
    subject: Descriptor,
    layer: Descriptor,
    index: bytes,
    kind: str = MEDIA_TYPE,
) -> Descriptor:
    """Publish an index of a layer, for what it is worth."""
    blob = source.add_blob(index, kind)
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": _json(EMPTY),
        "layers": [_json(blob, **{ANNOTATION_LAYER: str(layer.digest)})],
        "subject": _json(subject),
    }
    source.add_manifest(json.dumps(document).encode())
    return blob


def publish(
    blob: bytes = BLOB,
    index: bytes | None = None,
    *,
    source: MemorySource | None = None,
    tar: bytes = TAR,
    is_vouched: bool = False,
) -> Published:
    """Put a layer, and what is published as its index, into a source."""
    source = source or MemorySource()
    index = published(blob) if index is None else index
    descriptor = source.add_blob(blob)
    if is_vouched:
        descriptor = vouching(descriptor, index)
    manifest = source.add_manifest(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": mediatype.OCI_MANIFEST,
                "config": _json(EMPTY),
                "layers": [_json(descriptor, **descriptor.annotations)],
            }
        ).encode()
    )
    layer = PackedLayer(descriptor, "docs", Digest.of(tar), manifest=manifest.digest)
    return Published(source, layer, refer(source, manifest, descriptor, index))


async def check(repository: CachedRepository, layer: PackedLayer, *names: str) -> None:
    """Read files, as they are opened first and as they are opened then."""
    for name in names or FILES:
        for opened in (await repository.begin_layer(layer), await repository.open_layer(layer)):
            assert await content(opened, name) == FILES[name]
