"""The writing half of a mount put together: drafts, who commits them, what the cache takes over.

Owns where drafts are kept. No policy: the configuration says how drafts are packed.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs
import trio

from orasfs.daemon import control
from orasfs.daemon.commits import commit_document, upload_documents
from orasfs.errors import InvalidInput, NotFound, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobContent, Source, Target
from orasfs.staging.committer import Committer
from orasfs.staging.contents import FileContent, LocalBlob, StreamContent
from orasfs.staging.copying import Origin
from orasfs.staging.draft import Draft
from orasfs.staging.drafts import DraftStore
from orasfs.staging.eager import EagerUploads
from orasfs.staging.indexpublish import IndexPublisher, MadeIndex, index_of
from orasfs.staging.namespaces import LocalNamespaces
from orasfs.staging.order import Order, full_name, make_order
from orasfs.staging.pack import PackSettings
from orasfs.store.cache import Cache
from orasfs.store.packed.unpack import directory_of, open_unpacked
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.namespace import LAYOUT_PREFIX
from orasfs.vfs.tagging import Tagging

logger = logging.getLogger(__name__)

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"  # reproducible-builds.org/specs/source-date-epoch


def default_state() -> Path:
    """Return where drafts are kept: `$XDG_STATE_HOME/orasfs`."""
    return platformdirs.user_state_path("orasfs")


def source_date_epoch() -> int | None:
    """Return what the environment says of the time of builds.

    Raises:
        InvalidInput: it is no number of seconds.
    """
    text = os.environ.get(EPOCH_VARIABLE)
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(f"{EPOCH_VARIABLE}={text!r}: not a number of seconds since the epoch")
    return int(text)


class CacheKeeper:
    """Lets the cache take over what was pushed; implements `staging.committer.Keeper`."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def keep(self, registry: str, blob: LocalBlob) -> None:
        """Keep a blob; those of a layout are read where they are."""
        if not registry.startswith(LAYOUT_PREFIX):
            content = blob.content
            state = content.state if isinstance(content, FileContent) else None
            self._cache.keep(blob.descriptor, content, state)

    def note_tag(self, registry: str, repository: str, tag: str, descriptor: Descriptor) -> None:
        """Remember what a tag names now."""
        if not registry.startswith(LAYOUT_PREFIX):
            self._cache.note_tag(registry, repository, tag, descriptor)


@dataclass(frozen=True, slots=True)
class CachedContent:
    """A blob of another repository: from the cache where it is there, else streamed."""

    cache: Cache
    streamed: StreamContent

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.streamed.size

    def open(self) -> BinaryIO:
        """Open it at its beginning."""
        path = self.cache.path_of(self.streamed.descriptor)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):  # evicted at this very moment
                return path.open("rb", buffering=0)
        return self.streamed.open()


class CacheWhereabouts:
    """Lets the cache remember where blobs are, for the next mounts, too.

    Implements `staging.whereabouts.Whereabouts`.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def note(self, registry: str, repository: str, digests: Iterable[Digest]) -> None:
        """Remember that a repository has blobs; a layout is one alone."""
        if not registry.startswith(LAYOUT_PREFIX):
            self._cache.note_origins(registry, repository, digests)

    def repositories(self, registry: str, digest: Digest) -> Sequence[str]:
        """Return some repositories that had a blob. Blocks."""
        return () if registry.startswith(LAYOUT_PREFIX) else self._cache.origins(registry, digest)


class CachedIndexes:
    """Finds indexes of layers that the cache has, or has had; see `IndexPublisher`."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def find(self, layer: Descriptor) -> MadeIndex | None:
        """Return the index of a layer if it can be had, and the layer can be read by parts.

        Raises:
            LocalFailure: the layer's blob cannot be read.
        """
        path = self._cache.path_of(layer)
        if path is None:
            return self._unpacked(layer.digest)
        made = index_of(FileContent(partial(_open_blob, path), layer.size))
        return made or self._unpacked(layer.digest)

    def _unpacked(self, digest: Digest) -> MadeIndex | None:
        """Return the index of a layer that is unpacked, without digests of its files."""
        unpacked = open_unpacked(directory_of(self._cache.root, digest))
        if unpacked is None:
            return None
        if unpacked.slab_fd >= 0:
            os.close(unpacked.slab_fd)
        if unpacked.chunks is None:
            return None
        return MadeIndex(unpacked.index.buffer, unpacked.chunks.to_bytes())


def _open_blob(path: Path) -> BinaryIO:
    # A caller closes it.
    return path.open("rb", buffering=0)


class Writing:
    """The writing half of one mount.

    Args:
        state: where drafts are kept.
        target: returns the target of a registry and a repository.
        source: returns the source of a registry and a repository.
        cache: takes over what was pushed.
        settings: how drafts are packed by default.
        reaches: whether a repository of a registry has a place in this mount; the drafts of
            others are left to the mounts that show them.
        may_delete: whether tags and manifests may be removed.
        is_eager: whether blobs are sent to registries before the commit.
        publishes_indexes: whether indexes of packed layers are published beside what is committed.

    Attributes:
        eager: sends them, once the mount has begun; None if nobody does.
        drafts: the drafts as names.

    Raises (on construction):
        StorageFull: the disk of `state` is full.
        LocalFailure: it cannot be used.
    """

    def __init__(
        self,
        state: Path,
        target: Callable[[str, str], Target],
        source: Callable[[str, str], Source],
        cache: Cache,
        settings: PackSettings,
        *,
        reaches: Callable[[str, str], bool],
        may_delete: bool = False,
        is_eager: bool = False,
        publishes_indexes: bool = False,
    ) -> None:
        self.eager: EagerUploads | None = None
        if is_eager:
            self.eager = EagerUploads(target, takes=_is_remote, defaults=settings)
        self._settings = settings
        self._cache = cache
        self._source = source
        self._store = DraftStore(
            state / "drafts",
            is_ours=lambda key: reaches(key.registry, key.repository),
            watcher=self.eager,
        )
        self._committer = Committer(
            self.eager.target if self.eager else target,
            self._prepare,
            CacheKeeper(cache),
            lambda: int(time.time()),
            CacheWhereabouts(cache),
            IndexPublisher(CachedIndexes(cache).find) if publishes_indexes else None,
        )
        namespaces = LocalNamespaces(state / "namespaces.json")
        tagging = Tagging(target, may_delete=may_delete)
        self.drafts = Drafts(self._store, namespaces, self._committer, tagging)

    def control_files(self) -> Mapping[str, Callable[[], bytes]]:
        """Return what makes the content of its files in `MOUNT/.orasfs`."""
        return {
            control.DRAFTS: lambda: control.as_json(draft_documents(self._store)),
            control.COMMITS: lambda: control.as_json(
                [commit_document(report) for report in self._committer.reports()]
            ),
        }

    def uploads(self) -> list[dict[str, str | int | None]]:
        """Return the blobs that are being sent, for `transfers.json`."""
        reports = self._committer.reports()
        early = [] if self.eager is None else list(self.eager.uploads())
        sending = [blob for report in reports for blob in report.progress.active()]
        return upload_documents([*early, *sending])

    def begin(self, nursery: trio.Nursery) -> None:
        """Start what goes on beside the mount, in its nursery."""
        nursery.start_soon(self._empty_trash)
        if self.eager is not None:
            nursery.start_soon(self.eager.run)

    async def _empty_trash(self) -> None:
        """Free the space of what was dropped by a process that was killed before it could."""
        try:
            await trio.to_thread.run_sync(self._store.empty_trash, abandon_on_cancel=True)
        except OrasfsError as error:
            logger.warning("dropped drafts still take room error=%s", error)

    def close(self) -> None:
        """Let other mounts have the drafts."""
        self._store.close()

    async def _prepare(self, draft: Draft) -> Order:
        """Say how a draft is committed; what is left of its base is settled now.

        Raises:
            NotFound: the base is not at hand.
        """
        base = draft.base
        if base is None:
            await trio.lowlevel.checkpoint()
            return make_order(draft, self._settings)
        name = full_name(base.registry, base.repository)
        source = self._source(base.registry, name)
        repository = self._cache.repository(source, base.registry, name)

        async def fetch(blob: Descriptor) -> BlobContent:
            await trio.lowlevel.checkpoint()
            return CachedContent(self._cache, StreamContent(source, blob))

        origin = Origin(base.descriptor, repository, fetch, with_referrers=draft.wants_referrers)
        if draft.is_copy:
            return make_order(draft, self._settings, None, fetch, origin)
        lower = self.drafts.lowers.get(draft.id)
        if lower is None:
            raise NotFound(f"{draft.key}: its base was not looked at yet: list the draft first")
        settled = await lower.settle()
        return make_order(draft, self._settings, settled, fetch, origin, lower.read)


def _is_remote(registry: str) -> bool:
    """Tell whether sending early saves time: into a layout, a blob is copied on this disk."""
    return not registry.startswith(LAYOUT_PREFIX)


def draft_documents(drafts: DraftStore) -> list[dict[str, Any]]:
    """Return what `drafts.json` says of each draft, and of those that cannot be shown."""
    shown = [
        {
            "id": draft.id,
            "name": str(draft.key),
            "directory": str(draft.directory),
            "created": control.timestamp(draft.created),
            "base": str(draft.base.descriptor.digest) if draft.base else None,
            "subject": draft.key.subject or None,
            "expected": str(draft.expected) if draft.expected else None,
            "open_for_writing": draft.writers,
            "committing": draft.is_committing,
        }
        for draft in drafts.drafts()
    ]
    hidden = [{"id": key, "problem": words} for key, words in drafts.problems().items()]
    return shown + hidden
