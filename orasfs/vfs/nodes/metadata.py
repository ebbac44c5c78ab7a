"""`.oras` of an artifact: its manifest, config, blobs, referrers and last error as files.

Owns which files there are. INVARIANT: what needs no manifest works without one (`reference`,
`error`, `referrers`), and `error` always works.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import trio

from orasfs.errors import OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.tree.node import RawFile
from orasfs.tree.views import problems_of
from orasfs.vfs import metadata
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.nodes.base import Answer, Found, IteratorListing, Listed, Missing, Node
from orasfs.vfs.nodes.files import BlobNode, GeneratedNode, LiveNode
from orasfs.vfs.nodes.referrers import ReferrersNode
from orasfs.vfs.nodes.tables import MakeNode, TableNode
from orasfs.vfs.nodes.view import MakeArtifact

logger = logging.getLogger(__name__)

BLOB_MODE = 0o444
FAILED_SECONDS = 1.0  # what to tell an error waits for a manifest that had one


class MetadataNode(Node):
    """The directory `.oras` of one artifact."""

    __slots__ = ("_artifact", "_make_artifact")

    def __init__(self, key: Key, artifact: Artifact, make_artifact: MakeArtifact) -> None:
        super().__init__(key, artifact.errors)
        self._artifact = artifact
        self._make_artifact = make_artifact

    async def lookup(self, name: str) -> Answer:
        """Find a metadata file.

        Raises:
            OrasfsError: it needs the manifest, which cannot be had.
        """
        make = self._makers().get(name)
        node = await make(derive(self.key, name)) if make else None
        return Missing() if node is None else Found(node)

    async def listing(self) -> IteratorListing:
        """List what can be had now."""
        found = []
        for name in self._makers():
            try:
                answer = await self.lookup(name)
            except OrasfsError as error:
                logger.debug("left out of a listing: .oras/%s error=%s", name, error)
                continue
            if isinstance(answer, Found):
                found.append(Listed(name, answer))
        return IteratorListing(iter(found))

    def _makers(self) -> Mapping[str, Callable[[Key], Awaitable[Node | None]]]:
        return {
            "annotations.json": self._annotations,
            "blobs": self._blobs,
            "config": self._config,
            "descriptor.json": self._descriptor,
            "error": self._error,
            "manifest.json": self._manifest,
            "reference": self._reference,
            "referrers": self._referrers,
        }

    async def _manifest(self, key: Key) -> Node:
        return GeneratedNode(key, self.errors, await self._artifact.raw())

    async def _annotations(self, key: Key) -> Node:
        document = await self._artifact.document()
        return GeneratedNode(key, self.errors, metadata.annotations_json(document.parsed))

    async def _blobs(self, key: Key) -> Node:
        document = await self._artifact.shown()
        return _blob_directory(key, self._artifact, metadata.blobs_of(document.parsed))

    async def _config(self, key: Key) -> Node | None:
        document = await self._artifact.shown()
        config = getattr(document.parsed, "config", None)  # an index has none
        if config is None:
            return None
        return BlobNode(key, self._artifact, RawFile(config, mode=BLOB_MODE))

    async def _descriptor(self, key: Key) -> Node:
        document = await self._artifact.document()
        content = metadata.descriptor_json(self._artifact.descriptor, document.parsed)
        return GeneratedNode(key, self.errors, content)

    async def _reference(self, key: Key) -> Node:
        content = f"{self._artifact.reference}\n".encode("utf-8", "surrogateescape")
        return GeneratedNode(key, self.errors, content)

    async def _referrers(self, key: Key) -> Node:
        return ReferrersNode(key, self._artifact, self._make_artifact)

    async def _error(self, key: Key) -> Node:
        try:
            with trio.move_on_after(FAILED_SECONDS if self.errors.text else math.inf):
                await self._artifact.shown()
        except OrasfsError as error:
            if not self.errors.text:
                self.errors.record("manifest", error)
        return LiveNode(key, self.errors, self._error_text)

    def _error_text(self) -> bytes:
        options = self._artifact.mount.options.view
        try:
            document = self._artifact.shown_now()
        except OrasfsError:  # recorded where it was raised first
            document = None
        problems = problems_of(document.view(options)) if document else ()
        return metadata.error_text(self.errors.text, problems)


def _blob_directory(key: Key, artifact: Artifact, blobs: Sequence[Descriptor]) -> Node:
    """Return `blobs`: a directory an algorithm, a file a blob."""
    tables: defaultdict[str, dict[str, MakeNode]] = defaultdict(dict)
    for blob in blobs:
        make = partial(BlobNode, artifact=artifact, file=RawFile(blob, mode=BLOB_MODE))
        tables[blob.digest.algorithm][blob.digest.hex] = make
    errors = artifact.errors
    return TableNode(
        key,
        errors,
        {name: partial(TableNode, errors=errors, makers=table) for name, table in tables.items()},
    )
