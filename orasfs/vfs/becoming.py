"""Lets the inodes of a draft be those of the artifact that it has become.

Owns the step from each staged inode that the kernel holds to what has its path in the artifact.
INVARIANT: when all is done, no inode is left that could be written into.
"""

import logging
from collections.abc import Sequence

import trio

from orasfs.errors import OrasfsError
from orasfs.staging.draft import Draft
from orasfs.vfs.inodes import InodeTable
from orasfs.vfs.namespace import METADATA_NAME
from orasfs.vfs.nodes.base import Found, Node
from orasfs.vfs.nodes.draft import StagedNode
from orasfs.vfs.nodes.drafttop import DraftTopNode
from orasfs.vfs.nodes.files import BrokenNode
from orasfs.vfs.nodes.moved import MovedNode
from orasfs.vfs.operations import Ino

logger = logging.getLogger(__name__)

Path = tuple[str, ...]

_AT_ONCE = 256  # inodes, before others have their turn


class Becoming:
    """A draft that is becoming an artifact: its top at once, what is below it by `finish`.

    Args:
        inodes: of the mount.
        draft: whose files are there until all is done.
        artifact: the artifact's top.
    """

    def __init__(self, inodes: InodeTable[Node], draft: Draft, artifact: Node) -> None:
        self._inodes = inodes
        self._draft = draft
        self._found: dict[Path, Node | None] = {(): artifact}
        self._done: dict[Ino, None] = {}
        self._known = self._staged()
        for ino, node in self._known:
            if isinstance(node, DraftTopNode):
                inodes.replace(ino, artifact)
                self._done[ino] = None

    async def finish(self) -> Sequence[Ino]:
        """Replace what is left; return the inodes, whose caches are to be dropped.

        What was looked up meanwhile, in a directory whose turn had not come, is left then, too.
        """
        staged, self._known = self._known, ()
        while staged:
            for number, (ino, node) in enumerate(staged):
                if number % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()  # others are not to wait for thousands
                if ino in self._done:
                    continue
                self._done[ino] = None
                path = _path(node, self._draft)
                new = await walk(self._found, path) if path is not None else None
                if self._inodes.lookups(ino) and _is_of(self._inodes.node(ino), self._draft):
                    reason = "it was in a draft, which is committed"
                    self._inodes.replace(ino, new or BrokenNode(node.key, node.errors, reason))
            staged = self._staged()
        return list(self._done)

    def _staged(self) -> Sequence[tuple[Ino, Node]]:
        found = [(ino, node) for ino, node in self._inodes if _is_of(node, self._draft)]
        return [(ino, node) for ino, node in found if ino not in self._done]


def _is_of(node: Node, draft: Draft) -> bool:
    own = node.above if isinstance(node, MovedNode) else node
    return isinstance(own, StagedNode) and own.staged.draft is draft


def _path(node: Node, draft: Draft) -> Path | None:
    """Return where a staged inode is, seen from the top; None if it has been removed."""
    if isinstance(node, MovedNode):
        above = _path(node.above, draft)
        return None if above is None else (*above, *node.path)
    if not isinstance(node, StagedNode):
        return None
    parts = node.identity.parts()
    if parts is None:
        return None
    is_metadata = node.staged.workspace is draft.metadata
    return (METADATA_NAME, *parts) if is_metadata else tuple(parts)


async def walk(found: dict[Path, Node | None], path: Path) -> Node | None:
    """Return the node at a path of what is found at (), None if there is none; remember it."""
    if path in found:
        return found[path]
    parent = await walk(found, path[:-1])
    node: Node | None = None
    if parent is not None:
        try:
            answer = parent.lookup_now(path[-1]) or await parent.lookup(path[-1])
        except OrasfsError as error:
            logger.debug("not in the artifact path=%r error=%s", path, error)
        else:
            node = answer.node if isinstance(answer, Found) else None
    found[path] = node
    return node
