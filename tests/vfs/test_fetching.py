"""Orders to fetch: what is walked, what is told, how they end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
import trio.testing

from orasfs.errors import Forbidden, NoAttribute, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader
from orasfs.tree.layers import Layer
from orasfs.tree.node import PackedLayer
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.fetching import CANCEL, FETCH, Fetching, FetchOrder, FetchPhase, received
from orasfs.vfs.keys import Key
from orasfs.vfs.memory import MemoryReader
from orasfs.vfs.nodes.base import Found, IteratorListing, Listed, Node, Piece, Stat
from orasfs.vfs.ports import Repository


@dataclass
class FakeRepository:
    """Completes blobs, or fails to, and notes which."""

    failures: dict[Digest, OrasfsError] = field(default_factory=dict)
    completed: list[Digest] = field(default_factory=list)
    gate: trio.Event = field(default_factory=trio.Event)

    async def complete_blob(self, descriptor: Descriptor) -> BlobReader:
        await self.gate.wait()
        if descriptor.digest in self.failures:
            raise self.failures[descriptor.digest]
        self.completed.append(descriptor.digest)
        return MemoryReader(b"")

    async def complete_layer(self, layer: PackedLayer) -> Layer:
        raise NotImplementedError(str(layer))


def descriptor_of(name: str) -> Descriptor:
    return Descriptor("", Digest.of(name.encode()), 10)


class FileNode(Node):
    """A blob as a file."""

    __slots__ = ("_piece",)

    def __init__(self, name: str, repository: FakeRepository) -> None:
        super().__init__(Key(name.encode()), ErrorLog())
        self._piece = Piece(cast("Repository", repository), descriptor_of(name))

    @property
    def piece(self) -> Piece:
        return self._piece

    def stat(self) -> Stat:
        return Stat(0o100644, 10)


class DirectoryNode(Node):
    """A directory of such files."""

    __slots__ = ("_names",)

    def __init__(self, names: dict[str, Node]) -> None:
        super().__init__(Key(b"directory"), ErrorLog())
        self._names = names

    async def listing(self) -> IteratorListing:
        await trio.lowlevel.checkpoint()
        return IteratorListing(iter([Listed(name, Found(n)) for name, n in self._names.items()]))


class LocalNode(Node):
    """A draft, which nobody fetches."""

    __slots__ = ()

    @property
    def is_local(self) -> bool:
        return True


def tree(repository: FakeRepository) -> DirectoryNode:
    below = DirectoryNode({"b": FileNode("b", repository), "c": FileNode("c", repository)})
    return DirectoryNode(
        {"a": FileNode("a", repository), "d": below, "mine": LocalNode(Key(b"l"), ErrorLog())}
    )


@asynccontextmanager
async def fetching() -> AsyncIterator[Fetching]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(10):
            yield Fetching(nursery)
        nursery.cancel_scope.cancel()


async def ended(order: FetchOrder) -> FetchOrder:
    while order.phase is FetchPhase.RUNNING:
        await trio.lowlevel.checkpoint()
    return order


async def test_all_below_is_fetched_once() -> None:
    repository = FakeRepository()
    repository.gate.set()
    async with fetching() as orders:
        top = tree(repository)
        assert orders.asked(top, f"{FETCH}one") == b"1"
        assert orders.asked(top, f"{FETCH}one") == b"1", "xattrs are asked for twice"
        order = await ended(orders.orders()[0])
        assert (order.phase, order.files, len(orders.orders())) == (FetchPhase.DONE, 3, 1)
        assert set(repository.completed) == {descriptor_of(name).digest for name in "abc"}
        assert received(order, {}) == 30


async def test_what_fails_is_named_and_the_rest_is_fetched() -> None:
    repository = FakeRepository({descriptor_of("b").digest: Forbidden("not for you")})
    repository.gate.set()
    async with fetching() as orders:
        orders.asked(tree(repository), f"{FETCH}one")
        order = await ended(orders.orders()[0])
        assert order.phase is FetchPhase.FAILED
        assert order.failures == ["d/b: not for you"]
        assert isinstance(order.error, Forbidden)
        assert len(repository.completed) == 2
        assert received(order, {descriptor_of("b").digest: 4}) == 24


async def test_an_order_can_be_cancelled() -> None:
    repository = FakeRepository()
    async with fetching() as orders:
        orders.asked(tree(repository), f"{FETCH}one")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(NoAttribute):
            orders.asked(tree(repository), f"{CANCEL}other")
        orders.asked(tree(repository), f"{CANCEL}one")
        order = await ended(orders.orders()[0])
        assert (order.phase, repository.completed) == (FetchPhase.CANCELLED, [])


async def test_other_attributes_are_no_orders() -> None:
    async with fetching() as orders:
        assert orders.asked(tree(FakeRepository()), "user.oras.digest") is None
        assert orders.asked(tree(FakeRepository()), FETCH) is None
