"""Fetching a subtree into the cache, because somebody has ordered it.

Owns the orders: who walks where, what has come, how it ended. An order is given by asking a node
for the extended attribute `user.oras.fetch.TICKET`, which needs no right to change anything, and
is cancelled by `user.oras.cancel.TICKET`. What is fetched stays open until the order has ended, so
that what came first is not evicted for what comes last.

INVARIANT: work belongs to the nursery given; nobody waits for it in the kernel.
"""

import logging
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Protocol, runtime_checkable

import trio

from orasfs.errors import Aborted, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader
from orasfs.tree.layers import Layer
from orasfs.tree.node import PackedLayer
from orasfs.vfs import xattrs
from orasfs.vfs.nodes.base import Node, Piece

logger = logging.getLogger(__name__)

FETCH = f"{xattrs.PREFIX}fetch."
CANCEL = f"{xattrs.PREFIX}cancel."
_AT_ONCE = 4
_READ_BYTES = 2**20
_MAX_ORDERS = 50
_MAX_FAILURES = 20
_MAX_OPEN = 400


@runtime_checkable
class Completer(Protocol):
    """A repository that can have a blob whole."""

    async def complete_blob(self, descriptor: Descriptor) -> BlobReader:
        """Return the blob once it is complete, verified and kept."""
        ...

    async def complete_layer(self, layer: PackedLayer) -> Layer:
        """Return the layer once it is verified and unpacked."""
        ...


class FetchPhase(Enum):
    """Where an order is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class FetchOrder:
    """One order, and what has become of it; sizes are bytes.

    Attributes:
        sizes: of the blobs that are wanted, by digest.
        there: which of them are there.
        files: how many files were looked at.
        failures: what went wrong, in words with the path, the first ones.
        error: the first failure.
    """

    ticket: str
    phase: FetchPhase = FetchPhase.RUNNING
    sizes: dict[Digest, int] = field(default_factory=dict)
    there: set[Digest] = field(default_factory=set)
    files: int = 0
    failures: list[str] = field(default_factory=list)
    failure_count: int = 0
    error: OrasfsError | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Fetching:
    """The orders of one mount.

    Args:
        nursery: where they are worked on.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._orders: dict[str, FetchOrder] = {}

    def __repr__(self) -> str:
        return f"<Fetching {len(self._orders)} orders>"

    def orders(self) -> Sequence[FetchOrder]:
        """Return the orders under way and the last that have ended, in the order they came."""
        return list(self._orders.values())

    def asked(self, node: Node, name: str) -> bytes | None:
        """Take an order, if asking for that attribute is one; None if it is not.

        Raises:
            NoAttribute: there is nothing of that ticket to cancel.
        """
        if name.startswith(CANCEL):
            order = self._orders.get(name.removeprefix(CANCEL))
            if order is None:
                raise xattrs.absent(name)
            order.scope.cancel()
            return b"1"
        ticket = name.removeprefix(FETCH)
        if ticket == name or not ticket:
            return None
        if ticket not in self._orders:
            self._begin(node, ticket)
        return b"1"

    def _begin(self, node: Node, ticket: str) -> None:
        ended = [key for key, each in self._orders.items() if each.phase is not FetchPhase.RUNNING]
        for key in ended[: max(len(self._orders) - _MAX_ORDERS, 0)]:
            del self._orders[key]
        order = self._orders[ticket] = FetchOrder(ticket)
        self._nursery.start_soon(self._run, node, order)

    async def _run(self, node: Node, order: FetchOrder) -> None:
        phase = FetchPhase.CANCELLED
        try:
            with order.scope:
                await _Walk(order).run(node)
                phase = FetchPhase.FAILED if order.error else FetchPhase.DONE
        finally:
            if phase is FetchPhase.CANCELLED:
                order.error = Aborted("the fetch was cancelled")
            order.phase = phase
            logger.info(
                "fetch ended: phase=%s files=%d blobs=%d failures=%d",
                phase.value,
                order.files,
                len(order.there),
                order.failure_count,
            )


class _Walk:
    """The walk of one order: names one after the other, some blobs at once."""

    def __init__(self, order: FetchOrder) -> None:
        self._order = order
        self._slots = trio.Semaphore(_AT_ONCE)
        self._held: list[BlobReader] = []
        self._layers: dict[Digest, object] = {}

    async def run(self, node: Node) -> None:
        """Fetch all below a node."""
        try:
            async with trio.open_nursery() as nursery:
                await self._walk(node, nursery)
        finally:
            for reader in self._held:
                reader.close()

    async def _walk(self, top: Node, nursery: trio.Nursery) -> None:
        stack: list[tuple[Node, str]] = [(top, "")]
        while stack:
            node, path = stack.pop()
            if node.is_local:
                continue  # a draft, which is here
            kind = stat.S_IFMT(node.stat().mode)
            if kind == stat.S_IFDIR:
                stack += await self._names(node, path)
            elif kind == stat.S_IFREG:
                await self._slots.acquire()
                nursery.start_soon(self._in_slot, partial(self._file, node), path)

    async def _names(self, node: Node, path: str) -> list[tuple[Node, str]]:
        """Return what is in a directory; what it cannot tell is a failure."""
        found: list[tuple[Node, str]] = []
        with self._noting(path):
            piece = await node.companion()
            if piece is not None:
                await self._piece(piece)
            listing = node.listing_now() or await node.listing()
            while names := await listing.more():
                found += [(each.found.node, f"{path}/{each.name}".lstrip("/")) for each in names]
        return found[::-1]

    async def _in_slot(self, work: Callable[[], Awaitable[None]], path: str) -> None:
        try:
            with self._noting(path):
                await work()
        finally:
            self._slots.release()

    async def _file(self, node: Node) -> None:
        self._order.files += 1
        piece = node.piece
        if piece is None:
            return
        await self._piece(piece)
        if piece.layer is not None:
            await self._read(node)

    async def _piece(self, piece: Piece) -> None:
        """Have a blob, or a layer, whole."""
        order, descriptor = self._order, piece.descriptor
        order.sizes[descriptor.digest] = descriptor.size
        if descriptor.digest in order.there:
            return
        repository = piece.repository
        if piece.layer is not None:
            self._layers[descriptor.digest] = await (
                repository.complete_layer(piece.layer)
                if isinstance(repository, Completer)
                else repository.open_layer(piece.layer)
            )
        elif isinstance(repository, Completer):
            self._hold(await repository.complete_blob(descriptor))
        order.there.add(descriptor.digest)

    async def _read(self, node: Node) -> None:
        """Read a file of a layer to its end: its bytes may have gone while the index stayed."""
        opened = node.open_now() or await node.open()
        try:
            for offset in range(0, opened.reader.size, _READ_BYTES):
                if opened.reader.read_now(offset, _READ_BYTES) is None:
                    await opened.reader.read(offset, _READ_BYTES)
        finally:
            opened.reader.close()

    def _hold(self, reader: BlobReader) -> None:
        if len(self._held) < _MAX_OPEN:
            self._held.append(reader)
        else:
            reader.close()

    def _noting(self, path: str) -> "_Noting":
        return _Noting(self._order, path)


class _Noting:
    """Notes a failure of its block, and lets the walk go on."""

    def __init__(self, order: FetchOrder, path: str) -> None:
        self._order = order
        self._path = path

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Note a deliberate failure; all else goes its way."""
        if not isinstance(error, OrasfsError):
            return False
        order = self._order
        order.error = order.error or error
        order.failure_count += 1
        if len(order.failures) < _MAX_FAILURES:
            order.failures.append(f"{self._path or '.'}: {error}")
        return True


def received(order: FetchOrder, arriving: Mapping[Digest, int]) -> int:
    """Return how many bytes of what is wanted are there, with those that are arriving."""
    return sum(
        size if digest in order.there else min(size, arriving.get(digest, 0))
        for digest, size in order.sizes.items()
    )
