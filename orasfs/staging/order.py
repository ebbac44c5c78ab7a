"""From a draft to what a commit is told: where to, under which tag, on which base.

Owns the step from names to the registry's own ones, and what a draft's state means for a commit.
"""

import io
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio

from orasfs.errors import InvalidInput
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import qualify
from orasfs.oci.storage import ANY, BlobContent, Expectation
from orasfs.staging.capture import LowerContent
from orasfs.staging.commit import Staged
from orasfs.staging.contents import OpenContent
from orasfs.staging.copying import Origin
from orasfs.staging.draft import CONFIG, METADATA, TREE, Draft
from orasfs.staging.fingerprint import fingerprint
from orasfs.staging.pack import PackSettings
from orasfs.staging.revise import Base
from orasfs.staging.settings import ARTIFACT_TYPE
from orasfs.staging.surroundings import FetchKept, MakeIndex, Surroundings
from orasfs.staging.tree import ContentKey
from orasfs.staging.upload import MountsFrom

ReadLower = Callable[[str], Awaitable[bytes]]


async def fetch_nothing(_kept: Descriptor) -> BlobContent | None:
    """Have no bytes of a kept layer."""
    await trio.lowlevel.checkpoint()
    return None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be committed.

    Attributes:
        registry: `HOST[:PORT]`, or `oci:LABEL`.
        repository: the full name, as the registry has it; "" in a layout.
        tag: "" if the draft has no valid tag for a name.
        expected: what the tag must name.
        version: returns the draft's fingerprint. Blocks.
        take: returns the content of the draft. Blocks.
        mounts_from: repositories of that registry that may have its blobs.
        fetch_kept: returns the bytes of a layer of the base, if they can be had.
        origin: where it is copied from, if it is what its base is or its base's referrers are
            wanted.
        is_copy: whether nothing of the base can have been changed, so that all is copied.
        subject: what it is attached to: it gets no tag.
        near_base: the manifest it began from, if that is in the same repository of a registry.
    """

    registry: str
    repository: str
    tag: str
    expected: Expectation
    version: Callable[[], bytes] = field(repr=False)
    take: Callable[[], Staged] = field(repr=False)
    mounts_from: tuple[str, ...] = ()
    fetch_kept: FetchKept = field(default=fetch_nothing, repr=False)
    origin: Origin | None = None
    is_copy: bool = False
    subject: Descriptor | None = None
    near_base: Digest | None = None

    def reference(self, tag: str) -> str:
        """Return how every client calls what has this tag; for "" without one."""
        name = f"{self.registry}{'/' if self.repository else ''}{self.repository}"
        return f"{name}:{tag}" if tag else name

    def surroundings(
        self, mounts_from: MountsFrom, now: Callable[[], int], make_index: MakeIndex | None = None
    ) -> Surroundings:
        """Return what a commit needs besides the content and the target."""
        return Surroundings(mounts_from, self.fetch_kept, now, self.near_base, make_index)


Preparation = Callable[[Draft], Awaitable[Order]]


def make_order(
    draft: Draft,
    defaults: PackSettings,
    base: Base | None = None,
    fetch_kept: FetchKept = fetch_nothing,
    origin: Origin | None = None,
    read_lower: ReadLower | None = None,
) -> Order:
    """Return how a draft is committed.

    Args:
        draft: what.
        defaults: how it is packed where nothing else is said.
        base: what it began from and has not changed.
        fetch_kept: returns the bytes of a layer of the base, if they can be had.
        origin: where the base is.
        read_lower: returns the bytes of a file that is only in the base, by its mark.
    """
    open_content = open_staged if read_lower is None else partial(_open_lower, read_lower)
    key, near = draft.key, draft.base
    if near is not None and near.registry != key.registry:
        near = None
    repository = full_name(key.registry, key.repository)
    mounts_from = (full_name(near.registry, near.repository),) if near else ()
    # A layout refuses no manifest for a blob that it lacks, and to look costs nothing.
    is_near = bool(repository) and mounts_from == (repository,)
    return Order(
        registry=key.registry,
        repository=repository,
        tag=key.tag or "",
        expected=ANY if draft.is_forced else draft.expected,
        version=partial(draft_version, draft),
        take=partial(_take, draft, defaults, base, open_content),
        mounts_from=mounts_from,
        fetch_kept=fetch_kept,
        origin=origin,
        is_copy=origin is not None and draft.is_copy,
        subject=draft.subject,
        near_base=near.descriptor.digest if near and is_near else None,
    )


def full_name(registry: str, repository: str) -> str:
    """Return the name that the registry has for a repository; "" stays, for a layout."""
    return qualify(registry, repository) if repository else ""


def draft_version(draft: Draft) -> bytes:
    """Return a fingerprint of the draft's content and settings. Blocks."""
    return fingerprint(draft.directory / TREE, draft.directory / METADATA)


def _take(
    draft: Draft, defaults: PackSettings, base: Base | None, open_content: OpenContent
) -> Staged:
    captured = draft.capture()
    settings = draft.settings(captured, defaults, base.manifest if base else None)
    if draft.subject is not None:
        settings = attached(settings, draft.subject, is_empty=not captured.tree.entries)
    config = draft.metadata_file(CONFIG)
    known = partial(_known, draft)
    return Staged(
        captured.tree,
        settings,
        draft.directory,
        open_content,
        base,
        config,
        known,
        draft.blocks.find,
    )


def attached(settings: PackSettings, subject: Descriptor, *, is_empty: bool) -> PackSettings:
    """Return the settings of what refers to `subject`; `is_empty` if there is no file in it.

    Raises:
        InvalidInput: no artifact type is set, or there is nothing to attach; the reference client
            refuses both, too.
    """
    fields = settings.fields
    if not fields.artifact_type:
        raise InvalidInput(
            "what is attached needs an artifact type: "
            f"setfattr -n {ARTIFACT_TYPE} -v application/vnd.example.sbom DRAFT"
        )
    if is_empty and not fields.annotations:
        raise InvalidInput("nothing to attach: put a file into the draft, or set an annotation")
    return replace(settings, fields=replace(fields, subject=subject))


def _known(draft: Draft, status: os.stat_result) -> str | None:
    is_ours = status.st_dev == draft.tree.device
    return draft.tree.digests.find(status) if is_ours else None


def open_staged(key: ContentKey) -> BinaryIO:
    """Open a staged file by its path; the `OSError` of a failure is the caller's."""
    if not isinstance(key, Path):
        raise FileNotFoundError(f"no content {key!r}")
    fd = os.open(key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return io.FileIO(fd)


def _open_lower(read: ReadLower, key: ContentKey) -> BinaryIO:
    """Open a staged file, or one that is only in the base; in a thread of trio's."""
    if not isinstance(key, LowerContent):
        return open_staged(key)
    return io.BytesIO(trio.from_thread.run(read, key.path))
