"""The top directory of a draft, and its `.oras`.

Owns what is particular of the top: the metadata directory, and the orders that are given to it
(docs/SEMANTICS.md, "Writing").
"""

from typing import Protocol

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.vfs import xattrs
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.keys import ROOT_KEY, Key, derive
from orasfs.vfs.namespace import METADATA_NAME
from orasfs.vfs.nodes.base import Answer, Found, Missing, Node
from orasfs.vfs.nodes.draft import Staged, StagedDirectoryNode
from orasfs.vfs.nodes.files import LiveNode

COMMIT = f"{xattrs.PREFIX}commit"
BASE = f"{xattrs.PREFIX}base"
EDIT = f"{xattrs.PREFIX}edit"
DISCARD = f"{xattrs.PREFIX}discard"
CANCEL = b"0"


class DraftPlace(Protocol):
    """The directory in which a draft has its name."""

    @property
    def key(self) -> Key:
        """The node's key."""
        ...

    def committed(self, key: DraftKey, descriptor: Descriptor) -> Node:
        """Learn what the name of a draft stands for now, and return its node."""
        ...

    async def rebase(self, draft: Draft, text: str) -> None:
        """Give an empty draft the content of another artifact."""
        ...

    async def give_way(self, draft: Draft, name: str) -> Node | None:
        """Let the directory of an empty draft be a namespace, if `name` shows that it is one."""
        ...


class DraftTopNode(StagedDirectoryNode):
    """The top directory of a draft.

    Attributes:
        place: where it has its name.
    """

    __slots__ = ("_drafts", "_metadata", "place")

    def __init__(self, draft: Draft, drafts: Drafts, place: DraftPlace) -> None:
        # Not of its name, so that a draft that gets another one stays the same inode.
        key = derive(ROOT_KEY, "draft", draft.id)
        errors = drafts.errors(draft)
        super().__init__(
            key, Staged(draft, draft.tree, key, errors, drafts.lowers), draft.tree.top
        )
        self._metadata = Staged(draft, draft.metadata, derive(key, METADATA_NAME), errors)
        self._drafts = drafts
        self.place = place
        drafts.successors[draft.id] = place.committed

    @property
    def draft(self) -> Draft:
        """The draft."""
        return self.staged.draft

    def find(self, name: str) -> Answer:
        """Find a name; a staged `.oras` wins over the metadata directory."""
        answer = super().find(name)
        if isinstance(answer, Missing) and name == METADATA_NAME:
            return Found(DraftMetadataNode(self._metadata))
        return answer

    async def give_way(self, name: str) -> Node | None:
        """Drop the draft if what is to be made in it shows that its directory is a namespace.

        Returns:
            What is in its place then; else None.
        """
        return await self.place.give_way(self.draft, name)

    async def sync_directory(self, *, data_only: bool) -> None:
        """Make the names durable, or commit: fsync(2) does, fdatasync(2) does not."""
        await super().sync_directory(data_only=data_only)
        if not data_only:
            await self._drafts.commit(self.draft)

    async def set_attribute(self, name: str, value: bytes) -> None:
        """Set an attribute, or take an order: to commit ("0" cancels that), or to discard."""
        if name == EDIT:
            await trio.lowlevel.checkpoint()  # it can be written already
        elif name == BASE:
            await self.place.rebase(self.draft, value.decode("utf-8", "replace"))
        elif name == DISCARD:
            await self._drafts.discard(self.draft)
        elif name != COMMIT:
            await super().set_attribute(name, value)
        elif value == CANCEL:
            self._drafts.cancel(self.draft)
        else:
            await self._drafts.begin_commit(self.draft, value.decode("utf-8", "replace"))


class DraftMetadataNode(StagedDirectoryNode):
    """`.oras` of a draft: annotation file and config are written here, the rest is told."""

    __slots__ = ()

    def __init__(self, staged: Staged) -> None:
        super().__init__(staged.key, staged, staged.workspace.top)

    def find(self, name: str) -> Answer:
        """Find a written file, or one that is told."""
        answer = super().find(name)
        content = {"error": self._error, "reference": self._reference}.get(name)
        if isinstance(answer, Missing) and content is not None:
            return Found(LiveNode(derive(self.key, name), self.errors, content), 0.0)
        return answer

    def _error(self) -> bytes:
        return self.errors.text.encode("utf-8", "replace")

    def _reference(self) -> bytes:
        return f"{self.staged.draft.key}\n".encode("utf-8", "surrogateescape")
