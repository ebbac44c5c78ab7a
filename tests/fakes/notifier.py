"""A kernel that remembers what it is told to forget."""

import trio

from orasfs.vfs.operations import Ino


class MemoryNotifier:
    """Implements `orasfs.vfs.operations.Notifier`.

    Attributes:
        told: what it was told, in order: inodes whose content to drop, names below an inode, and
            "settle" where that was waited for.
    """

    def __init__(self) -> None:
        self.told: list[Ino | tuple[Ino, str] | str] = []

    def invalidate_content(self, ino: Ino) -> None:
        self.told.append(ino)

    def invalidate_entry(self, parent: Ino, name: str) -> None:
        self.told.append((parent, name))

    async def settle(self) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append("settle")
