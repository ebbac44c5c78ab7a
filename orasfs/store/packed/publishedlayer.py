"""A layer that is shown by the index that is published beside it.

Owns where its bytes are: in earlier layers that have the same file, if the artifact vouches for
the index; else in parts of the blob, each checked against the digest that the published index has
for it, until one does not fit. Then the layer itself is asked for, whole, and what that tells
holds from then on.

INVARIANT: nothing that comes of a published index counts as verified: even where the artifact
names it, nobody has compared it with the layer. What a pass makes is only used once it was found
to have the same members in the same places.
"""

from collections.abc import Awaitable, Callable

import trio

from orasfs.errors import ContentMismatch, Unsupported
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStream, BlobStreamer
from orasfs.store.packed.members import Files, MemberReader
from orasfs.store.packed.openlayer import OpenLayer
from orasfs.store.packed.rangedlayer import MAX_GAP_CHUNKS, RangedLayer
from orasfs.store.packed.sharedfiles import SharedFiles, SharingReader
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.layers import TarReader
from orasfs.tree.publishedindex import Published

PassWhole = Callable[[], Awaitable[OpenLayer]]


class PublishedLayer:
    """Implements `orasfs.tree.layers.Layer` and `PassingLayer` by a published index.

    Args:
        digest: of the layer's blob.
        published: what its index says.
        ranged: the parts of the layer.
        source: where they come from.
        limiter: of threads that read members.
        pass_whole: returns the layer itself, if it is as the index says.
        shared: what it shares with earlier layers, if anything may be shared.

    Attributes:
        digest: of the layer's blob.
        source: from where what is not here can be had.
    """

    def __init__(
        self,
        digest: Digest,
        published: Published,
        ranged: RangedLayer,
        source: BlobStreamer,
        limiter: trio.CapacityLimiter,
        pass_whole: PassWhole,
        shared: SharedFiles | None = None,
    ) -> None:
        self._index = published.index
        self._ranged: RangedLayer | None = ranged
        self._limiter = limiter
        self._pass_whole = pass_whole
        self._shared = shared
        self._whole: OpenLayer | None = None
        self.digest = digest
        self.source = source

    def __repr__(self) -> str:
        return f"<PublishedLayer {self._whole or self._ranged}>"

    @property
    def index(self) -> LayerIndex:
        """The layer's members, as they are told."""
        return self._index

    @property
    def is_verified(self) -> bool:
        """Whether all of the layer has been verified."""
        return self._whole is not None and self._whole.is_verified

    @property
    def slab_fd(self) -> int:
        """There is none."""
        return -1

    def open_blob(self, number: int) -> int | None:  # noqa: ARG002 - the port's
        """Return none: a published index names no blobs."""
        return None

    def open_member(self, ordinal: int) -> MemberReader | SharingReader:
        """Open the bytes of a file member."""
        index, shared = self._index, self.sharing()
        size, place = index.size_of(ordinal), index.place(ordinal)
        own = MemberReader(self, size, place, index.extents(ordinal), self._limiter)
        if shared is None or not shared.may_have(ordinal):
            return own
        return SharingReader(own, self.sharing, ordinal)

    def sharing(self) -> SharedFiles | None:
        """Return what is shared with earlier layers: nothing once the layer itself is wanted."""
        return None if self._ranged is None else self._shared

    async def wait_for_more(self) -> None:
        """Wait for nothing: all is told."""
        await trio.lowlevel.checkpoint()

    def files_now(self, stop: int) -> Files | None:
        """Return the files that may be read; see `MemberOwner`."""
        return self if self._whole is None else self._whole.files_now(stop)

    def tar_reader(self) -> TarReader | None:
        """Return random access into the layer, unless its parts were found wrong."""
        if self._whole is not None:
            return self._whole.tar_reader()
        if self._ranged is None:
            return None
        source = self.source if self.source.is_trusted else _NoParts()
        # What lies between files that are not shared is of files that are.
        is_shared = self._shared is not None and self._shared.has_donors
        return _UntilWrong(self._ranged.reader(source, 1 if is_shared else MAX_GAP_CHUNKS))

    async def obtain(self, stop: int) -> Files:
        """Have the layer itself.

        Raises:
            ContentMismatch: it is not what the index says; then this is of no use any more.
        """
        if self._whole is None:
            self._ranged = None  # whoever comes here was given no parts, or wrong ones
            self._whole = await self._pass_whole()
        return self._whole.files_now(stop) or await self._whole.obtain(stop)

    def forget_parts(self) -> None:
        """Give no more parts: the layer itself says otherwise."""
        self._ranged = None


class _UntilWrong:
    """Reads parts; who comes upon a wrong one is told that there are none."""

    def __init__(self, parts: TarReader) -> None:
        self._parts = parts

    def read_now(self, start: int, stop: int) -> bytes | None:
        return self._parts.read_now(start, stop)

    async def read(self, start: int, stop: int) -> bytes:
        try:
            return await self._parts.read(start, stop)
        except ContentMismatch as error:
            raise Unsupported(f"not what its published index says: {error}") from error


class _NoParts:
    """A source that may be mirrors, which are asked for no parts."""

    is_trusted = False

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> BlobStream:
        raise Unsupported(f"{descriptor.digest}: no bytes {start} to {stop} from a mirror")
