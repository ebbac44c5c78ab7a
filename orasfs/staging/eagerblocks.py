"""Blocks of packed directories that are compressed while a draft is being filled.

Owns when that is tried. What makes a block is asked of the draft as it is then, in the way of a
commit; whatever comes later, the blocks that stay need not be compressed any more. A try takes its
time, so the next one waits until several times as much has passed.

INVARIANT: nothing here fails anybody, or changes what a commit makes.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from orasfs.errors import OrasfsError
from orasfs.staging.blocks import Block, Stretch, cut
from orasfs.staging.draft import Draft
from orasfs.staging.layerblob import Compression
from orasfs.staging.layers import DirectoryLayer
from orasfs.staging.localdisk import translated
from orasfs.staging.order import open_staged

logger = logging.getLogger(__name__)

FIRST_SECONDS = 1.0  # from the first file that is closed
LEAST_SECONDS = 2.0  # from the end of a try to the next one
_PATIENCE = 4  # times what it took to find out what there is, that the next try waits at least

# Returns the directories of these titles as a commit would pack them. Blocks.
PlanDirectories = Callable[[Draft, set[str]], list[DirectoryLayer]]


@dataclass(slots=True, eq=False)
class _Filled:
    """A draft with directories in which files were closed; `seen` are hashes of blocks."""

    draft: Draft
    due: float
    titles: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)


class EagerBlocks:
    """Compresses the blocks of one draft at a time.

    Args:
        is_fit: whether something may be done for a draft now.
        plan: of what is in it.
    """

    def __init__(self, is_fit: Callable[[Draft], bool], plan: PlanDirectories) -> None:
        self._is_fit = is_fit
        self._plan = plan
        self._filled: dict[str, _Filled] = {}
        self._arrived = trio.Event()

    def __repr__(self) -> str:
        return f"<EagerBlocks of {len(self._filled)} drafts>"

    def closed(self, draft: Draft, title: str) -> None:
        """Learn that a file below the directory `title` of the draft's top was written."""
        found = self._filled.get(draft.id)
        if found is None:
            found = _Filled(draft, trio.current_time() + FIRST_SECONDS)
            self._filled[draft.id] = found
        found.titles.add(title)
        self._arrived.set()

    def dropped(self, draft: Draft) -> None:
        """Compress nothing of a draft any more."""
        self._filled.pop(draft.id, None)

    async def run(self) -> None:
        """Compress what is there, time and again, until it is cancelled."""
        while True:
            waiting = [each for each in self._filled.values() if each.titles]
            if not waiting:
                self._arrived = trio.Event()
                await self._arrived.wait()
                continue
            first = min(waiting, key=lambda each: each.due)
            await trio.sleep_until(first.due)
            await self._try(first)

    async def _try(self, filled: _Filled) -> None:
        titles, filled.titles = filled.titles, set()
        seconds = 0.0
        await trio.lowlevel.checkpoint()
        if not self._is_fit(filled.draft):
            return  # the commit compresses it
        try:
            work = partial(self._compress, filled, titles)
            seconds = await trio.to_thread.run_sync(work)
        except OrasfsError as error:  # what makes no artifact is told by the commit
            logger.debug("not compressed early draft=%s reason=%s", filled.draft.key, error)
        filled.due = trio.current_time() + max(LEAST_SECONDS, _PATIENCE * seconds)

    def _compress(self, filled: _Filled, titles: set[str]) -> float:
        """Compress the blocks that are new; return how long it took to find them. Blocks."""
        draft, started = filled.draft, time.monotonic()
        layers = self._plan(draft, titles)
        packed = [layer for layer in layers if layer.compression is Compression.GZIP]
        found: dict[int, Block] = {}
        for block in (block for layer in packed for block in cut(layer.pieces())):
            trio.from_thread.check_cancelled()
            draft.check_uncommitted()
            found[_hint(block)] = block
        seconds = time.monotonic() - started
        new = [block for hint, block in found.items() if hint not in filled.seen]
        filled.seen = set(found)
        for block in new:
            trio.from_thread.check_cancelled()
            draft.check_uncommitted()
            content = _read(block)
            if content is not None:
                draft.blocks.add(content)
        logger.debug("compressed early draft=%s blocks=%d", draft.key, len(new))
        return seconds


def _hint(block: Block) -> int:
    """Return what tells a block from one that was seen before, as far as names and times do."""
    parts = (
        (part.file.path, part.start, part.size) if isinstance(part, Stretch) else part
        for part in block.parts
    )
    return hash(tuple(parts))


def _read(block: Block) -> bytes | None:
    """Return the bytes of a block; None if a file of it has changed by now.

    Raises:
        LocalFailure: one cannot be read.
    """
    made: list[bytes] = []
    for part in block.parts:
        if isinstance(part, Stretch):
            with translated(f"read {part.file.path!r}"), open_staged(part.file.content) as file:
                made.append(os.pread(file.fileno(), part.size, part.start))
            if len(made[-1]) < part.size:
                return None
        else:
            made.append(part)
    return b"".join(made)
