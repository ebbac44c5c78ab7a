"""Lets the inodes of a draft be those of the artifact that it has become.

Owns the step from each staged inode that the kernel holds to what has its path in the artifact.
INVARIANT: no inode is left that could be written into.
"""

import logging
from collections.abc import Sequence

from orasfs.errors import OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
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


async def become(
    inodes: InodeTable[Node], draft: Draft, key: DraftKey, descriptor: Descriptor
) -> Sequence[Ino]:
    """Replace the nodes of a draft; return the inodes, whose caches are to be dropped."""
    staged = [(ino, node) for ino, node in inodes if _is_of(node, draft)]
    tops = [(ino, node) for ino, node in staged if isinstance(node, DraftTopNode)]
    if not tops:
        return []
    top_ino, top = tops[0]
    artifact = top.place.committed(key, descriptor)
    inodes.replace(top_ino, artifact)
    found: dict[Path, Node | None] = {(): artifact}
    for ino, node in staged:
        if ino == top_ino:
            continue
        path = _path(node, draft)
        new = await walk(found, path) if path is not None else None
        if inodes.lookups(ino):
            gone = BrokenNode(node.key, node.errors, "it was in a draft, which is committed")
            inodes.replace(ino, new or gone)
    return [ino for ino, _ in staged]


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
