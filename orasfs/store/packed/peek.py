"""A look at the head of a packed layer, for the attributes of its top directory.

A packed directory's own member comes first in the tars that clients make, so the first bytes tell
its mode and time, and a listing of artifacts need fetch no layer.
"""

from functools import partial

import trio

from orasfs.errors import InvalidContent
from orasfs.oci.storage import BlobStreamer
from orasfs.store.fetching.blobs import Blobs
from orasfs.store.fetching.readers import FileReader
from orasfs.tree.compression import open_decompressor
from orasfs.tree.layerindex import Member, MemberKind
from orasfs.tree.node import PackedLayer
from orasfs.tree.partialindex import NotKnownYet, PartialIndex
from orasfs.tree.tar import TarScanner

_HEAD_BYTES = 32 * 1024  # as much as a reader reads that does not want the whole


async def peek(
    layer: PackedLayer, source: BlobStreamer, blobs: Blobs, limiter: trio.CapacityLimiter
) -> Member | None:
    """Return the member that is the top of a packed layer; None if its head does not tell.

    Raises:
        Unreachable: and whatever else a fetch of the head raises.
    """
    if not blobs.may_be_read_early(layer.descriptor, source):
        return None
    blob = await blobs.acquire(layer.descriptor, source)
    reader = FileReader(blobs, blob, source, limiter)
    try:
        head = await reader.read(0, _HEAD_BYTES)
        return await trio.to_thread.run_sync(partial(_top, layer, head), limiter=limiter)
    finally:
        reader.close()


def _top(layer: PackedLayer, head: bytes) -> Member | None:
    """Return the top directory, if a layer that begins so has it."""
    scanner = TarScanner()
    index = PartialIndex(scanner.builder, layer)
    try:
        for piece in open_decompressor(head).feed(head):
            scanner.feed(piece)
            try:
                ordinal = index.locate(layer.root)
            except NotKnownYet:
                continue
            is_told = index.kind_of(ordinal) == MemberKind.DIRECTORY
            return index.member(ordinal) if is_told and not index.is_implicit(ordinal) else None
    except InvalidContent:
        return None  # whoever looks inside is told
    return None
