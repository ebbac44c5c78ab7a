"""From a draft to what a commit is told: where to, under which tag, on which base.

Owns the step from names to the registry's own ones, and what a draft's state means for a commit.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.reference import qualify
from orasfs.oci.storage import ANY, BlobContent, Expectation
from orasfs.staging.commit import FetchKept, Staged, Surroundings
from orasfs.staging.draft import CONFIG, METADATA, TREE, Draft
from orasfs.staging.fingerprint import fingerprint
from orasfs.staging.pack import PackSettings
from orasfs.staging.tree import ContentKey
from orasfs.staging.upload import MountsFrom

Taken = tuple[bytes, Staged]


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
        take: returns fingerprint and content of the draft. Blocks.
        mounts_from: repositories of that registry that may have its blobs.
        fetch_kept: returns the bytes of a layer of the base, if they can be had.
    """

    registry: str
    repository: str
    tag: str
    expected: Expectation
    version: Callable[[], bytes] = field(repr=False)
    take: Callable[[], Taken] = field(repr=False)
    mounts_from: tuple[str, ...] = ()
    fetch_kept: FetchKept = field(default=fetch_nothing, repr=False)

    def reference(self, tag: str) -> str:
        """Return how every client calls what has this tag."""
        return f"{self.registry}{'/' if self.repository else ''}{self.repository}:{tag}"

    def surroundings(self, mounts_from: MountsFrom, now: Callable[[], int]) -> Surroundings:
        """Return what a commit needs besides the content and the target."""
        return Surroundings(mounts_from, self.fetch_kept, now)


Preparation = Callable[[Draft], Awaitable[Order]]


def plain_order(draft: Draft, defaults: PackSettings) -> Order:
    """Return the order for a draft that began from nothing."""
    key = draft.key
    return Order(
        registry=key.registry,
        repository=qualify(key.registry, key.repository) if key.repository else "",
        tag=key.tag or "",
        expected=ANY if draft.is_forced else draft.expected,
        version=partial(draft_version, draft),
        take=partial(_take, draft, defaults),
    )


def draft_version(draft: Draft) -> bytes:
    """Return a fingerprint of the draft's content and settings. Blocks."""
    return fingerprint(draft.directory / TREE, draft.directory / METADATA)


def _take(draft: Draft, defaults: PackSettings) -> Taken:
    version = draft_version(draft)
    captured = draft.capture()
    settings = draft.settings(captured, defaults)
    config = draft.metadata_file(CONFIG)
    return version, Staged(captured.tree, settings, draft.directory, open_staged, config=config)


def open_staged(key: ContentKey) -> BinaryIO:
    """Open a staged file by its path; the `OSError` of a failure is the caller's."""
    if not isinstance(key, Path):
        raise FileNotFoundError(f"no content {key!r}")
    fd = os.open(key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return os.fdopen(fd, "rb", buffering=0)
