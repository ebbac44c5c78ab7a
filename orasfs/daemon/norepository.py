"""What stands where no repository can be: the root of a registry has no name of its own.

The filesystem treats every directory below a registry alike; this answers for those whose path is
no repository's name. INVARIANT: it makes no request, and finds nothing.
"""

from orasfs.errors import NotFound
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader, Page
from orasfs.tree.layerindex import Member
from orasfs.tree.layers import Layer, PassingLayer
from orasfs.tree.node import PackedLayer


class NoRepository:
    """Implements `vfs.ports.Repository` for a name that no repository can have."""

    def __init__(self, host: str, name: str) -> None:
        self._reason = f"{host}: {name!r} is no repository's name"

    async def resolve(self, reference: str) -> Descriptor:
        """Find no manifest."""
        raise NotFound(f"{self._reason}: {reference}")

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Find no manifest."""
        raise NotFound(f"{self._reason}: {descriptor.digest}")

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:  # noqa: ARG002 - the port's
        """Find no tags."""
        raise NotFound(self._reason)

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Find no referrers."""
        raise NotFound(f"{self._reason}: {subject}")

    async def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Find no blob."""
        raise NotFound(f"{self._reason}: {descriptor.digest}")

    def layer_now(self, layer: PackedLayer) -> Layer | None:  # noqa: ARG002 - the port's
        """Have no layer at hand."""
        return None

    async def begin_layer(self, layer: PackedLayer) -> PassingLayer:
        """Find no layer."""
        raise NotFound(f"{self._reason}: {layer.descriptor.digest}")

    async def peek_layer(self, layer: PackedLayer) -> Member | None:
        """Find no layer."""
        raise NotFound(f"{self._reason}: {layer.descriptor.digest}")

    async def open_layer(self, layer: PackedLayer) -> Layer:
        """Find no layer."""
        raise NotFound(f"{self._reason}: {layer.descriptor.digest}")
