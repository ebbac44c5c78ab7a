"""Brings blobs to a target: asks for each, mounts or sends what is missing, several at a time.

Owns the order of asking, the bound on what runs side by side, and how a failure of one ends the
others. Knows the pushing ports and nothing of manifests.
INVARIANT: a digest is asked for and sent once, however many layers have it.
INVARIANT: what is taken for granted is not asked for, and can be asked for afterwards.
"""

import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import trio

from orasfs.errors import NotFound, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobContent, BlobPusher
from orasfs.staging.progress import BlobProgress, BlobState

T = TypeVar("T")

MAX_MOUNTS = 3  # repositories from which it is tried to mount a blob
MAX_REFUSALS = 3  # one after the other, and a repository is not tried any more
UPLOADS = 5  # at once, as many as the reference client's push

MountsFrom = Callable[[Digest], Sequence[str]]
FindContent = Callable[[], Awaitable[BlobContent | None]]


class Uploader:
    """The blobs of one commit on their way to one target.

    Args:
        target: takes them.
        mounts_from: names repositories of the target's registry that may have a blob; blocking.
    """

    def __init__(self, target: BlobPusher, mounts_from: MountsFrom) -> None:
        self._target = target
        self._mounts_from = mounts_from
        self._refusals: Counter[str] = Counter()
        self._limiter = trio.CapacityLimiter(UPLOADS)
        self._begun: dict[Digest, BlobProgress] = {}
        self._granted: frozenset[Digest] = frozenset()
        self._unasked: list[Callable[[], Awaitable[None]]] = []

    def grant(self, digests: Iterable[Digest]) -> None:
        """Take it for granted that the target has these: a manifest there names them."""
        self._granted |= frozenset(digests)

    async def ask_again(self) -> bool:
        """Ask for what was taken for granted, and bring what is missing.

        Returns:
            Whether anything was taken for granted.

        Raises:
            NotFound: neither the target has it, nor are there bytes.
        """
        unasked, self._unasked = self._unasked, []
        self._granted = frozenset()
        await each(unasked, lambda ask: ask())
        return bool(unasked)

    async def ensure(
        self,
        descriptor: Descriptor,
        content: BlobContent | FindContent,
        progress: BlobProgress,
    ) -> None:
        """Return once the target has the blob, or another call is about to bring it.

        Args:
            descriptor: of the blob.
            content: its bytes, or what gets them if they are needed, or None if it cannot.
            progress: is kept up to date.

        Raises:
            NotFound: neither the target has it, nor are there bytes.
        """
        progress.digest, progress.size = descriptor.digest, descriptor.size
        if descriptor.digest in self._begun:
            progress.state = BlobState.PRESENT
            return
        self._begun[descriptor.digest] = progress
        bring = partial(self._bring_in_turn, descriptor, content, progress)
        if descriptor.digest in self._granted:
            progress.state = BlobState.PRESENT
            self._unasked.append(bring)
        else:
            await bring()

    async def _bring_in_turn(
        self,
        descriptor: Descriptor,
        content: BlobContent | FindContent,
        progress: BlobProgress,
    ) -> None:
        progress.state = BlobState.ASKING
        async with self._limiter:
            progress.state = await self._bring(descriptor, content, progress)

    async def _bring(
        self,
        descriptor: Descriptor,
        content: BlobContent | FindContent,
        progress: BlobProgress,
    ) -> BlobState:
        if await self._target.has_blob(descriptor):
            return BlobState.PRESENT
        if await self._mount(descriptor):
            return BlobState.MOUNTED
        found = await content() if callable(content) else content
        if found is None:
            raise NotFound(
                f"{descriptor.digest}: neither the target nor this machine has the blob"
            )
        progress.state = BlobState.SENDING
        await self._send(descriptor, found, progress)
        return BlobState.SENT

    async def _mount(self, descriptor: Descriptor) -> bool:
        """Mount the blob from the first repository that lets us, of a few."""
        named = await trio.to_thread.run_sync(self._mounts_from, descriptor.digest)
        likely = [name for name in named if self._refusals[name] < MAX_REFUSALS]
        for repository in likely[:MAX_MOUNTS]:
            if await self._target.mount_blob(descriptor, repository):
                self._refusals[repository] = 0
                return True
            self._refusals[repository] += 1
        return False

    async def _send(
        self, descriptor: Descriptor, content: BlobContent, progress: BlobProgress
    ) -> None:
        def on_progress(sent: int) -> None:
            progress.sent = sent

        def push(is_cancelled: Callable[[], bool]) -> OrasfsError | None:
            try:
                self._target.push_blob(descriptor, content, on_progress, is_cancelled)
            except OrasfsError as error:
                return error
            return None

        error = await run_interruptibly(push)
        if error is not None:
            raise error
        progress.sent = descriptor.size


async def run_interruptibly(
    work: Callable[[Callable[[], bool]], T], *, is_waited_for: bool = False
) -> T:
    """Run blocking `work` in a thread, and tell it when the caller is cancelled.

    It raises nothing. A cancelled caller goes on at once: the thread ends when it looks at the
    flag, which a registry that is slow to answer can put off, and its result is dropped; but for
    one that is to be waited for.
    """
    flag = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_set_at_end, flag)
        result = await trio.to_thread.run_sync(
            work, flag.is_set, abandon_on_cancel=not is_waited_for
        )
        nursery.cancel_scope.cancel()
    return result


async def _set_at_end(flag: threading.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        flag.set()


async def each(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], *, workers: int = 2 * UPLOADS
) -> None:
    """Do `work` for all items, several at a time; the first failure ends the others.

    Raises:
        OrasfsError: the first that `work` raised.
    """
    left = iter(items)
    failures: list[OrasfsError] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            try:
                for item in left:
                    await work(item)
            except OrasfsError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        for _ in range(workers):
            nursery.start_soon(run)
    if failures:
        raise failures[0]
