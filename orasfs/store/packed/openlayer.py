"""Layers as their users have them: unpacked, or passing.

Owns where the bytes of a member are at any moment: in files, in those of a pass that is under way,
or nowhere, so that the layer has to be passed again. What unpacks is asked through `Opener`.
"""

import os
import weakref
from typing import Protocol

import trio

from orasfs.errors import Unsupported
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStreamer
from orasfs.store.content.cas import ContentStore
from orasfs.store.packed.memberfiles import open_blob
from orasfs.store.packed.members import Files, MemberReader
from orasfs.store.packed.rangedlayer import RangedLayer
from orasfs.store.packed.unpack import Unpacked
from orasfs.store.packed.unpacking import Unpacking
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.layers import LayerMembers, TarReader
from orasfs.tree.node import PackedLayer
from orasfs.tree.partialindex import PartialIndex


class Opener(Protocol):
    """Who opens layers, and gets their bytes."""

    async def open_layer(self, layer: PackedLayer, source: BlobStreamer) -> "OpenLayer":
        """Return the layer, unpacked and found good."""
        ...

    async def restore(self, opened: "OpenLayer") -> Unpacking | None:
        """Return the pass that brings back what is gone, None if it is back."""
        ...


class OpenLayer:
    """An unpacked layer; implements `orasfs.tree.layers.Layer` and `PassingLayer`.

    Attributes:
        layer: as what it was opened last.
        source: from where what is gone can be had again.
        tar_digests: of the uncompressed tar, those that are known.
        unpacking: the pass that brings back what is gone, while there is one.
        ranged: random access into its content, if there is any.
    """

    def __init__(
        self,
        unpacked: Unpacked,
        opener: Opener,
        store: ContentStore,
        limiter: trio.CapacityLimiter,
        layer: PackedLayer,
        ranged: RangedLayer | None = None,
    ) -> None:
        self._opener = opener
        self._store = store
        self._limiter = limiter
        self._index = unpacked.index
        self.ranged = ranged
        self._slab_fd = -1
        self.layer = layer
        self.source: BlobStreamer | None = None
        self.tar_digests: dict[str, Digest] = {}
        self.unpacking: Unpacking | None = None
        for digest in unpacked.tar_digests:
            self.tar_digests[digest.algorithm] = digest
        self.take_slab(unpacked.slab_fd)

    def __repr__(self) -> str:
        return f"<OpenLayer {self._index!r}>"

    @property
    def index(self) -> LayerIndex:
        """The layer's members."""
        return self._index

    @property
    def slab_fd(self) -> int:
        """The open slab, -1 if it is gone; valid as long as this object lives."""
        return self._slab_fd

    @property
    def is_verified(self) -> bool:
        """Whether what is read now has been verified."""
        return self.unpacking is None or self.unpacking.is_verified

    def take_slab(self, fd: int) -> None:
        """Use this slab from now on, and close it in the end."""
        if fd >= 0:
            self._slab_fd = fd
            weakref.finalize(self, os.close, fd)

    def take_back(self, done: Unpacking) -> None:
        """Use what a pass has brought back."""
        self.unpacking = None
        if os.fstat(done.slab_fd).st_size == self._index.slab_size:
            self.take_slab(os.dup(done.slab_fd))

    def open_blob(self, number: int) -> int | None:
        """Open a member that is a blob of its own; None if it is gone. The caller closes it."""
        return open_blob(self._store, self._index.blob(number))

    def open_member(self, ordinal: int) -> MemberReader:
        """Open the bytes of a file member."""
        self._store.pending.note_use()
        index = self._index
        size, place = index.size_of(ordinal), index.place(ordinal)
        return MemberReader(self, size, place, index.extents(ordinal), self._limiter)

    async def wait_for_more(self) -> None:
        """Wait for nothing: all is known."""
        await trio.lowlevel.checkpoint()

    def files_now(self, stop: int) -> Files | None:
        """Return the files that may be read up to byte `stop` of the tar; see `MemberOwner`."""
        if self.unpacking is None:
            return self
        return self.unpacking if self.unpacking.position >= stop else None

    def tar_reader(self) -> TarReader | None:
        """Return random access into the layer, if there is any."""
        if self.source is None or self.ranged is None:
            return None
        if not (self.source.is_trusted or self.ranged.is_only):
            return None  # it may be mirrors, which are asked for no parts
        return self.ranged.reader(self.source)

    async def obtain(self, stop: int) -> Files:
        """Have the layer passed again, as far as byte `stop` of the tar.

        Raises:
            Unsupported: the index is not of the tar, so that a pass would be of no use.
        """
        if self.ranged is not None and self.ranged.is_only:
            raise Unsupported(f"layer {self.layer.descriptor.digest}: it can only be had in parts")
        self.ranged = None  # who comes here was given no parts
        unpacking = await self._opener.restore(self)
        if unpacking is not None:
            await unpacking.wait_until(lambda: unpacking.position >= stop)
            if not unpacking.ended.is_set():
                return unpacking
            await self._opener.restore(self)  # until what it made is in use
        return self


class PassingLayer:
    """A layer that is being unpacked; implements `orasfs.tree.layers.PassingLayer`.

    Something of the pass must be shown when this is made.
    """

    def __init__(
        self,
        opener: Opener,
        unpacking: Unpacking,
        layer: PackedLayer,
        source: BlobStreamer,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._opener = opener
        self._unpacking = unpacking
        self._layer = layer
        self._source = source
        self._limiter = limiter
        self._opened: OpenLayer | None = None
        self._seen = 0
        # None once all is known: a large one takes memory.
        self._partial: PartialIndex | None = PartialIndex(unpacking.show(), layer)

    def __repr__(self) -> str:
        return f"<PassingLayer {self._opened or self._unpacking!r}>"

    @property
    def index(self) -> LayerMembers:
        """The members that are known now."""
        if self._opened is not None:
            return self._opened.index
        self._seen = self._unpacking.position
        return self._known_part()

    @property
    def is_verified(self) -> bool:
        """Whether the layer has been verified, and was found good."""
        return self._opened is not None and self._opened.is_verified

    def open_member(self, ordinal: int) -> MemberReader:
        """Open the bytes of a file member; see `PassingLayer.open_member`."""
        if self._opened is not None:
            return self._opened.open_member(ordinal)
        self._seen = self._unpacking.position
        partial = self._known_part()
        size, place = partial.member(ordinal).size, partial.place(ordinal)
        return MemberReader(self, size, place, partial.extents(ordinal), self._limiter)

    async def wait_for_more(self) -> None:
        """Wait until more has passed than `index` knew, or all has."""
        await self._unpacking.wait_until(lambda: self._unpacking.position > self._seen)
        if self._unpacking.ended.is_set():
            await self._open()

    def files_now(self, stop: int) -> Files | None:
        """Return the files that may be read up to byte `stop` of the tar; see `MemberOwner`."""
        if self._opened is not None:
            return self._opened.files_now(stop)
        return self._unpacking if self._unpacking.position >= stop else None

    def tar_reader(self) -> TarReader | None:
        """Return none: what passes is waited for."""
        return None

    async def obtain(self, stop: int) -> Files:
        """Wait until the tar has passed as far as byte `stop`.

        Raises:
            OrasfsError: the pass failed, or the layer turned out to be one that is not shown.
        """
        if self._opened is not None:
            return await self._opened.obtain(stop)
        await self._unpacking.wait_until(lambda: self._unpacking.position >= stop)
        if not self._unpacking.ended.is_set():
            return self._unpacking
        opened = await self._open()
        return opened.files_now(stop) or await opened.obtain(stop)

    async def _open(self) -> OpenLayer:
        if self._opened is None:
            self._opened = await self._opener.open_layer(self._layer, self._source)
            self._partial = None
        return self._opened

    def _known_part(self) -> PartialIndex:
        if self._partial is None:
            raise AssertionError("all is known, and asked for here")
        return self._partial
