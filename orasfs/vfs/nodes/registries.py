"""Directories above registries: all registries, or all local layouts."""

from collections.abc import Iterator

from orasfs.errors import InvalidName, NotEmpty, NotPermitted
from orasfs.oci.reference import parse_registry
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.inodes import Key, derive
from orasfs.vfs.namespace import LAYOUT_PREFIX, NEVER_VALID_SECONDS, Place
from orasfs.vfs.nodes.base import Answer, Found, IteratorListing, Listed, Missing, Node
from orasfs.vfs.nodes.place import PlaceNode
from orasfs.vfs.nodes.world import World


class RegistriesNode(Node):
    """One directory a registry; hosts that are not known are looked up."""

    __slots__ = ("_world",)

    def __init__(self, key: Key, world: World) -> None:
        super().__init__(key, ErrorLog())
        self._world = world

    async def lookup(self, name: str) -> Answer:
        """Find a registry by host name.

        `HOST:PORT`, `localhost` and known hosts exist at once; another dotted name only if it
        resolves, so that `.git` and `package.json` do not.
        """
        try:
            host = parse_registry(name)
        except InvalidName:
            return Missing(NEVER_VALID_SECONDS)
        is_known = ":" in host or host == "localhost" or host in self._world.registries.known()
        if not is_known:
            if "." not in host:
                return Missing(NEVER_VALID_SECONDS)
            if not await self._world.registries.exists(host):
                return Missing(self._world.mount.options.tag_ttl_seconds)
        return Found(self._node(name, host))

    def listing_now(self) -> IteratorListing:
        """List the known hosts."""
        return IteratorListing(self._entries())

    def _entries(self) -> Iterator[Listed]:
        seconds = self._world.mount.options.tag_ttl_seconds
        for host in dict.fromkeys(self._world.registries.known()):
            yield Listed(host, Found(self._node(host, host), seconds))

    def _node(self, name: str, host: str) -> Node:
        return self._world.place_node(derive(self.key, name), Place(host, ""))


class LayoutsNode(Node):
    """One repository a local layout."""

    __slots__ = ("_world",)

    def __init__(self, key: Key, world: World) -> None:
        super().__init__(key, ErrorLog())
        self._world = world

    async def make_directory(self, name: str, mode: int) -> Found:
        """Begin a draft `NAME:TAG` in a layout.

        Raises:
            NotPermitted: it names none.
        """
        layout, colon, _ = name.partition(":")
        if not colon or not self._exists(layout):
            raise NotPermitted(f"{name}: expected LAYOUT:TAG, of a layout that is there")
        return await self._beside(layout).make_directory(name.removeprefix(layout), mode)

    async def remove_directory(self, name: str) -> None:
        """Drop an empty draft `NAME:TAG`.

        Raises:
            NotEmpty: it is a layout, or what is committed.
        """
        layout, colon, _ = name.partition(":")
        if not colon or not self._exists(layout):
            raise NotEmpty(f"{name}: a layout is not removed")
        await self._beside(layout).remove_directory(name.removeprefix(layout))

    async def lookup(self, name: str) -> Answer:
        """Find a layout by name, or `NAME:TAG`, `NAME@DIGEST` an artifact of one."""
        if self._exists(name):
            return self._found(name)
        for mark in ":@":
            layout, found, _ = name.partition(mark)
            if found and self._exists(layout):
                return await self._beside(layout).lookup(name.removeprefix(layout))
        return Missing(self._world.mount.options.tag_ttl_seconds)

    def listing_now(self) -> IteratorListing:
        """List the layouts."""
        names = dict.fromkeys(self._world.registries.known())
        return IteratorListing(Listed(name, self._found(name)) for name in names)

    def _beside(self, layout: str) -> PlaceNode:
        """Return the place in which `:TAG` is what `LAYOUT:TAG` is here, under keys of its own."""
        return self._world.place_node(derive(self.key, f"{layout}:"), self._place(layout))

    def _exists(self, name: str) -> bool:
        return name in self._world.registries.known()

    def _found(self, name: str) -> Found:
        node = self._world.place_node(derive(self.key, name), self._place(name))
        return Found(node, self._world.mount.options.tag_ttl_seconds)

    @staticmethod
    def _place(name: str) -> Place:
        return Place(f"{LAYOUT_PREFIX}{name}", "")
