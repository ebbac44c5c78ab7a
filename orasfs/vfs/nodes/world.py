"""All registries of a mount, each with what is known of it."""

from orasfs.vfs.keys import Key
from orasfs.vfs.links import Links
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import Place
from orasfs.vfs.nodes.artifact import TagNodes
from orasfs.vfs.nodes.place import Below, PlaceNode
from orasfs.vfs.ports import Registries
from orasfs.vfs.repositories import RegistryState
from orasfs.vfs.root import RootSpecification


class World:
    """The registries that nodes have asked for, by host, of a mount with that root."""

    def __init__(self, registries: Registries, mount: Mount, root: RootSpecification) -> None:
        self.registries = registries
        self.mount = mount
        self._root = root
        self._tag_nodes = TagNodes(mount)
        self._states: dict[str, RegistryState] = {}

    def registry(self, host: str) -> RegistryState:
        """Return what is known of a registry; makes no request."""
        state = self._states.get(host)
        if state is None:
            registry = self.registries.registry(host)
            state = self._states[host] = RegistryState(host, registry, self.mount)
        return state

    def place_node(self, key: Key, place: Place) -> PlaceNode:
        """Return the directory of a place, under a key."""
        below = Below(
            self.registry(place.host), self.mount, self._tag_nodes, self.registry, self._links
        )
        return PlaceNode(key, place, below)

    def _links(self, place: Place) -> Links:
        mountpoint = self.mount.options.mountpoint
        return Links(place, self._root, mountpoint, registry=self.registry)
