"""Copies an artifact as it is: an index with its children, a manifest with its blobs.

Owns which manifests and blobs belong to a copy, and their order: blobs before the manifest that
names them, children before their index, the root last and under its tag. Knows ports only.
INVARIANT: no byte of a manifest is changed, so digests stay.
INVARIANT: a manifest is put only once all below it is there, so what the target has of a copy that
was interrupted is complete, and is left out of the next one.

Source: oras-go's copy.go (CopyGraph, removeForeignLayers) and content/graph.go (Successors).
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from orasfs.errors import InvalidContent, NotFound
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest, parse_document
from orasfs.oci.storage import BlobContent, ManifestFetcher, ReferrerLister, Target
from orasfs.staging.contents import BytesContent
from orasfs.staging.progress import BlobState, Progress
from orasfs.staging.upload import MountsFrom, Uploader, each

MAX_MANIFESTS = 10_000  # of one copy; an index of more is no index anybody made
SURVEYORS = 5  # manifests that are looked at side by side


class Described(ManifestFetcher, ReferrerLister, Protocol):
    """Who tells what a copy consists of."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an artifact is copied from.

    Attributes:
        root: its manifest or index.
        manifests: has it and what it refers to.
        fetch_blob: returns the bytes of a blob.
        with_referrers: whether what refers to it is copied, too.
    """

    root: Descriptor
    manifests: Described = field(repr=False)
    fetch_blob: Callable[[Descriptor], Awaitable[BlobContent | None]] = field(repr=False)
    with_referrers: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One manifest of a copy.

    Attributes:
        descriptor: of it.
        below: manifests that must be at the target first.
        blobs: that it names.
    """

    descriptor: Descriptor
    below: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()


@dataclass(slots=True)
class Survey:
    """What a copy consists of, less what the target has.

    Attributes:
        parts: by digest; those that the target has are empty.
        present: digests of manifests that the target has with all below them.
        subjects: digests of what is referred to.
        absent: of those that the origin does not have.
        referrers: what is copied besides what the root consists of.
    """

    parts: dict[Digest, Part] = field(default_factory=dict)
    present: set[Digest] = field(default_factory=set)
    subjects: set[Digest] = field(default_factory=set)
    absent: set[Digest] = field(default_factory=set)
    referrers: list[Descriptor] = field(default_factory=list)

    def waves(self, roots: Iterable[Descriptor]) -> list[list[Part]]:
        """Return what is to be put, in an order in which each comes after all that is below it.

        Those of one wave do not need each other.
        """
        waves: list[list[Part]] = []
        heights: dict[Digest, int] = {}
        for part in self._sorted(roots):
            height = max(
                (heights[below.digest] + 1 for below in part.below if below.digest in heights),
                default=0,
            )
            heights[part.descriptor.digest] = height
            waves += [[] for _ in range(height + 1 - len(waves))]
            if part.descriptor.digest not in self.present:
                waves[height].append(part)
        return waves

    def _sorted(self, roots: Iterable[Descriptor]) -> Iterable[Part]:
        """Return all parts, those below first."""
        found: dict[Digest, Part] = {}
        pending = [(root, False) for root in reversed(list(roots))]
        while pending:
            descriptor, is_ready = pending.pop()
            part = self.parts.get(descriptor.digest)
            if part is None or descriptor.digest in found:
                continue
            if is_ready:
                found[descriptor.digest] = part
            else:
                pending.append((descriptor, True))
                pending += [(below, False) for below in part.below]
        return found.values()


def part_of(document: Manifest | Index, descriptor: Descriptor) -> Part:
    """Return what a document needs at the target.

    Layers that must not be distributed stay where they are, as the reference client leaves them;
    their manifest says where.
    """
    subject = (document.subject,) if document.subject else ()
    if isinstance(document, Index):
        below = [child for child in document.manifests if is_manifest(child)]
        blobs = [child for child in document.manifests if not is_manifest(child)]
    else:
        below = []
        config = [document.config] if document.config else []
        blobs = [
            blob
            for blob in [*config, *document.layers]
            if not mediatype.is_nondistributable(blob.media_type)
        ]
    return Part(descriptor, (*subject, *below), tuple(blobs))


def is_manifest(descriptor: Descriptor) -> bool:
    """Tell whether a descriptor is of a manifest or an index, not of a blob."""
    return descriptor.media_type in mediatype.MANIFEST_TYPES | mediatype.INDEX_TYPES


class Copier:
    """One copy of one artifact to one target.

    Args:
        origin: where from.
        target: where to.
        mounts_from: names repositories of the target's registry that may have a blob.
        progress: is kept up to date.
    """

    def __init__(
        self, origin: Origin, target: Target, mounts_from: MountsFrom, progress: Progress
    ) -> None:
        self._origin = origin
        self._target = target
        self._progress = progress
        self._uploader = Uploader(target, mounts_from)

    async def bring(self) -> bytes:
        """Bring all but the root's manifest to the target, and return that manifest.

        With referrers the root's manifest is brought, too, by its digest: they refer to it.

        Raises:
            NotFound: the origin does not have all of it.
            InvalidContent: a manifest is malformed, or there are too many.
            OrasfsError: origin or target failed; what is there is not sent again.
        """
        root = self._origin.root
        survey = await self._survey(root)
        waves = survey.waves([root, *survey.referrers])
        blobs = {blob.digest: blob for parts in waves for part in parts for blob in part.blobs}
        await each([*blobs.values()], self._bring_blob)
        for parts in waves:
            named = [part.descriptor for part in parts]
            await each([one for one in named if one != root or survey.referrers], self._put)
        self._progress.warnings += tuple(
            f"{digest}: the subject is not at the origin, so it is not copied"
            for digest in sorted(survey.absent)
        )
        return await self._origin.manifests.fetch_manifest(root)

    async def _survey(self, root: Descriptor) -> Survey:
        """Look at all manifests of the copy, several at a time."""
        survey = Survey()
        level = [root]
        while level:
            found: list[Descriptor] = []
            await each(level, partial(self._look, survey, found), workers=SURVEYORS)
            unseen = {one.digest: one for one in found if one.digest not in survey.parts}
            level = list(unseen.values())
            if len(survey.parts) + len(level) > MAX_MANIFESTS:
                raise InvalidContent(f"{root.digest}: consists of over {MAX_MANIFESTS} manifests")
        return survey

    async def _look(self, survey: Survey, found: list[Descriptor], wanted: Descriptor) -> None:
        """Look at one manifest; add what is to be looked at next to `found`."""
        survey.parts[wanted.digest] = Part(wanted)
        if await self._is_there(wanted):
            survey.present.add(wanted.digest)
        if wanted.digest not in survey.present or self._origin.with_referrers:
            part = await self._part(survey, wanted)
            found += [one for one in part.below if one.digest not in survey.absent]
        if self._origin.with_referrers:
            referrers = await self._origin.manifests.list_referrers(wanted.digest)
            survey.referrers += referrers
            found += referrers

    async def _part(self, survey: Survey, wanted: Descriptor) -> Part:
        try:
            raw = await self._origin.manifests.fetch_manifest(wanted)
        except NotFound:
            if wanted.digest not in survey.subjects or wanted.digest == self._origin.root.digest:
                raise
            # A subject need not exist (distribution-spec, Pushing Manifests with Subject).
            survey.absent.add(wanted.digest)
            return survey.parts.pop(wanted.digest)
        document = parse_document(raw, wanted.media_type)
        part = survey.parts[wanted.digest] = part_of(document, wanted)
        if document.subject:
            survey.subjects.add(document.subject.digest)
        return part

    async def _is_there(self, descriptor: Descriptor) -> bool:
        try:
            await self._target.resolve(str(descriptor.digest))
        except NotFound:
            return False
        return True

    async def _bring_blob(self, blob: Descriptor) -> None:
        progress = self._progress.add(blob.title or str(blob.digest), blob.size)
        await self._uploader.ensure(blob, self._content(blob), progress)

    def _content(
        self, blob: Descriptor
    ) -> BlobContent | Callable[[], Awaitable[BlobContent | None]]:
        if blob.data is not None:
            return BytesContent(blob.data)
        return partial(self._origin.fetch_blob, blob)

    async def _put(self, descriptor: Descriptor) -> None:
        progress = self._progress.add(descriptor.media_type, descriptor.size, BlobState.SENDING)
        progress.digest = descriptor.digest
        raw = await self._origin.manifests.fetch_manifest(descriptor)
        await self._target.push_manifest(raw, descriptor.media_type, str(descriptor.digest))
        progress.sent, progress.state = descriptor.size, BlobState.SENT
