"""A commit: staged tree -> blobs at the target -> manifest -> tag.

Owns the order: every blob is at the target before the manifest is put, the manifest before
anything is given up. Idempotent: what failed half-way is completed by doing it again, and only
what is missing is sent. Knows ports only, and no draft: whoever has one makes a `Staged` of it.
INVARIANT: the tag moves in one request, the last one, from what was expected or not at all.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import trio

from orasfs.errors import (
    ContentMismatch,
    InvalidInput,
    NotFound,
    RegistryError,
    RegistryFailure,
    TagMoved,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import Expectation, Target
from orasfs.staging import contents
from orasfs.staging.attempt import Attempts, note_attempt, read_attempts
from orasfs.staging.contents import (
    KnownDigest,
    LocalBlob,
    OpenContent,
    know_nothing,
    small_blob,
)
from orasfs.staging.layerblob import KnownBlock, know_no_block
from orasfs.staging.layers import DirectoryLayer, FileLayer, PlannedLayer, vouching
from orasfs.staging.manifest import small_blobs
from orasfs.staging.manifestedit import KeptLayer
from orasfs.staging.pack import PackSettings, Plan, plan
from orasfs.staging.progress import BlobProgress, BlobState, Phase, Progress
from orasfs.staging.revise import Base, plan_revision
from orasfs.staging.surroundings import MakeIndex, Surroundings
from orasfs.staging.tree import StagedDirectory, StagedFile, walk
from orasfs.staging.upload import Uploader, each

logger = logging.getLogger(__name__)

PACKERS = 2  # layers hashed or packed at once; gzip blocks are compressed side by side as well


async def _nothing_granted() -> bool:
    await trio.lowlevel.checkpoint()
    return False


@dataclass(frozen=True, slots=True)
class Staged:
    """A draft at the moment of its commit.

    Attributes:
        tree: its content.
        settings: how it is packed.
        directory: where the commit may spool and keep its note; it goes with the draft.
        open_content: opens a content of the tree at its beginning; raises `OSError`.
        base: what it began from.
        config: the bytes of a config of its own.
        known: returns the digest of a file of the tree where that is known from writing it.
        packed: returns what a block of a packed layer becomes where that is known already.
    """

    tree: StagedDirectory = field(repr=False)
    settings: PackSettings
    directory: Path
    open_content: OpenContent = field(repr=False)
    base: Base | None = None
    config: bytes | None = field(default=None, repr=False)
    known: KnownDigest = field(default=know_nothing, repr=False)
    packed: KnownBlock = field(default=know_no_block, repr=False)

    @property
    def spool(self) -> Path:
        """Where directories are packed."""
        return self.directory / contents.SPOOL


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An artifact all of whose blobs are at the target.

    Attributes:
        manifest: which is not there yet.
        blobs: all that were at hand, sent or not.
        created_seconds: the time that is in the manifest where nothing else gave it.
        before: earlier attempts to put a manifest of this draft.
        ask_again: brings what was taken for granted at the target and is missing there; tells
            whether anything was taken for granted.
        indexes: those that packed layers vouch for, by layer; None where there can be none.
    """

    manifest: LocalBlob
    blobs: tuple[LocalBlob, ...] = field(repr=False)
    created_seconds: int
    before: Attempts | None = None
    ask_again: Callable[[], Awaitable[bool]] = field(default=_nothing_granted, repr=False)
    indexes: Mapping[Digest, bytes | None] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's media type, digest and size."""
        return self.manifest.descriptor


async def upload(
    staged: Staged, target: Target, around: Surroundings, progress: Progress
) -> Uploaded:
    """Bring all blobs to the target and return what is then to be put.

    Raises:
        InvalidInput: the tree or its settings make no artifact.
        StorageFull: the disk of the spool is full.
        OrasfsError: the target failed; what it has got is not sent again.
    """
    return await _Upload(staged, target, around, progress).run()


async def put(
    uploaded: Uploaded,
    target: Target,
    tag: str,
    *,
    expected: Expectation,
    before: Attempts | None = None,
) -> None:
    """Put the manifest under the tag; a tag that names it already is left alone.

    Args:
        uploaded: what is put.
        target: where its blobs are.
        tag: the name; or the manifest's digest, to be known by that alone.
        expected: what the tag must name now.
        before: earlier attempts, which may have succeeded although their answers were lost.

    Raises:
        TagMoved: the tag names something else.
    """
    descriptor = uploaded.descriptor
    push = partial(_push, uploaded, target, tag)
    if expected == descriptor.digest and (await target.resolve(tag)).digest == expected:
        return
    try:
        await push(expected=expected)
    except TagMoved as moved:
        if moved.found == str(descriptor.digest):
            return
        ours = (
            [digest for digest in before.digests if str(digest) == moved.found] if before else ()
        )
        if not ours:
            raise
        await push(expected=ours[0])


async def _push(uploaded: Uploaded, target: Target, tag: str, *, expected: Expectation) -> None:
    """Put the manifest; once more where it is refused for a blob that nobody asked for."""
    with uploaded.manifest.content.open() as content:
        raw = content.read()
    push = partial(target.push_manifest, raw, uploaded.descriptor.media_type, tag)
    refusal: RegistryFailure
    try:
        await push(expected=expected)
    except RegistryFailure as error:
        refusal = error
    else:
        return
    if not refusal.lacks_blob or not await uploaded.ask_again():
        raise refusal
    await push(expected=expected)


async def conclude(
    uploaded: Uploaded,
    target: Target,
    name: str,
    directory: Path,
    progress: Progress,
    *,
    expected: Expectation,
) -> None:
    """Note durably what is about to be put, and put it.

    Args:
        uploaded: what is put.
        target: where its blobs are.
        name: the tag; or the manifest's digest, to be known by that alone.
        directory: where the note is kept.
        progress: of the commit.
        expected: what the tag must name now.

    Raises:
        StorageFull: the note cannot be written.
        OrasfsError: as `put`.
    """
    progress.phase = Phase.TAGGING
    digest = uploaded.descriptor.digest
    note = partial(note_attempt, directory, uploaded.before, uploaded.created_seconds, digest)
    await trio.to_thread.run_sync(note)
    await put(uploaded, target, name, expected=expected, before=uploaded.before)


@dataclass(slots=True)
class _Job:
    """A layer on its way; `made` is its descriptor once it is known."""

    layer: PlannedLayer
    progress: BlobProgress
    made: KeptLayer | Descriptor | None = None


class _Upload:
    """One run of `upload`."""

    def __init__(
        self, staged: Staged, target: Target, around: Surroundings, progress: Progress
    ) -> None:
        self._staged = staged
        self._target = target
        self._around = around
        self._progress = progress
        self._uploader = Uploader(target, around.mounts_from)
        self._packers = trio.CapacityLimiter(PACKERS)
        self._blobs: list[LocalBlob] = []
        self._indexes: dict[Digest, bytes | None] = {}

    async def run(self) -> Uploaded:
        raw, created, before = await self._bring_layers()
        parsed = await trio.to_thread.run_sync(self._parsed, raw)
        await each(self._rest(parsed), self._bring_rest)
        descriptor = Descriptor(parsed.media_type, Digest.of(raw), len(raw))
        return Uploaded(
            small_blob(descriptor, raw),
            tuple(self._blobs),
            created,
            before,
            self._uploader.ask_again,
            self._indexes,
        )

    async def _bring_layers(self) -> tuple[bytes, int, Attempts | None]:
        """Bring all layers; return as `_manifest`. Of many the plan takes room, and goes here."""
        planned = await trio.to_thread.run_sync(self._plan)
        self._progress.warnings = planned.warnings
        await self._grant_base()
        jobs = [
            _Job(layer, self._progress.add(*self._name_and_size(layer)))
            for layer in planned.layers
        ]
        await each(jobs, self._bring_layer)
        return await trio.to_thread.run_sync(self._manifest, planned, jobs)

    def _parsed(self, raw: bytes) -> Manifest:
        base = self._staged.base
        parsed = parse_document(raw, base.manifest.media_type if base else "")
        if not isinstance(parsed, Manifest):  # pragma: no cover - plans make manifests
            raise InvalidInput("the base is an index, which cannot be edited")
        return parsed

    async def _grant_base(self) -> None:
        """Ask for a base in the target's own repository once, instead of for all it names."""
        base, near = self._staged.base, self._around.near_base
        if base is None or near is None:
            return
        try:
            await self._target.resolve(str(near))
        except (NotFound, RegistryError, ContentMismatch) as error:
            logger.debug("every blob is asked for base=%s reason=%s", near, error)
            return
        named = [*base.manifest.layers, *([base.manifest.config] if base.manifest.config else [])]
        self._uploader.grant(blob.digest for blob in named)

    def _plan(self) -> Plan:
        staged = self._staged
        contents.make_spool(staged.spool)
        if staged.base is None:
            planned = plan(staged.tree, staged.settings)
        else:
            planned = plan_revision(staged.tree, staged.settings, staged.base)
        planned.check_manifest()
        return planned

    def _name_and_size(self, layer: PlannedLayer) -> tuple[str, int]:
        match layer:
            case FileLayer():
                return layer.title, layer.size
            case DirectoryLayer():
                nodes = walk("", layer.directory)
                return layer.title, sum(n.size for _, n in nodes if isinstance(n, StagedFile))
            case KeptLayer():
                kept = self._kept(layer)
                return kept.title or str(kept.digest), kept.size

    def _kept(self, layer: KeptLayer) -> Descriptor:
        base = self._staged.base
        if base is None:  # pragma: no cover - only revisions keep layers
            raise InvalidInput("a layer is kept, and there is no base")
        return base.manifest.layers[layer.ordinal]

    async def _bring_layer(self, job: _Job) -> None:
        if isinstance(job.layer, KeptLayer):
            job.made = job.layer
            await self._bring_kept(self._kept(job.layer), job.progress)
            return
        async with self._packers:
            blob = await trio.to_thread.run_sync(self._make, job.layer)
        job.made = blob.descriptor
        works = [partial(self._bring_local, blob, job.progress)]
        if isinstance(job.layer, DirectoryLayer) and self._around.make_index is not None:
            works.append(partial(self._vouch, job, blob, self._around.make_index))
        await each(works, lambda work: work())

    async def _vouch(self, job: _Job, blob: LocalBlob, make_index: MakeIndex) -> None:
        """Have the index of a packed layer made, while that is sent, and the layer name it."""
        async with self._packers:
            index = await trio.to_thread.run_sync(make_index, blob)
        self._indexes[blob.descriptor.digest] = index
        if index is not None:
            job.made = vouching(blob.descriptor, Digest.of(index))

    def _make(self, layer: FileLayer | DirectoryLayer) -> LocalBlob:
        staged = self._staged
        if isinstance(layer, FileLayer):
            return contents.hash_file(layer, staged.open_content, staged.known)
        with ThreadPoolExecutor(contents.threads()) as executor:
            return contents.pack_directory(
                layer, staged.open_content, staged.spool, executor, staged.packed
            )

    async def _bring_local(self, blob: LocalBlob, progress: BlobProgress) -> None:
        self._blobs.append(blob)
        await self._uploader.ensure(blob.descriptor, blob.content, progress)

    async def _bring_kept(self, kept: Descriptor, progress: BlobProgress) -> None:
        if kept.urls or kept.data is not None:
            progress.state = BlobState.PRESENT  # elsewhere for ever, or among the small ones
            return
        fetch = partial(self._around.fetch_kept, kept)
        await self._uploader.ensure(kept, fetch, progress)

    def _manifest(self, planned: Plan, jobs: list[_Job]) -> tuple[bytes, int, Attempts | None]:
        """Return the manifest, the time in it, and what was attempted before.

        Where an earlier attempt was to put the same but for the time, it is made again.
        """
        layers = [job.made for job in jobs if job.made is not None]
        before = read_attempts(self._staged.directory)
        if before is not None:
            raw = planned.manifest(layers, before.created_seconds)
            if Digest.of(raw) in before.digests:
                return raw, before.created_seconds, before
        created = self._around.now()
        return planned.manifest(layers, created), created, before

    def _rest(self, manifest: Manifest) -> list[LocalBlob | Descriptor]:
        """Return what the manifest names besides layers: small blobs, and the base's config."""
        named = [*manifest.layers, *([manifest.config] if manifest.config else [])]
        by_digest = {blob.digest: blob for blob in named}
        small = dict(small_blobs(manifest))
        config = self._staged.config
        if config is not None and Digest.of(config) in by_digest:
            small[Digest.of(config)] = config
        rest: list[LocalBlob | Descriptor] = [
            small_blob(by_digest[digest], raw) for digest, raw in small.items()
        ]
        if manifest.config is not None and manifest.config.digest not in small:
            rest.append(manifest.config)
        return rest

    async def _bring_rest(self, blob: LocalBlob | Descriptor) -> None:
        descriptor = blob.descriptor if isinstance(blob, LocalBlob) else blob
        progress = self._progress.add(descriptor.media_type, descriptor.size)
        if isinstance(blob, LocalBlob):
            await self._bring_local(blob, progress)
        else:
            await self._bring_kept(blob, progress)
