"""The commits of one mount: those under way, those that ended, and drafts that wait for a tag.

Owns one report a draft, which is what `.orasfs/commits.json` shows, and the rules that a draft is
committed once at a time and by nobody who is still writing. Knows targets by a callable, and
neither registries nor the cache.
INVARIANT: when a commit has succeeded the cache has its content, as far as its disk allows; so the
draft may be dropped.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import trio

from orasfs.errors import Aborted, Busy, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import ANY, Expectation, Target
from orasfs.staging.commit import Uploaded, conclude, put, upload
from orasfs.staging.contents import LocalBlob, small_blob
from orasfs.staging.copying import Copier, Origin
from orasfs.staging.draft import Draft
from orasfs.staging.indexpublish import IndexPublisher, IndexReferrer
from orasfs.staging.insisting import insist
from orasfs.staging.order import Order, Preparation
from orasfs.staging.progress import Phase, Progress
from orasfs.staging.whereabouts import Remembered, Whereabouts

logger = logging.getLogger(__name__)

WRITERS_SECONDS = 2.0  # that a commit waits for files that are open for writing
POLL_SECONDS = 0.05
MAX_REPORTS = 200  # of commits that ended


class Keeper(Protocol):
    """Takes the content of what was pushed over into the cache."""

    def keep(self, registry: str, blob: LocalBlob) -> None:
        """Keep a blob, moving no bytes where that can be. Blocks.

        Raises:
            StorageFull: the cache's disk is full.
            StorageFailure: it failed otherwise.
            ContentMismatch: the content is another one by now.
        """
        ...

    def note_tag(self, registry: str, repository: str, tag: str, descriptor: Descriptor) -> None:
        """Remember what a tag names now. Returns at once."""
        ...


@dataclass(slots=True)
class Report:
    """One commit, for people.

    Attributes:
        draft_id: of what.
        label: where the draft is.
        ticket: what whoever ordered it calls it, "" for nothing.
        progress: how far it is.
        error: why it failed.
        descriptor: of the manifest that was put.
        reference: by which it is found.
    """

    draft_id: str
    label: str
    ticket: str
    progress: Progress = field(default_factory=Progress)
    error: OrasfsError | None = None
    descriptor: Descriptor | None = None
    reference: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope, repr=False)
    is_cancelled: bool = False
    scope_of_indexes: trio.CancelScope | None = field(default=None, repr=False)

    def cancel(self) -> None:
        """Stop it; once its manifest is put, only what is published beside that."""
        if self.scope_of_indexes is not None:
            self.scope_of_indexes.cancel()
            return
        self.is_cancelled = True
        self.scope.cancel()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return not self.progress.phase.is_end


@dataclass(frozen=True, slots=True)
class _Ready:
    """An upload that waits for `publish`; `version` is the draft's fingerprint."""

    version: bytes
    uploaded: Uploaded
    referrer: IndexReferrer | None = None


# Lets what a draft has become have its names.
TakeOver = Callable[[Descriptor], Awaitable[None]]


async def _leave(_descriptor: Descriptor) -> None:
    """Leave the draft to whoever has it committed."""


class Committer:
    """Commits drafts.

    Args:
        target: returns the target of a registry and a repository; makes no request.
        prepare: says how a draft is to be committed.
        keeper: takes over what was pushed.
        now: seconds since the epoch.
        whereabouts: remembers where blobs are, by default for this mount.
        publisher: publishes indexes of packed layers; by default nobody does.
    """

    def __init__(
        self,
        target: Callable[[str, str], Target],
        prepare: Preparation,
        keeper: Keeper,
        now: Callable[[], int],
        whereabouts: Whereabouts | None = None,
        publisher: IndexPublisher | None = None,
    ) -> None:
        self._target = target
        self._prepare = prepare
        self._keeper = keeper
        self._now = now
        self._reports: dict[str, Report] = {}
        self._ready: dict[str, _Ready] = {}
        self._whereabouts = whereabouts or Remembered()
        self._publisher = publisher

    def __repr__(self) -> str:
        return f"<Committer of {len(self._reports)} commits>"

    def reports(self) -> Sequence[Report]:
        """Return the commits under way and the last that ended, in the order they began."""
        return list(self._reports.values())

    def is_committing(self, draft: Draft) -> bool:
        """Tell whether a commit of the draft is under way, or waits for writers."""
        report = self._reports.get(draft.id)
        return report is not None and report.is_running

    def cancel(self, draft: Draft) -> None:
        """Stop the commit of a draft, if one is under way."""
        report = self._reports.get(draft.id)
        if report is not None and report.is_running:
            report.cancel()

    async def commit(
        self, draft: Draft, token: str = "", *, take_over: TakeOver = _leave
    ) -> Descriptor | None:
        """Commit a draft; one without a valid tag for a name only has its blobs uploaded.

        Nobody can write into the draft meanwhile; afterwards, if a manifest was put, it is to be
        dropped at once.

        Args:
            draft: what.
            token: for the report.
            take_over: called when a manifest was put; only after it the commit has ended.

        Returns:
            The manifest's descriptor, None if there is no tag: then `publish` puts it.

        Raises:
            Busy: a commit of the draft is under way, or a file in it is open for writing.
            Aborted: `cancel` was called.
            OrasfsError: why it failed; the draft is as it was.
        """
        return await self._report(draft, token, partial(self._insist, draft), take_over)

    async def publish(
        self, draft: Draft, tag: str, *, expected: Expectation = ANY, take_over: TakeOver = _leave
    ) -> Descriptor | None:
        """Put the manifest of a draft whose blobs were uploaded, under a tag; see `commit`.

        Raises:
            Busy: they were not, or the draft was changed since.
            OrasfsError: why it failed; nothing was changed.
        """
        work = partial(self._publish, draft, tag, expected)
        return await self._report(draft, "", work, take_over)

    async def _report(
        self,
        draft: Draft,
        ticket: str,
        work: Callable[[Report], Awaitable[None]],
        take_over: TakeOver,
    ) -> Descriptor | None:
        """Do the work while nobody writes, and note how it ends, whatever ends it."""
        if self.is_committing(draft):
            raise Busy(f"{draft.key}: a commit is under way")
        report = self._begin(draft, ticket)
        phase = Phase.CANCELLED
        try:
            with report.scope:
                await _wait_for_writers(draft)
                draft.is_committing = True
                await work(report)
                phase = Phase.DONE
            if phase is not Phase.DONE:
                raise Aborted(f"{draft.key}: the commit was cancelled")
        except OrasfsError as error:
            report.error = error
            if not isinstance(error, Aborted):
                phase = Phase.FAILED
                logger.warning("commit failed draft=%s error=%s", draft.key, error)
            raise
        else:
            if report.descriptor is not None:
                await take_over(report.descriptor)
        finally:
            # What was put is no draft any more: nobody may write into it until it is dropped.
            draft.is_committing = report.descriptor is not None
            report.progress.phase = phase
        return report.descriptor

    def _begin(self, draft: Draft, ticket: str) -> Report:
        self._reports.pop(draft.id, None)
        ended = [key for key, report in self._reports.items() if not report.is_running]
        for key in ended[: max(len(self._reports) - MAX_REPORTS, 0)]:
            del self._reports[key]
        report = self._reports[draft.id] = Report(draft.id, str(draft.key), ticket)
        report.progress.phase = Phase.WAITING
        return report

    async def _insist(self, draft: Draft, report: Report) -> None:
        """Commit, with what was counted forgotten where that has to be done again."""

        async def anew() -> None:
            report.progress = Progress()
            await self._commit(draft, report)

        await insist(anew)

    async def _commit(self, draft: Draft, report: Report) -> None:
        report.progress.phase = Phase.PUSHING
        order = await self._prepare(draft)
        target = self._target(order.registry, order.repository)
        is_put_later = order.subject is None and not order.tag
        version = await trio.to_thread.run_sync(order.version) if is_put_later else b""
        if order.is_copy and order.origin is not None:
            uploaded = await self._copy(order, order.origin, target, report)
        else:
            uploaded = await self._upload(order, target, report)
        if is_put_later:
            referrer = None
            if self._publisher is not None and not order.is_copy:
                referrer = await self._publisher.prepare(uploaded, target, report.progress)
            self._ready[draft.id] = _Ready(version, replace(uploaded, indexes={}), referrer)
            return
        name = order.tag or str(uploaded.descriptor.digest)
        expected = order.expected if order.tag else ANY
        await conclude(uploaded, target, name, draft.directory, report.progress, expected=expected)
        await self._finish(draft, order, order.tag, uploaded, report)
        if not order.is_copy:
            await self._publish_indexes(uploaded, None, target, report)

    async def _upload(self, order: Order, target: Target, report: Report) -> Uploaded:
        """Make and bring the blobs; if the artifact is its base still, also what refers to it."""
        staged = await trio.to_thread.run_sync(order.take)
        make_index = self._publisher.make if self._publisher is not None else None
        around = order.surroundings(self._mounts_from(order), self._now, make_index)
        uploaded = await upload(staged, target, around, report.progress)
        origin = order.origin
        if origin is None or not origin.with_referrers:
            return uploaded
        if origin.root.digest != uploaded.descriptor.digest:
            report.progress.warnings += (
                "it is not what it was copied from, so what refers to that is not copied",
            )
        else:
            await self._copy(order, origin, target, report)
        return uploaded

    async def _copy(
        self, order: Order, origin: Origin, target: Target, report: Report
    ) -> Uploaded:
        """Bring all that an artifact consists of, but for its tag."""
        copier = Copier(origin, target, self._mounts_from(order), report.progress)
        raw = await copier.bring()
        return Uploaded(small_blob(origin.root, raw), (), self._now())

    async def _publish(
        self, draft: Draft, tag: str, expected: Expectation, report: Report
    ) -> None:
        order = await self._prepare(draft)
        ready = self._ready.get(draft.id)
        version = await trio.to_thread.run_sync(order.version)
        if ready is None or ready.version != version:
            state = "its blobs are not uploaded" if ready is None else "it has changed since"
            raise Busy(f"{draft.key}: {state}; run `orasfs commit` on it and move it then")
        report.progress.phase = Phase.TAGGING
        target = self._target(order.registry, order.repository)
        before = ready.uploaded.before
        await put(ready.uploaded, target, tag, expected=expected, before=before)
        await self._finish(draft, order, tag, ready.uploaded, report)
        if ready.referrer is not None:
            await self._publish_indexes(ready.uploaded, ready.referrer, target, report)

    async def _finish(
        self, draft: Draft, order: Order, tag: str, uploaded: Uploaded, report: Report
    ) -> None:
        """Keep what was pushed. Cannot be stopped: it has happened."""
        report.descriptor = uploaded.descriptor
        report.reference = order.reference(tag)
        report.progress.phase = Phase.KEEPING
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._keep, draft, order, uploaded)
        if tag:
            self._keeper.note_tag(order.registry, order.repository, tag, uploaded.descriptor)
        self._ready.pop(report.draft_id, None)
        there = {blob.digest for blob in report.progress.blobs if blob.digest}
        self._whereabouts.note(order.registry, order.repository, there)
        _log(report, uploaded.descriptor.digest)

    async def _publish_indexes(
        self, uploaded: Uploaded, referrer: IndexReferrer | None, target: Target, report: Report
    ) -> None:
        """Publish the indexes of what is put; whoever cancels the commit now ends only this."""
        if self._publisher is None:
            return
        progress = report.progress
        progress.phase = Phase.INDEXING
        with trio.CancelScope() as report.scope_of_indexes:
            referrer = referrer or await self._publisher.prepare(uploaded, target, progress)
            if referrer is not None:
                await self._publisher.attach(referrer, target, progress)
        if report.scope_of_indexes.cancelled_caught:
            progress.warnings += ("the index of its packed directories is not published",)

    def _keep(self, draft: Draft, order: Order, uploaded: Uploaded) -> None:
        """Let the cache take the draft's files, which are nobody's draft any more. Blocks."""
        try:
            draft.note_committed(uploaded.descriptor.digest)
            for blob in (*uploaded.blobs, uploaded.manifest):
                self._keeper.keep(order.registry, blob)
        except OrasfsError as error:
            # It is pushed; what is not kept will be fetched when it is read.
            logger.warning("pushed content not kept tag=%s error=%s", order.tag, error)

    def _mounts_from(self, order: Order) -> Callable[[Digest], Sequence[str]]:
        def names(digest: Digest) -> Sequence[str]:
            known = self._whereabouts.repositories(order.registry, digest)
            found = [*order.mounts_from, *known]
            return [name for name in dict.fromkeys(found) if name != order.repository]

        return names


def _log(report: Report, digest: Digest) -> None:
    totals = report.progress.totals()
    counts = totals.blobs, totals.skipped, totals.sent
    message = "committed reference=%s digest=%s blobs=%d skipped=%d sent_bytes=%d"
    logger.info(message, report.reference, digest, *counts)


async def _wait_for_writers(draft: Draft) -> None:
    """Wait a moment for files that are open for writing.

    Raises:
        Busy: they are so still.
    """
    with trio.move_on_after(WRITERS_SECONDS):
        while draft.writers:  # noqa: ASYNC110 - a plain count, so that drafts need no trio
            await trio.sleep(POLL_SECONDS)
    if draft.writers:
        raise Busy(
            f"{draft.key}: {draft.writers} files in it are open for writing, or mapped: close them"
        )
