"""The changing half of the port of the filesystem, refused."""

from typing import NoReturn

import trio

from orasfs.errors import ReadOnly
from orasfs.staging.changes import AttrChanges
from orasfs.vfs.operations import Attr, Entry, Fh, Ino, OpenFile


class Unchangeable:
    """Implements `orasfs.vfs.operations.ChangeOperations`: everything is read-only."""

    async def mkdir(self, parent: Ino, name: str, mode: int) -> Entry:
        return await _refuse()

    async def create(
        self, parent: Ino, name: str, mode: int, flags: int
    ) -> tuple[Entry, OpenFile]:
        return await _refuse()

    async def mknod(self, parent: Ino, name: str, mode: int) -> Entry:
        return await _refuse()

    async def symlink(self, parent: Ino, name: str, target: str) -> Entry:
        return await _refuse()

    async def link(self, ino: Ino, parent: Ino, name: str) -> Entry:
        return await _refuse()

    async def unlink(self, parent: Ino, name: str) -> None:
        await _refuse()

    async def rmdir(self, parent: Ino, name: str) -> None:
        await _refuse()

    async def rename(
        self, parent: Ino, name: str, new_parent: Ino, new_name: str, flags: int
    ) -> None:
        await _refuse()

    async def setattr(self, ino: Ino, changes: AttrChanges, fh: Fh | None) -> tuple[Attr, float]:
        return await _refuse()

    def write_now(self, fh: Fh, offset: int, content: bytes) -> bool:
        return False

    async def write(self, fh: Fh, offset: int, content: bytes) -> None:
        await _refuse()

    async def fsync(self, fh: Fh, *, data_only: bool) -> None:
        await trio.lowlevel.checkpoint()

    async def fsyncdir(self, ino: Ino, *, data_only: bool) -> None:
        await trio.lowlevel.checkpoint()

    async def setxattr(self, ino: Ino, name: str, value: bytes) -> None:
        await _refuse()

    async def removexattr(self, ino: Ino, name: str) -> None:
        await _refuse()


async def _refuse() -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise ReadOnly("committed")
