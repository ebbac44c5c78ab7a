"""The filesystem: one method an operation, each a step to the node that knows.

Owns the operations that read; those that change are in `orasfs.vfs.changes`. Has no policy of its
own: what a name is and what a file holds say the nodes.

INVARIANT: between giving an inode number to an answer and returning the answer nothing waits, so
that a number is never given back before the kernel has it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.vfs import xattrs
from orasfs.vfs.atonce import WRITE_FLAGS, AtOnce
from orasfs.vfs.becoming import Becoming
from orasfs.vfs.changes import Changes
from orasfs.vfs.documents import DocumentCache
from orasfs.vfs.drafts import Drafts, Rest, draft_key
from orasfs.vfs.editing import Editing
from orasfs.vfs.fetching import Fetching
from orasfs.vfs.keys import derive
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import CONTROL_NAME, Place
from orasfs.vfs.nodes.base import Found, Listing, Node, Opened
from orasfs.vfs.nodes.control import control_directory
from orasfs.vfs.nodes.drafttop import DraftTopNode
from orasfs.vfs.nodes.place import PlaceNode
from orasfs.vfs.nodes.referrers import ReferrersNode
from orasfs.vfs.nodes.roots import make_root
from orasfs.vfs.nodes.view import LayerSeries
from orasfs.vfs.nodes.world import World
from orasfs.vfs.operations import (
    ROOT_INO,
    Attr,
    DirectoryEntry,
    Entry,
    Fh,
    FilesystemStatus,
    Ino,
    Notifier,
    OpenFile,
)
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.ports import Registries
from orasfs.vfs.root import RootSpecification
from orasfs.vfs.tables import DirectoryHandle, Tables
from orasfs.vfs.verification import Verification
from orasfs.vfs.waiting import Patience


class Filesystem(AtOnce, Changes):
    """Implements `orasfs.vfs.operations.MountOperations` over ports.

    Args:
        root: what the mount's root is.
        registries: all registries that may be reached.
        options: what the mount was told.
        control: makers of the files in `MOUNT/.orasfs`, by name.
        statfs: tells the free space; local only.
        nursery: where work goes on that nobody waits for any more.
        drafts: where drafts are kept and who commits them; None refuses all changes.
        fetching: takes orders to fetch; None takes none.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        root: RootSpecification,
        registries: Registries,
        options: FilesystemOptions,
        *,
        control: Mapping[str, Callable[[], bytes]],
        statfs: Callable[[], FilesystemStatus],
        nursery: trio.Nursery,
        drafts: Drafts | None = None,
        fetching: Fetching | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        mount = Mount(options, clock, nursery, DocumentCache(), Verification(), drafts)
        top = make_root(root, World(registries, mount, root))
        tables = Tables(top, Patience(nursery, options.wait_seconds))
        super().__init__(tables, Editing(tables, mount.verification, by_itself=options.edits))
        self._mount = mount
        self._control = control_directory(derive(top.key, CONTROL_NAME, "control"), control)
        self._statfs = statfs
        self._fetching = fetching
        self._notifier: Notifier | None = None
        if drafts is not None:
            drafts.listener = self._draft_committed
            drafts.nursery = nursery
            if drafts.tagging is not None:
                drafts.tagging.listener = self._tag_changed

    def set_notifier(self, notifier: Notifier) -> None:
        """Say how to tell the kernel, once there is a session."""
        self._notifier = notifier
        self._editing.invalidate = notifier.invalidate_entry

    def content_mismatch(self, digest: Digest) -> None:
        """Drop what the kernel has cached of a blob that turned out to be another."""
        self._mount.verification.forget(digest)
        if self._notifier is None:
            return
        for ino, node in self._tables.inodes:
            if node.content_digest == digest:
                self._notifier.invalidate_content(ino)
        for series, inos in self._tables.inodes.members():
            if isinstance(series, LayerSeries) and series.layer.descriptor.digest == digest:
                for ino in inos:
                    self._notifier.invalidate_content(ino)

    async def _draft_committed(
        self, draft: Draft, key: DraftKey, descriptor: Descriptor, node: Node
    ) -> Rest:
        """Let the names of a draft, and then its inodes, be the artifact's.

        Who has committed it finds it by all its names when this returns; but not who renames it,
        which locks the directory that has them.
        """
        becoming = Becoming(self._tables.inodes, draft, node)
        if key.subject:
            self._referrer_changed(key, descriptor.digest)
        else:
            place = Place(key.registry, key.repository)
            self._tag_changed(place, key.tag or "", but=key)
        if self._notifier is not None and key == draft.key:
            await self._notifier.settle()
        return partial(self._finish, becoming)

    async def _finish(self, becoming: Becoming) -> None:
        """Let the inodes of a draft be the artifact's, with its sizes and times."""
        inos = await becoming.finish()
        if self._notifier is not None:
            for ino in inos:
                self._notifier.invalidate_content(ino)

    def _referrer_changed(self, key: DraftKey, digest: Digest) -> None:
        """Let the kernel ask again for a referrer that it may have been told is not there."""
        for ino, node in self._tables.inodes:
            if isinstance(node, ReferrersNode) and str(node.subject) == key.subject:
                for name in (digest.algorithm, digest.hex):
                    if self._notifier is not None:
                        self._notifier.invalidate_entry(ino, name)

    def _tag_changed(self, place: Place, tag: str, *, but: DraftKey | None = None) -> None:
        """Let the kernel ask again for the names that lead to a tag.

        But for the name of a draft that has become it: whoever is in there stays in there.
        """
        above, _, last = place.path.rpartition("/")
        for ino, node in self._tables.inodes:
            if self._notifier is not None and isinstance(node, ReferrersNode):
                self._notifier.invalidate_entry(ino, tag)  # a draft that was discarded
            if not isinstance(node, PlaceNode) or self._notifier is None:
                continue
            names = [tag, f":{tag}"] if node.place == place else []
            if last and node.place == Place(place.host, above):
                names = [f"{last}:{tag}"]
            for name in names:
                if draft_key(node.place, name) != but:
                    self._notifier.invalidate_entry(ino, name)

    async def setxattr(self, ino: Ino, name: str, value: bytes) -> None:
        """Set an extended attribute. Who orders something sees it done when this returns."""
        await super().setxattr(ino, name, value)
        if self._notifier is not None and name.startswith(xattrs.PREFIX):
            await self._notifier.settle()

    async def mkdir(self, parent: Ino, name: str, mode: int) -> Entry:
        """Make a directory; an empty draft may have to give way to a namespace for it."""
        node = self._tables.inodes.node(parent)
        if isinstance(node, DraftTopNode):
            with self._tables.remembering(node, f"mkdir {name}"):
                namespace = await self._tables.wait(node, partial(node.give_way, name))
            if namespace is not None:
                self._tables.inodes.replace(parent, namespace)
        return await super().mkdir(parent, name, mode)

    async def lookup(self, parent: Ino, name: str) -> Entry:
        """Find a name below an inode."""
        node = self._tables.inodes.node(parent)
        if parent == ROOT_INO and name == CONTROL_NAME:
            return self._tables.entry(Found(self._control))
        entry = self.lookup_now(parent, name)
        if entry is not None:
            return entry
        with self._tables.remembering(node, f"lookup {name}"):
            work = partial(node.lookup, name)
            answer = await self._tables.patience.shared(("lookup", node.key, name), work)
        return self._tables.entry(answer)

    async def getattr(self, ino: Ino) -> tuple[Attr, float]:
        """Return attributes and for how many seconds they hold."""
        return self.getattr_now(ino)

    def forget(self, ino: Ino, lookups: int) -> None:
        """Give back references; never raises."""
        self._tables.inodes.forget(ino, lookups)

    def count_lookup(self, ino: Ino) -> None:
        """Count a reference to an inode that `readdir` returned and the kernel accepted."""
        self._tables.inodes.count_lookup(ino)

    async def readlink(self, ino: Ino) -> str:
        """Return a symlink's target."""
        return self._tables.inodes.node(ino).readlink()

    async def open(self, ino: Ino, flags: int) -> OpenFile:
        """Open a file; for writing in a draft only, `ReadOnly` is raised elsewhere."""
        file = self.open_now(ino, flags)
        if file is not None:
            return file
        node = self._tables.inodes.node(ino)
        if flags & WRITE_FLAGS:
            node = await self._editing.writable(ino)
        with self._tables.remembering(node, "open"):
            if flags & WRITE_FLAGS:
                opened = await node.open_for_writing(flags)
            else:
                opened = await self._tables.patience.owned(node.open, _abandon)
        return self._opened(node, opened)

    def read_now(self, fh: Fh, offset: int, size: int) -> bytes | None:
        """Return bytes that are at hand, else None."""
        handle = self._tables.files.get(fh)
        with self._tables.remembering(handle.node, "read"):
            return handle.opened.reader.read_now(offset, size)

    async def read(self, fh: Fh, offset: int, size: int) -> bytes:
        """Read; waits as long as the network's deadlines let it."""
        handle = self._tables.files.get(fh)
        with self._tables.remembering(handle.node, "read"):
            return await handle.opened.reader.read(offset, size)

    def backing_fd(self, fh: Fh) -> int | None:
        """Return a descriptor of a file with the same bytes, if there is one for good."""
        backed = None if self._editing.by_itself else self._tables.files.get(fh).opened.backed
        return backed.backing_fd() if backed is not None else None

    def release(self, fh: Fh) -> None:
        """Close a file."""
        opened = self._tables.files.remove(fh).opened
        if opened.digest is not None:
            self._mount.verification.closed(opened.digest, opened.reader)
        opened.reader.close()

    async def opendir(self, ino: Ino) -> Fh:
        """Open a directory."""
        fh = self.opendir_now(ino)
        if fh is not None:
            return fh
        node = self._tables.inodes.node(ino)
        with self._tables.remembering(node, "list"):
            listing = await self._tables.patience.owned(node.listing, _abandon)
        return self._tables.directories.add(DirectoryHandle(node, listing))

    async def readdir(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry]:
        """Return the next entries, waiting for them if need be."""
        while (entries := self.readdir_now(fh, start_id)) is None:
            handle = self._tables.directories.get(fh)
            with self._tables.remembering(handle.node, "list"):
                key = ("readdir", fh, len(handle.snapshot))
                await self._tables.patience.shared(key, handle.grow)
        return entries

    def releasedir(self, fh: Fh) -> None:
        """Close a directory."""
        self._offer(self._tables.directories.remove(fh), ())

    async def getxattr(self, ino: Ino, name: str) -> bytes:
        """Return an extended attribute's value."""
        xattrs.check_name(name)
        node = self._tables.inodes.node(ino)
        with self._tables.remembering(node, f"getxattr {name}"):
            value = self._fetching.asked(node, name) if self._fetching else None
            value = value or node.getxattr_now(name)
            if value is None:
                work = partial(node.getxattr, name)
                value = await self._tables.patience.shared(("getxattr", node.key, name), work)
        return value

    async def listxattr(self, ino: Ino) -> Sequence[str]:
        """Return the names that a copy should carry."""
        node = self._tables.inodes.node(ino)
        with self._tables.remembering(node, "listxattr"):
            names = node.listxattr_now()
            if names is None:
                key = ("listxattr", node.key)
                names = await self._tables.patience.shared(key, node.listxattr)
        return names

    def statfs(self) -> FilesystemStatus:
        """Tell free space."""
        return self._statfs()


def _abandon(result: Opened | Listing) -> None:
    """Close what nobody waits for any more."""
    if isinstance(result, Opened):
        result.reader.close()
