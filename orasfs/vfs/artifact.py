"""One manifest of one repository, and what stands behind it: its view, layers and blobs.

Owns how a descriptor becomes a directory: fetch, parse, look through an index, build the view.
Knows the repository's ports; knows no inodes and no names above the artifact.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from orasfs.errors import NotFound, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.manifest import Index, parse_document
from orasfs.oci.reference import Target
from orasfs.tree import merge
from orasfs.tree.layerindex import LayerIndex, Member
from orasfs.tree.layers import PassingLayer
from orasfs.tree.node import PackedLayer
from orasfs.tree.partialindex import NotKnownYet
from orasfs.tree.views import select_platform
from orasfs.vfs.documents import Document
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.mount import Mount
from orasfs.vfs.repositories import RepositoryState


class Artifact:
    """What a descriptor names in a repository.

    Args:
        state: the repository.
        descriptor: media type, digest and size of the manifest.
        mount: what the mount's nodes share.
        tag: the tag it was reached by, if any.

    Attributes:
        peeked: the tops of packed layers of which only the head was looked at.
    """

    def __init__(
        self,
        state: RepositoryState,
        descriptor: Descriptor,
        mount: Mount,
        tag: str | None = None,
    ) -> None:
        self.state = state
        self.repository = state.repository
        self.descriptor = descriptor
        self.mount = mount
        self.errors = ErrorLog(state.errors)
        self._tag = tag
        self.peeked: dict[PackedLayer, Member] = {}

    def __repr__(self) -> str:
        return f"<Artifact {self.reference}>"

    @property
    def tag(self) -> str | None:
        """The tag it was reached by, if any."""
        return self._tag

    @property
    def reference(self) -> str:
        """The reference by which every client finds exactly this manifest."""
        return self.state.place.reference(Target(self._tag, self.descriptor.digest))

    def related(self, descriptor: Descriptor) -> "Artifact":
        """Return another manifest of the same repository."""
        return Artifact(self.state, descriptor, self.mount)

    async def raw(self) -> bytes:
        """Return the manifest's bytes, even if they cannot be parsed."""
        document = self._document_now()
        if document is not None:
            return document.parsed.raw
        return await self.repository.fetch_manifest(self.descriptor)

    async def document(self) -> Document:
        """Return the manifest or index.

        Raises:
            InvalidContent: it is none.
        """
        document = self._document_now()
        if document is None:
            raw = await self.repository.fetch_manifest(self.descriptor)
            document = Document(parse_document(raw, self.descriptor.media_type))
            self.mount.documents.add(self.descriptor.digest, document)
        return document

    async def shown(self) -> Document:
        """Return what the directory shows: the document, or one of its children by platform.

        Raises:
            InvalidContent: it cannot be parsed.
            NotFound: the index has nothing for the platform.
        """
        document = await self.document()
        child = self._looked_through(document)
        return await self.related(child).shown() if child else document

    def shown_now(self) -> Document | None:
        """Return the same if it is in memory."""
        document = self._document_now()
        if document is None:
            return None
        child = self._looked_through(document)
        return self.related(child).shown_now() if child else document

    async def root(self) -> merge.MergedDirectory:
        """Return the top directory of the view; raises as `shown` does."""
        return merge.enter((await self.shown()).view(self.mount.options.view))

    def root_now(self) -> merge.MergedDirectory | None:
        """Return the same if it is in memory."""
        document = self.shown_now()
        return merge.enter(document.view(self.mount.options.view)) if document else None

    def indexes_now(self, layers: Sequence[PackedLayer]) -> dict[PackedLayer, LayerIndex] | None:
        """Return the indexes of all these layers if they are at hand."""
        found = self.known_indexes(layers)
        return found if len(found) == len(layers) else None

    def known_indexes(self, layers: Sequence[PackedLayer]) -> dict[PackedLayer, LayerIndex]:
        """Return those of the layers' indexes that are at hand."""
        opened = {layer: self.repository.layer_now(layer) for layer in layers}
        return {layer: each.index for layer, each in opened.items() if each is not None}

    async def indexes(self, layers: Sequence[PackedLayer]) -> Mapping[PackedLayer, LayerIndex]:
        """Return the indexes of all these layers, fetching what is missing side by side.

        Raises:
            OrasfsError: the failure of the topmost layer that fails.
        """
        found = self.known_indexes(layers)

        async def fetch(layer: PackedLayer) -> None:
            found[layer] = (await self.repository.open_layer(layer)).index

        await self._for_each([layer for layer in layers if layer not in found], fetch)
        return found

    async def locate(
        self, directory: merge.MergedDirectory, name: str
    ) -> tuple[merge.Located | None, bool]:
        """Find a name as soon as what has passed of the layers tells it.

        Returns: what has the name, and whether that is for ever: until all of a layer has passed,
            another member may take the place of one.

        Raises:
            OrasfsError: the failure of a layer that may have it.
        """
        begun: dict[PackedLayer, PassingLayer] = {}

        async def begin(layer: PackedLayer) -> None:
            begun[layer] = await self.repository.begin_layer(layer)

        await self._for_each(merge.required_layers(directory), begin)
        while True:
            indexes = {layer: passing.index for layer, passing in begun.items()}
            try:
                found = merge.find(directory, name, indexes)
            except NotKnownYet as unknown:
                await begun[unknown.layer].wait_for_more()
            else:
                is_final = all(isinstance(index, LayerIndex) for index in indexes.values())
                return found, is_final

    async def peek(self, layer: PackedLayer) -> None:
        """Look at the head of a layer for its top directory, and remember that if it tells."""
        if layer not in self.peeked:
            top = await self.repository.peek_layer(layer)
            if top is not None:
                self.peeked[layer] = top

    async def _for_each(
        self, layers: Sequence[PackedLayer], work: Callable[[PackedLayer], Awaitable[None]]
    ) -> None:
        """Do the same for all layers, side by side; raise the failure of the topmost."""
        failures: dict[PackedLayer, OrasfsError] = {}

        async def attempt(layer: PackedLayer) -> None:
            try:
                await work(layer)
            except OrasfsError as error:
                failures[layer] = error

        async with trio.open_nursery() as nursery:
            for layer in layers:
                nursery.start_soon(attempt, layer)
        for layer in layers:
            if layer in failures:
                raise failures[layer]

    def _document_now(self) -> Document | None:
        return self.mount.documents.get(self.descriptor.digest)

    def _looked_through(self, document: Document) -> Descriptor | None:
        """Return the child that an index is shown as, None if it is shown as it is."""
        platform = self.mount.options.view.platform
        if not platform or not isinstance(document.parsed, Index):
            return None
        child = select_platform(document.parsed, platform)
        if child is None:
            raise NotFound(f"{self.reference}: the index has no manifest for {platform}")
        return child
