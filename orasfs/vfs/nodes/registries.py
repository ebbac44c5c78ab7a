"""Directories above registries: all registries, or all local layouts."""

from collections.abc import Collection, Iterator

from orasfs.errors import AlreadyExists, InvalidName, NotEmpty, NotPermitted, ReadOnly
from orasfs.oci.reference import is_component, is_tag, parse_registry
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.links import read_reference
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

        `HOST:PORT`, `localhost`, known hosts and those of drafts exist at once; another dotted
        name only if it resolves, so that `.git` and `package.json` do not.
        """
        try:
            host = parse_registry(name)
        except InvalidName:
            return Missing(NEVER_VALID_SECONDS)
        is_known = ":" in host or host == "localhost" or host in self._known()
        if not is_known:
            if "." not in host:
                return Missing(NEVER_VALID_SECONDS)
            if not await self._world.registries.exists(host):
                return Missing(self._world.mount.options.tag_ttl_seconds)
        return Found(self._node(name, host))

    def listing_now(self) -> IteratorListing:
        """List the known hosts, and those of drafts."""
        return IteratorListing(self._entries())

    def _known(self) -> Collection[str]:
        drafts = self._world.mount.drafts
        hosts = set() if drafts is None else drafts.hosts()
        return dict.fromkeys([*self._world.registries.known(), *sorted(hosts)])

    def _entries(self) -> Iterator[Listed]:
        seconds = self._world.mount.options.tag_ttl_seconds
        for host in self._known():
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
        """Make a layout, or begin a draft `NAME:TAG` in one, which is made if it is not there.

        Raises:
            AlreadyExists: there is one of that name.
            InvalidName: none can have that name.
            ReadOnly: nothing can be written in this mount.
        """
        if self._world.mount.drafts is None:
            raise ReadOnly("mounted read-only")
        layout, colon, tag = name.partition(":")
        if not is_component(layout) or (colon and not is_tag(tag)):
            raise InvalidName(f"{name}: expected the name of a repository, or NAME:TAG")
        if not colon and self._exists(layout):
            raise AlreadyExists(f"{name} is a layout already")
        if not self._exists(layout):
            await self._world.registries.begin_layout(layout)
        if not colon:
            return self._found(layout)
        return await self._beside(layout).make_directory(name.removeprefix(layout), mode)

    async def make_symlink(self, name: str, target: str) -> Found:
        """Begin a copy `NAME:TAG` in a layout, or let a tag name what another one does.

        Raises:
            NotPermitted: the name is no tag of a layout that is there.
        """
        layout, colon, _ = name.partition(":")
        if not colon or not self._exists(layout):
            raise NotPermitted(f"{name}: expected LAYOUT:TAG, of a layout that is there")
        is_path = not target.startswith("/") and read_reference(target) is None
        # Read from beside the layout, where the link is.
        text = f"../{target}" if is_path else target
        return await self._beside(layout).make_symlink(name.removeprefix(layout), text)

    async def remove_directory(self, name: str) -> None:
        """Drop an empty draft `NAME:TAG`, or a layout in which nothing is.

        Raises:
            NotEmpty: something is in it, or it is committed.
        """
        layout, colon, _ = name.partition(":")
        drafts = self._world.mount.drafts
        if not colon and self._exists(layout) and drafts is not None:
            if drafts.names(self._place(layout)):
                raise NotEmpty(f"{name}: drafts are in it")
            await self._world.registries.drop_layout(layout)
            return
        if not colon or not self._exists(layout):
            raise NotEmpty(f"{name}: not a draft")
        await self._beside(layout).remove_directory(name.removeprefix(layout))

    async def lookup(self, name: str) -> Answer:
        """Find a layout by name, or `NAME:TAG`, `NAME@DIGEST` an artifact of one."""
        if self._exists(name):
            return self._found(name)
        for mark in ":@":
            layout, found, _ = name.partition(mark)
            if found and self._exists(layout):
                return await self._beside(layout).lookup(name.removeprefix(layout))
        return Missing(0.0)  # asking costs nothing, and a layout may be made at any time

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
