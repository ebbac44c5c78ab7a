"""Notifications to the kernel go through a thread, and nobody waits for it long."""

import errno

import trio
import trio.testing

from orasfs.fuse.notifier import SETTLE_SECONDS, KernelCache, SessionNotifier
from orasfs.vfs.operations import Ino


class Deaf:
    """A kernel that has nothing of what it is to drop."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def invalidate_inode(self, ino: int) -> None:
        self.heard.append(ino)
        raise FileNotFoundError(errno.ENOENT, "not there")

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self.heard.append((parent, name))
        raise FileNotFoundError(errno.ENOENT, "not there")


def test_what_is_told_before_the_end_reaches_even_a_kernel_that_has_none_of_it() -> None:
    notifier, deaf = SessionNotifier(), Deaf()
    with notifier.speaking_to(deaf):
        notifier.invalidate_content(Ino(5))
        notifier.invalidate_entry(Ino(6), "name\udce9")
    assert deaf.heard == [5, (6, b"name\xe9")]


async def test_a_notifier_says_when_the_kernel_has_been_told() -> None:
    notifier = SessionNotifier()
    told: list[str] = []

    def tell(_cache: KernelCache) -> None:
        told.append("one")

    with notifier.speaking_to(Deaf()):
        notifier._queue.put(tell)
        await notifier.settle()
        assert told == ["one"]


async def test_nobody_waits_for_a_kernel_that_does_not_take_what_it_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await SessionNotifier().settle()
    assert trio.current_time() == SETTLE_SECONDS
