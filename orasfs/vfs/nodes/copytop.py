"""The top directory of a draft that is another artifact as it is.

Owns that it shows what will be copied, and that nothing of it can be changed.
"""

import trio

from orasfs.errors import ReadOnly
from orasfs.staging import settings
from orasfs.staging.draft import Draft
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.namespace import METADATA_NAME
from orasfs.vfs.nodes.base import Answer, Found, Listed, Listing, Node
from orasfs.vfs.nodes.draft import STATE
from orasfs.vfs.nodes.drafttop import (
    BASE,
    COMMIT,
    DISCARD,
    DraftMetadataNode,
    DraftPlace,
    DraftTopNode,
)

_OF_COPIES = frozenset({COMMIT, DISCARD, settings.FORCE, settings.REFERRERS})


def _refusal() -> ReadOnly:
    return ReadOnly(
        "a copy is committed as it is; to change it begin with mkdir and user.oras.base"
    )


def _for_now(answer: Answer) -> Answer:
    """Let no name be kept: once it is committed, it is found in the artifact's own repository."""
    return Found(answer.node, 0.0) if isinstance(answer, Found) else answer


class CopyMetadataNode(DraftMetadataNode):
    """`.oras` of a copy, which has no annotations and no config of its own."""

    __slots__ = ()

    async def ready(self) -> None:
        """Refuse.

        Raises:
            ReadOnly: a copy is committed as it is.
        """
        await trio.lowlevel.checkpoint()
        raise _refusal()


class CopyTopNode(DraftTopNode):
    """The top directory of a copy.

    Args:
        draft: which has a base that is whole.
        drafts: of the mount.
        place: where it has its name.
        shown: the directory of the artifact that is copied.
        reference: of that artifact.
    """

    __slots__ = ("_reference", "_shown")

    def __init__(
        self, draft: Draft, drafts: Drafts, place: DraftPlace, shown: Node, reference: str
    ) -> None:
        super().__init__(draft, drafts, place)
        self._shown = shown
        self._reference = reference

    def lookup_now(self, name: str) -> Answer | None:
        """Find a name in the artifact; `.oras` is the draft's own."""
        if name == METADATA_NAME:
            return self.find(name)
        answer = self._shown.lookup_now(name)
        return None if answer is None else _for_now(answer)

    async def lookup(self, name: str) -> Answer:
        """Find a name in the artifact."""
        return _for_now(await self._shown.lookup(name))

    def listing_now(self) -> Listing | None:  # type: ignore[override]  # another kind of listing
        """List the artifact, if it is at hand."""
        return self._shown.listing_now()

    async def listing(self) -> Listing:  # type: ignore[override]  # another kind of listing
        """List the artifact."""
        return await self._shown.listing()

    def relisted(self, listed: Listed) -> Listed | None:
        """Return what has the name: in an artifact that does not change."""
        return Listed(listed.name, Found(listed.found.node, 0.0))

    async def ready(self) -> None:
        """Refuse.

        Raises:
            ReadOnly: a copy is committed as it is.
        """
        await trio.lowlevel.checkpoint()
        raise _refusal()

    async def set_attribute(self, name: str, value: bytes) -> None:
        """Take an order, or a setting of a copy.

        Raises:
            ReadOnly: it is one of what is packed, or a base.
        """
        if name not in _OF_COPIES:
            raise _refusal()
        await super().set_attribute(name, value)

    def find(self, name: str) -> Answer:
        """Find `.oras`, in which nothing can be written."""
        answer = super().find(name)
        if isinstance(answer, Found) and isinstance(answer.node, DraftMetadataNode):
            return Found(CopyMetadataNode(answer.node.staged))
        return answer

    def getxattr_now(self, name: str) -> bytes:
        """Return what was set, what is copied, and that it is a draft: nothing is modified."""
        if name == BASE:
            return self._reference.encode("utf-8", "surrogateescape")
        return b"draft" if name == STATE else super().getxattr_now(name)
