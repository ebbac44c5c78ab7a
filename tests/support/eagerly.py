"""A draft of which files are sent before its commit, and waiting for what is on its way."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from orasfs.oci.digest import Digest
from orasfs.staging.committer import Committer
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.staging.drafts import DraftStore
from orasfs.staging.eager import EagerUploads
from orasfs.staging.identity import Identity
from orasfs.staging.openfile import OpenStaged
from orasfs.staging.order import Order, make_order
from orasfs.staging.pack import PackSettings
from tests.fakes.keeper import MemoryKeeper
from tests.fakes.target import MemoryTarget

HOST = "localhost:5000"
WRITE = os.O_RDWR


class World:
    """A draft, its target, and who uploads early."""

    def __init__(self, root: Path) -> None:
        self.target = MemoryTarget()
        self.eager = EagerUploads(lambda _host, _name: self.target)
        self.store = DraftStore(root / "drafts", watcher=self.eager)
        self.draft = self.store.create(DraftKey(HOST, "team/site", "v1", colon=True))
        self.committer = Committer(self.eager.target, _order, MemoryKeeper(), lambda: 0)

    @property
    def top(self) -> Identity:
        return self.draft.tree.top

    def create(self, name: str, parent: Identity | None = None) -> OpenStaged:
        opened = self.draft.tree.make_file(parent or self.top, name, 0o644, WRITE)
        self.draft.note_writer(opened)
        return opened

    def reopen(self, identity: Identity) -> OpenStaged:
        opened = self.draft.tree.open(identity, WRITE)
        self.draft.note_writer(opened)
        return opened

    def write(self, name: str, content: bytes, parent: Identity | None = None) -> Identity:
        opened = self.create(name, parent)
        opened.write_now(0, content)
        opened.close()
        return opened.identity

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.eager.run)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    def has(self, content: bytes) -> bool:
        return self.target.blobs.get(Digest.of(content)) == content


async def _order(draft: Draft) -> Order:
    await trio.lowlevel.checkpoint()
    return make_order(draft, PackSettings())


async def settled(world: World) -> None:
    """Wait until nothing is on its way; threads are not seen by the clock."""
    await until(lambda: not list(world.eager.uploads()))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what threads do, which tell nobody and are not seen by the clock."""
    with trio.fail_after(3600):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(0.05)
