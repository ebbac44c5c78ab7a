"""What the base of a draft has at a path: nodes, readers, and the bytes of small files.

Owns the way from the marks of staged files (`orasfs.vfs.nodes.lower`) to the base. Knows no draft.
"""

from orasfs.errors import NotFound
from orasfs.oci.storage import BlobReader
from orasfs.vfs.nodes.base import Found, Node


class BaseFiles:
    """The files of one artifact, which never change.

    Args:
        root: the artifact's top directory.
        reference: of the artifact, for messages.
    """

    def __init__(self, root: Node, reference: str) -> None:
        self._root = root
        self._reference = reference
        self._recent: tuple[str, Node] | None = None  # where the last file was that was read

    def __repr__(self) -> str:
        return f"<BaseFiles of {self._reference}>"

    async def node(self, path: str) -> Node:
        """Return what is at a path, "" for the top.

        Raises:
            NotFound: nothing.
        """
        node = self._root
        for name in path.split("/") if path else ():
            node = await self._below(node, name, path)
        return node

    async def open(self, path: str) -> BlobReader:
        """Open the file at a path."""
        return await _open(await self.node(path))

    async def read(self, path: str) -> bytes:
        """Return all of the file at a path; those of one directory are best read in turn.

        Raises:
            OrasfsError: the base cannot be had.
        """
        above, _, name = path.rpartition("/")
        if self._recent is None or self._recent[0] != above:
            self._recent = above, await self.node(above)
        reader = await _open(await self._below(self._recent[1], name, path))
        content = bytearray()
        try:
            while left := reader.size - len(content):
                part = reader.read_now(len(content), left)
                if part is None:
                    part = await reader.read(len(content), left)
                if not part:
                    break  # too short, which whoever packs it is told
                content += part
        finally:
            reader.close()
        return bytes(content)

    async def _below(self, directory: Node, name: str, path: str) -> Node:
        answer = directory.lookup_now(name) or await directory.lookup(name)
        if not isinstance(answer, Found):
            raise NotFound(f"{path}: not in {self._reference}")
        return answer.node


async def _open(node: Node) -> BlobReader:
    return (node.open_now() or await node.open()).reader
