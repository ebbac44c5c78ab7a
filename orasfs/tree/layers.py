"""The ports that open layers. The index of a layer is in `orasfs.tree.layerindex`."""

from typing import Protocol

from orasfs.oci.storage import BlobReader
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.node import PackedLayer


class Layer(Protocol):
    """A layer that is unpacked, or as far unpacked as its readers need."""

    @property
    def index(self) -> LayerIndex:
        """The layer's members."""
        ...

    def open_member(self, ordinal: int) -> BlobReader:
        """Open the bytes of a file member."""
        ...


class LayerOpener(Protocol):
    """Opens layers, through the cache."""

    def layer_now(self, layer: PackedLayer) -> Layer | None:
        """Return the layer if its index is at hand without network or unpacking, else None."""
        ...

    async def open_layer(self, layer: PackedLayer) -> Layer:
        """Fetch, verify and unpack the layer once, and return it.

        Raises:
            ContentMismatch: the blob or its uncompressed tar is another than its digests say.
            InvalidContent: it is no tar, or its compression is damaged or unknown.
            ContentRefused: its members would leave `layer.root`, as the reference client judges.
        """
        ...
