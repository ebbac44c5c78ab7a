"""The ports of layers: what is asked of their members, of their bytes, and who opens them.

The index of a whole layer is `orasfs.tree.layerindex`; that of a layer of which a part has passed
is `orasfs.tree.partialindex`. A member has the same ordinal in both.
"""

from collections.abc import Sequence
from typing import Protocol

from orasfs.oci.storage import BlobReader
from orasfs.tree.layerindex import LayerIndex, Member, MemberKind
from orasfs.tree.node import PackedLayer


class LayerMembers(Protocol):
    """The members of a layer, as far as they are known; see `LayerIndex`.

    Where not all are known, all but `kind_of` and `member` raise `NotKnownYet`; these, too, for a
    number that has not passed.
    """

    def find(self, directory: int, name: str) -> int | None:
        """Return the ordinal of the member of that name in a directory."""
        ...

    def locate(self, path: str) -> int | None:
        """Return the ordinal at a slash-separated path from the root."""
        ...

    def kind_of(self, ordinal: int) -> MemberKind:
        """Return the kind of a member."""
        ...

    def member(self, ordinal: int) -> Member:
        """Return the member of that number."""
        ...

    def is_implicit(self, ordinal: int) -> bool:
        """Tell whether no member of the tar says anything of this directory itself."""
        ...

    def children(self, ordinal: int) -> Sequence[int]:
        """Return the entries of a directory, by name in byte order."""
        ...

    def name_of(self, entry: int) -> str:
        """Return the name of an entry."""
        ...

    def resolve(self, entry: int) -> int:
        """Return the ordinal of the member that an entry names."""
        ...


class TarReader(Protocol):
    """Random access into a layer: how its bytes are had without passing all before them."""

    def read_now(self, start: int, stop: int) -> bytes | None:
        """Return the same as `read` if it can be had without waiting, else None."""
        ...

    async def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of the uncompressed tar, verified as far as is asked for."""
        ...


class Layer(Protocol):
    """A layer that is unpacked, and was found good, or is shown by an index of it."""

    @property
    def index(self) -> LayerIndex:
        """The layer's members."""
        ...

    @property
    def is_verified(self) -> bool:
        """Whether what is read of it was checked against digests that the artifact vouches for."""
        ...

    def open_member(self, ordinal: int) -> BlobReader:
        """Open the bytes of a file member."""
        ...


class PassingLayer(Protocol):
    """A layer that is being unpacked, or is unpacked by now."""

    @property
    def index(self) -> LayerMembers:
        """The layer's members, as far as they are known now; of the same ordinals later."""
        ...

    def open_member(self, ordinal: int) -> BlobReader:
        """Open the bytes of a file member; reads wait until they have passed.

        Raises:
            NotKnownYet: it has not passed, and the number is from an earlier pass.
        """
        ...

    async def wait_for_more(self) -> None:
        """Wait until more may be known than `index` or `open_member` said, to the end at most.

        Raises:
            OrasfsError: as `LayerOpener.open_layer`; what was shown is not to be used any more.
        """
        ...


class LayerOpener(Protocol):
    """Opens layers, through the cache."""

    def layer_now(self, layer: PackedLayer) -> Layer | None:
        """Return the layer if its index is at hand without network or unpacking, else None."""
        ...

    async def begin_layer(self, layer: PackedLayer) -> PassingLayer:
        """Begin to fetch and unpack a layer, and return it as soon as something may be shown.

        Raises:
            OrasfsError: as `open_layer`.
        """
        ...

    async def open_layer(self, layer: PackedLayer) -> Layer:
        """Fetch, verify and unpack the layer once, and return it.

        Raises:
            ContentMismatch: the blob or its uncompressed tar is another than its digests say.
            InvalidContent: it is no tar, or its compression is damaged or unknown.
            ContentRefused: its members would leave `layer.root`, as the reference client judges.
        """
        ...

    async def peek_layer(self, layer: PackedLayer) -> Member | None:
        """Return the member that is the top of a packed directory, if its head tells it.

        Fetches at most the head of the layer, and only where that may be served; None if that is
        not so, or not enough.
        """
        ...
