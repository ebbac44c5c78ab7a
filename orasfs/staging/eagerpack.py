"""Directories of drafts that are packed and sent ahead of the commit, once they were let alone.

Owns when that is tried; of what is still being filled, `orasfs.staging.eagerblocks` compresses a
part. What comes of it is a guess: the commit packs by itself, finds the blob at the registry if
nothing was changed since, and sends another one if something was. Each try makes the next one wait
longer, so that a draft which keeps changing is not sent over and over.

INVARIANT: nothing here fails anybody, and what is packed here is removed when it was sent.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

import trio

from orasfs.errors import OrasfsError
from orasfs.staging import contents
from orasfs.staging.contents import FileContent, LocalBlob, OpenContent
from orasfs.staging.draft import Draft
from orasfs.staging.eagerblocks import EagerBlocks
from orasfs.staging.layers import DirectoryLayer
from orasfs.staging.order import open_staged
from orasfs.staging.pack import PackSettings, plan
from orasfs.staging.tree import ContentKey

logger = logging.getLogger(__name__)

QUIET_SECONDS = 5.0  # that a draft is let alone before the first try; doubled by each

Send = Callable[[Draft, LocalBlob, str], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Touched:
    """A draft with directories that were changed; it is `due` when it was let alone since."""

    draft: Draft
    due: float
    quiet_seconds: float = QUIET_SECONDS
    titles: set[str] = field(default_factory=set)
    scope: trio.CancelScope | None = None


class EagerPacks:
    """Packs one directory at a time.

    Args:
        defaults: how drafts are packed where nothing else is said.
        is_fit: whether something of a draft may be sent now.
        send: sends a blob of a draft that has this name; raises nothing.
    """

    def __init__(
        self, defaults: PackSettings, is_fit: Callable[[Draft], bool], send: Send
    ) -> None:
        self._defaults = defaults
        self._is_fit = is_fit
        self._send = send
        self._touched: dict[str, _Touched] = {}
        self._blocks = EagerBlocks(is_fit, self._plan)
        self._arrived = trio.Event()

    def __repr__(self) -> str:
        return f"<EagerPacks of {len(self._touched)} drafts>"

    def wrote(self, draft: Draft) -> None:
        """Learn that something was written: what is being packed is out of date."""
        found = self._touched.get(draft.id)
        if found is not None:
            found.due = trio.current_time() + found.quiet_seconds
            if found.scope is not None:
                found.scope.cancel()

    def awaits(self, draft: Draft, title: str) -> bool:
        """Tell whether a directory is to be packed when it was let alone."""
        found = self._touched.get(draft.id)
        return found is not None and title in found.titles

    def closed(self, draft: Draft, title: str) -> None:
        """Learn that a file below the directory `title` of the draft's top was written."""
        if draft.base is not None:
            return  # its commit fetches and compares first
        touched = self._touched.setdefault(draft.id, _Touched(draft, 0.0))
        touched.titles.add(title)
        self._blocks.closed(draft, title)
        self.wrote(draft)
        self._arrived.set()

    def dropped(self, draft: Draft) -> None:
        """Pack nothing of a draft any more."""
        self._blocks.dropped(draft)
        found = self._touched.pop(draft.id, None)
        if found is not None and found.scope is not None:
            found.scope.cancel()

    async def run(self) -> None:
        """Pack and send what was let alone, until it is cancelled; compress some before that."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._blocks.run)
            await self._pack_what_rests()

    async def _pack_what_rests(self) -> None:
        while True:
            waiting = [each for each in self._touched.values() if each.titles]
            if not waiting:
                self._arrived = trio.Event()
                await self._arrived.wait()
                continue
            first = min(waiting, key=lambda each: each.due)
            if first.due > trio.current_time():
                await trio.sleep_until(first.due)
            elif first.draft.writers:
                self.wrote(first.draft)
            else:
                await self._try(first)

    async def _try(self, touched: _Touched) -> None:
        titles, touched.titles = touched.titles, set()
        touched.quiet_seconds *= 2
        await trio.lowlevel.checkpoint()
        if not self._is_fit(touched.draft):
            return  # the commit sends it
        touched.scope = trio.CancelScope()
        try:
            with touched.scope:
                await self._bring(touched.draft, titles)
        except OrasfsError as error:  # what makes no artifact is told by the commit
            logger.debug("not packed early draft=%s reason=%s", touched.draft.key, error)
        if touched.scope.cancelled_caught:
            touched.titles |= titles
        touched.scope = None

    async def _bring(self, draft: Draft, titles: Iterable[str]) -> None:
        for layer in await trio.to_thread.run_sync(self._plan, draft, set(titles)):
            blob = await trio.to_thread.run_sync(_pack, draft, layer)
            try:
                await self._send(draft, blob, layer.title)
            finally:
                if isinstance(blob.content, FileContent) and blob.content.spooled is not None:
                    blob.content.spooled.unlink(missing_ok=True)

    def _plan(self, draft: Draft, titles: set[str]) -> list[DirectoryLayer]:
        captured = draft.capture()
        layers = plan(captured.tree, draft.settings(captured, self._defaults)).layers
        found = [layer for layer in layers if isinstance(layer, DirectoryLayer)]
        return [layer for layer in found if layer.title in titles]


def _pack(draft: Draft, layer: DirectoryLayer) -> LocalBlob:
    spool = draft.directory / contents.EARLY_SPOOL
    contents.make_spool(spool)
    return contents.pack_directory(layer, _until_committing(draft), spool, known=draft.blocks.find)


def _until_committing(draft: Draft) -> OpenContent:
    """Open staged files until the draft is committed, which has the processor for itself."""

    def open_content(key: ContentKey, opened: Callable[[ContentKey], BinaryIO]) -> BinaryIO:
        draft.check_uncommitted()
        return opened(key)

    return partial(open_content, opened=open_staged)
