"""Uses a `Filesystem` by paths, as a kernel without caches would."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from orasfs.errors import NotFound
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.filesystem import Filesystem
from orasfs.vfs.operations import ROOT_INO, Attr, DirectoryEntry, Entry, FilesystemStatus, Ino
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.ports import Registries
from orasfs.vfs.root import RegistryRoot, RootSpecification

HOST = "localhost:5000"
STATUS = FilesystemStatus(4096, 100, 50, 50, 10, 5)


class Walker:
    """Paths on a filesystem; what it looks up it never forgets."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.filesystem = filesystem

    async def entry(self, path: str) -> Entry:
        """Look a path up; raises NotFound unless all but the last name exist."""
        entry = Entry(await self.attr_of(ROOT_INO), 0.0, 0.0)
        for name in path.split("/") if path else ():
            if entry.attr is None:
                raise NotFound(path)
            entry = await self.filesystem.lookup(entry.attr.ino, name)
        return entry

    async def attr_of(self, ino: Ino) -> Attr:
        return (await self.filesystem.getattr(ino))[0]

    async def exists(self, path: str) -> bool:
        return (await self.entry(path)).attr is not None

    async def stat(self, path: str) -> Attr:
        entry = await self.entry(path)
        if entry.attr is None:
            raise NotFound(path)
        return entry.attr

    async def entries(self, path: str) -> Sequence[DirectoryEntry]:
        """List a directory to its end, as the kernel does: each entry counts."""
        filesystem = self.filesystem
        fh = await filesystem.opendir((await self.stat(path)).ino)
        found: list[DirectoryEntry] = []
        while batch := await filesystem.readdir(fh, found[-1].next_id if found else 0):
            for entry in batch:
                assert entry.entry.attr is not None
                filesystem.count_lookup(entry.entry.attr.ino)
            found.extend(batch)
        filesystem.releasedir(fh)
        return found

    async def ls(self, path: str = "") -> list[str]:
        return [entry.name for entry in await self.entries(path)]

    async def read(self, path: str) -> bytes:
        """Open, read in small pieces, close."""
        filesystem = self.filesystem
        opened = await filesystem.open((await self.stat(path)).ino, os.O_RDONLY)
        content = b""
        while True:
            piece = filesystem.read_now(opened.fh, len(content), 1000)
            if piece is None:
                piece = await filesystem.read(opened.fh, len(content), 1000)
            if not piece:
                break
            content += piece
        filesystem.release(opened.fh)
        return content

    async def text(self, path: str) -> str:
        return (await self.read(path)).decode()

    async def xattr(self, path: str, name: str) -> str:
        return (await self.filesystem.getxattr((await self.stat(path)).ino, name)).decode()

    async def xattrs(self, path: str) -> Sequence[str]:
        return await self.filesystem.listxattr((await self.stat(path)).ino)


@asynccontextmanager
async def mounted(
    registries: Registries,
    root: RootSpecification | None = None,
    options: FilesystemOptions | None = None,
    control: Mapping[str, Callable[[], bytes]] | None = None,
    drafts: Drafts | None = None,
) -> AsyncIterator[Walker]:
    """Make a filesystem, by default of the registry `HOST`."""
    async with trio.open_nursery() as nursery:
        filesystem = Filesystem(
            root or RegistryRoot(HOST),
            registries,
            options or FilesystemOptions(),
            control=control or {},
            statfs=lambda: STATUS,
            nursery=nursery,
            drafts=drafts,
        )
        yield Walker(filesystem)
        nursery.cancel_scope.cancel()
