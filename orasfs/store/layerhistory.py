"""Which layers a packed directory of a repository had, as this cache has seen them.

Owns the rule which layers are earlier ones of a layer: those that a directory of the same title
had in the same repository of the same registry, and no others. So no artifact can show, or find
out, what the cache has of other repositories.
"""

from cachetools import LRUCache

from orasfs.oci.digest import Digest
from orasfs.store.references import References
from orasfs.tree.node import PackedLayer

_NOTED = 4096


class LayerHistory:
    """The layers of one repository; implements `orasfs.store.packed.indexedlayers.History`.

    Attributes:
        origin: registry and repository.
    """

    def __init__(self, references: References, registry: str, repository: str) -> None:
        self._references = references
        self.origin = (registry, repository)
        self._last: PackedLayer | None = None
        # A write for each layer and mount, even where two versions are read by turns.
        self._noted: LRUCache[tuple[str, Digest], None] = LRUCache(_NOTED)

    def __repr__(self) -> str:
        return f"<LayerHistory {'/'.join(self.origin)}>"

    def note(self, layer: PackedLayer) -> None:
        """Remember that a directory has a layer; for each use of one."""
        if layer is self._last:
            return
        self._last = layer
        key = layer.root, layer.descriptor.digest
        if layer.root and key not in self._noted:
            self._noted[key] = None
            self._references.remember_layer(*self.origin, *key)

    def earlier(self, layer: PackedLayer) -> tuple[Digest, ...]:
        """Return the other layers that the directory had, the latest seen first."""
        known = self._references.layers(*self.origin, layer.root)
        return tuple(digest for digest in known if digest != layer.descriptor.digest)
