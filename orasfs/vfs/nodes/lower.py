"""What a draft has from its base without a copy: names at once, bytes when they are wanted.

Owns the marks on staged files: a file with `user.orasfs.lower` is an empty one of the right size,
mode and time, whose bytes are the base's until it is written; a directory with
`user.orasfs.pending` has no entries yet. All else of an edited artifact is an ordinary staged
tree, so that renames, removals and whatever comes outlive a crash as they do in every draft.

INVARIANT: a mark goes only after what it stands for is there, so a crash half-way does it again.
INVARIANT: what has a mark is never read from the staged file, even if its name has gone.
"""

import logging
import os
import stat
from collections.abc import Callable, Mapping

import trio

from orasfs.errors import InvalidContent, NotFound, OrasfsError
from orasfs.oci.manifest import Manifest
from orasfs.oci.storage import BlobReader
from orasfs.staging.changes import AttrChanges
from orasfs.staging.draft import Draft
from orasfs.staging.identity import Identity
from orasfs.staging.openfile import OpenStaged
from orasfs.staging.revise import Base
from orasfs.staging.workspace import LOWER, PENDING
from orasfs.tree.names import clean_title
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.keys import Key
from orasfs.vfs.nodes.base import Node
from orasfs.vfs.nodes.basefiles import BaseFiles
from orasfs.vfs.nodes.files import BlobNode, MemberFileNode, SymlinkNode
from orasfs.vfs.nodes.view import ViewNode

logger = logging.getLogger(__name__)

COPY_BYTES = 1024 * 1024
LEFT_BYTES = 1024 * 1024  # up to which a packed file is committed from the base, without a copy


class Lower:
    """The base of one draft.

    Args:
        draft: which began from it.
        artifact: the base.
        root: the base's top directory.

    Attributes:
        on_filled: told of each directory that has got its entries, before anybody sees them.
    """

    def __init__(self, draft: Draft, artifact: Artifact, root: Node) -> None:
        self._draft = draft
        self._tree = draft.tree
        self._artifact = artifact
        self._files = BaseFiles(root, artifact.reference)
        self._lock = trio.Lock()
        self._links: dict[Key, Identity] = {}
        self.on_filled: Callable[[Identity], None] = lambda _directory: None

    def __repr__(self) -> str:
        return f"<Lower of {self._draft.key}: {self._artifact.reference}>"

    def is_pending(self, identity: Identity) -> bool:
        """Tell whether a directory has no entries yet."""
        return self._mark(identity, PENDING) is not None

    def is_lower(self, identity: Identity) -> bool:
        """Tell whether a file's bytes are the base's."""
        return self._mark(identity, LOWER) is not None

    async def fill(self, directory: Identity) -> None:
        """Give a directory its entries, if it has none yet; packed ones below wait their turn.

        Raises:
            OrasfsError: the base cannot be had.
        """
        async with self._lock:
            await self._fill(directory)

    async def know(self, directory: Identity) -> None:
        """Give a directory without entries the base's mode and time, which its layer has."""
        async with self._lock:
            path = self._mark(directory, PENDING)
            if not path:
                return
            try:
                known = (await self._files.node(path)).stat()
            except OrasfsError as error:
                logger.debug("no attributes from the base path=%r error=%s", path, error)
                return
            mode, mtime_ns = stat.S_IMODE(known.mode), known.mtime_ns
            if self.is_pending(directory):
                self._tree.change(directory, AttrChanges(mode, None, mtime_ns, mtime_ns))

    async def open(self, identity: Identity, opened: OpenStaged) -> BlobReader:
        """Return a reader of a file that is the base's as long as nobody writes it."""
        path = self._mark(identity, LOWER)
        if path is None:
            return opened
        return LowerReader(opened, await self._files.open(path))

    async def copy_up(self, identity: Identity) -> None:
        """Give a file bytes of its own, if it has none.

        Raises:
            StorageFull: the disk is full; the file stays the base's.
            OrasfsError: the base cannot be had.
        """
        async with self._lock:
            path = self._mark(identity, LOWER)
            if path is not None:
                await self._copy(identity, path)

    def drop(self, identity: Identity) -> None:
        """Let a file that is truncated to nothing have nothing of the base."""
        if self.is_lower(identity):
            self._tree.change(identity, AttrChanges(size=0))
            self._tree.remove_attribute(identity, LOWER)

    async def settle(self) -> Base:
        """Return what a commit keeps of the base; all else can be committed afterwards.

        What is small and below a directory stays in the base, and is had by `read`: a copy of
        each would have to be on the disk before its mark may go. All else gets its own bytes.

        Raises:
            OrasfsError: the base cannot be had.
        """
        manifest = (await self._artifact.document()).parsed
        if not isinstance(manifest, Manifest):
            raise InvalidContent("the base is an index, which cannot be edited")
        unchanged = set()
        for ordinal, layer in enumerate(manifest.layers):
            await trio.lowlevel.checkpoint()  # there may be thousands, and others want their turn
            path = clean_title(layer.title) if layer.title else ""
            if not path or await self._is_unchanged(path):
                unchanged.add(ordinal)
        titles = [manifest.layers[ordinal].title for ordinal in unchanged]
        kept = {clean_title(title) for title in titles if title}
        await self._own("", self._tree.top, kept)
        return Base(manifest, frozenset(unchanged))

    async def read(self, mark: str) -> bytes:
        """Return all that a file has in the base, by its mark; raises if it cannot be had."""
        return await self._files.read(mark.removeprefix("/"))

    async def _own(self, path: str, identity: Identity, kept: set[str]) -> None:
        """Fill and copy all that is in no layer that is kept, but for what `read` gives."""
        if path in kept:
            return
        if identity.is_directory:
            await self.fill(identity)
            for name in self._tree.names(identity):
                below = self._tree.find(identity, name)
                if below is not None:
                    await self._own(f"{path}/{name}" if path else name, below, kept)
        elif stat.S_ISREG(identity.kind):
            is_top = "/" not in path
            if is_top or self._tree.status(identity).st_size > LEFT_BYTES:
                await self.copy_up(identity)

    async def _is_unchanged(self, path: str) -> bool:
        """Tell whether what has a layer's path is still what the base has there."""
        here: Identity | None = self._tree.top
        for name in path.split("/"):
            here = self._tree.find(here, name) if here and here.is_directory else None
        if here is None:
            return False
        if self.is_pending(here):
            return self._mark(here, PENDING) == path
        try:
            node = await self._files.node(path)
        except NotFound:
            return False
        return await self._is_same(here, path, node)

    async def _is_same(self, identity: Identity, path: str, node: Node) -> bool:
        if self.is_pending(identity):  # nobody has changed it, or it had entries
            return self._mark(identity, PENDING) == path
        status, wanted = self._tree.status(identity), node.stat()
        is_same = status.st_mode == wanted.mode and status.st_mtime_ns == wanted.mtime_ns
        if isinstance(node, SymlinkNode):
            return is_same and self._tree.readlink(identity) == node.readlink()
        if isinstance(node, ViewNode):
            return is_same and await self._is_same_directory(identity, path, node)
        mark = self._mark(identity, LOWER)
        if mark is not None and mark != path and wanted.link_count > 1:
            return is_same and (await self._files.node(mark)).key == node.key
        return is_same and mark == path

    async def _is_same_directory(self, identity: Identity, path: str, node: ViewNode) -> bool:
        entries = await _entries(node)
        if set(self._tree.names(identity)) != entries.keys():
            return False
        for name, below in entries.items():
            found = self._tree.find(identity, name)
            if found is None or not await self._is_same(found, f"{path}/{name}", below):
                return False
        return True

    async def _fill(self, directory: Identity) -> None:
        path = self._mark(directory, PENDING)
        if path is None:
            return
        node = await self._files.node(path)
        before = self._tree.status(directory)
        entries = await _entries(node)
        self._tree.change(directory, AttrChanges(mode=stat.S_IMODE(before.st_mode) | 0o700))
        pending = [
            made
            for name, below in entries.items()
            if (made := self._make(directory, name, f"{path}/{name}" if path else name, below))
        ]
        for made in pending:
            await self._fill(made)
        self._tree.remove_attribute(directory, PENDING)
        # Only now does a large layer tell the mode and the time of its directory.
        known = node.stat()
        is_top = not path
        mode = before.st_mode if is_top else known.mode
        mtime_ns = before.st_mtime_ns if is_top else known.mtime_ns
        self._tree.change(directory, AttrChanges(stat.S_IMODE(mode), None, mtime_ns, mtime_ns))
        self.on_filled(directory)

    def _make(self, parent: Identity, name: str, path: str, node: Node) -> Identity | None:
        """Make an entry; return it if it is a directory to be filled at once."""
        if self._tree.find(parent, name) is not None:
            return None  # made before a crash
        wanted = node.stat()
        times = AttrChanges(None, None, wanted.mtime_ns, wanted.mtime_ns)
        mark = b"/" + os.fsencode(path)
        if isinstance(node, ViewNode):
            made = self._tree.make_directory(parent, name, 0o755)
            self._tree.set_attribute(made, PENDING, mark)
            if not node.has_layers:
                return made
            self._tree.change(made, AttrChanges(mode=stat.S_IMODE(wanted.mode)))
        elif isinstance(node, SymlinkNode):
            made = self._tree.make_symlink(parent, name, node.readlink())
        elif isinstance(node, BlobNode | MemberFileNode):
            linked = self._links.get(node.key)
            if linked is not None and not linked.is_removed:
                self._tree.link(linked, parent, name)
                return None
            made = self._make_file(parent, name, mark, wanted.size, stat.S_IMODE(wanted.mode))
            if wanted.link_count > 1:
                self._links[node.key] = made
        else:
            return None  # what is broken in the base cannot be shown
        self._tree.change(made, times)
        return None

    def _make_file(
        self, parent: Identity, name: str, mark: bytes, size: int, mode: int
    ) -> Identity:
        opened = self._tree.make_file(parent, name, 0o600, os.O_RDWR)
        try:
            made = opened.identity
            self._tree.set_attribute(made, LOWER, mark)
            self._tree.change(made, AttrChanges(size=size, mode=mode), opened)
        finally:
            opened.close()
        return made

    async def _copy(self, identity: Identity, path: str) -> None:
        before = self._tree.status(identity)
        mode = stat.S_IMODE(before.st_mode)
        self._tree.change(identity, AttrChanges(mode=mode | 0o600))
        reader = await self._files.open(path)
        opened = self._tree.open(identity, os.O_RDWR)
        try:
            offset = 0
            while content := await reader.read(offset, COPY_BYTES):
                await opened.write(offset, content)
                offset += len(content)
            await opened.sync(data_only=True)
            self._tree.remove_attribute(identity, LOWER)
            times = (before.st_atime_ns, before.st_mtime_ns)
            self._tree.change(identity, AttrChanges(mode, None, *times), opened)
        finally:
            opened.close()
            reader.close()

    def _mark(self, identity: Identity, name: str) -> str | None:
        if identity.is_removed:
            return None
        value = self._tree.attribute(identity, name)
        return None if value is None else os.fsdecode(value.removeprefix(b"/"))


async def _entries(directory: Node) -> Mapping[str, Node]:
    """Return what is in a directory of the base; nothing is fetched for attributes."""
    listing = directory.listing_now() or await directory.listing()
    found: dict[str, Node] = {}
    while names := await listing.more():
        for listed in names:
            found[listed.name] = listed.found.node
    return found


class LowerReader:
    """A file that is the base's until somebody writes it (`orasfs.oci.storage.BlobReader`)."""

    def __init__(self, staged: OpenStaged, base: BlobReader) -> None:
        self._staged = staged
        self._base = base

    @property
    def size(self) -> int:
        """The number of bytes it has now."""
        return self._staged.size

    @property
    def is_verified(self) -> bool:
        """Whether the bytes have been checked."""
        return self._current().is_verified

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if they are at hand, else None."""
        return self._current().read_now(offset, size)

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end."""
        return await self._current().read(offset, size)

    def close(self) -> None:
        """Close both. Harmless twice."""
        self._staged.close()
        self._base.close()

    def _current(self) -> BlobReader:
        # By the open file: it may have no name any more, nor a draft.
        return self._base if self._staged.has_attribute(LOWER) else self._staged
