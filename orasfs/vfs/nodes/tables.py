"""Directories whose entries are a table: name -> what makes the node."""

from collections.abc import Callable, Iterator, Mapping

from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.nodes.base import Answer, Found, IteratorListing, Listed, Missing, Node

MakeNode = Callable[[Key], Node]


class TableNode(Node):
    """A directory with fixed entries."""

    __slots__ = ("_makers",)

    def __init__(self, key: Key, errors: ErrorLog, makers: Mapping[str, MakeNode]) -> None:
        super().__init__(key, errors)
        self._makers = makers

    def lookup_now(self, name: str) -> Answer:
        """Find a name in the table."""
        make = self._makers.get(name)
        return Missing() if make is None else Found(make(derive(self.key, name)))

    def listing_now(self) -> IteratorListing:
        """List the table, sorted."""
        return IteratorListing(self._entries())

    def _entries(self) -> Iterator[Listed]:
        for name in sorted(self._makers):
            yield Listed(name, Found(self._makers[name](derive(self.key, name))))
