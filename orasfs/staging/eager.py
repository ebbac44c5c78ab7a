"""Uploads ahead of the commit: what is raw in a draft goes to its registry as it is written.

Owns what is sent early, and when. A large file that is written from its beginning to its end is
followed while it is; any other file is sent when it has been closed and let alone for a moment.
Directories that are packed are `orasfs.staging.eagerpack`'s.
Knows ports only. Nobody depends on it: the commit asks the registry for each blob, waits for what
is under way here (`target`), and sends what failed.

INVARIANT: a failure here is nobody's error; it makes its registry rest for a while.
INVARIANT: all methods that are not async are called on the event loop, and never wait.
"""

import logging
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import trio

from orasfs.errors import (
    Aborted,
    NotFound,
    OrasfsError,
    RegistryError,
    RegistryFailure,
    TooLarge,
    Unreachable,
    Unsupported,
)
from orasfs.oci.digest import Digest
from orasfs.oci.storage import Target
from orasfs.staging import settings
from orasfs.staging.contents import LocalBlob, hash_file
from orasfs.staging.draft import TREE, Draft
from orasfs.staging.eagerpack import EagerPacks
from orasfs.staging.eagerpause import Pauses
from orasfs.staging.eagertarget import WaitingTarget
from orasfs.staging.growingfile import GrowingFile
from orasfs.staging.identity import Identity
from orasfs.staging.layers import FileLayer
from orasfs.staging.openfile import OpenStaged
from orasfs.staging.order import full_name, open_staged
from orasfs.staging.pack import Packing, PackSettings
from orasfs.staging.progress import BlobProgress, BlobState
from orasfs.staging.upload import Uploader, run_interruptibly
from orasfs.staging.workspace import LOWER

logger = logging.getLogger(__name__)

QUIET_SECONDS = 1.0  # that a closed file is let alone before it is sent
FOLLOW_BYTES = 16 * 1024 * 1024  # written in order, after which a file is followed
FOLLOWED = 2  # files at once
SENDERS = 2  # closed files at once

_Key = tuple[str, int, int]  # draft, inode number, serial


@dataclass(slots=True, eq=False)
class _Upload:
    """One upload under way."""

    draft: Draft
    progress: BlobProgress
    digest_now: Callable[[], Digest | None]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    is_there: bool = False


@dataclass(slots=True, eq=False)
class _Closed:
    """A file that was closed; it is `due` when it was let alone since."""

    draft: Draft
    identity: Identity
    due: float


class EagerUploads:
    """The early uploads of one mount; implements `orasfs.staging.draft.Watcher`.

    Args:
        target: returns the target of a registry and a repository; makes no request.
        takes: whether blobs are sent early to a registry at all.
        defaults: how drafts are packed where nothing else is said.
    """

    def __init__(
        self,
        target: Callable[[str, str], Target],
        *,
        takes: Callable[[str], bool] = lambda _: True,
        defaults: PackSettings | None = None,
    ) -> None:
        self._target = target
        self._takes = takes
        defaults = defaults or PackSettings()
        self._packing = defaults.packing
        self._packs = EagerPacks(defaults, self._may_send, self._send_packed)
        self._nursery: trio.Nursery | None = None
        self._followed: dict[_Key, _Upload] = {}
        self._sent: dict[_Key, _Upload] = {}
        self._closed: dict[_Key, _Closed] = {}
        self._arrived = trio.Event()
        self._pauses = Pauses(trio.current_time)
        self._whole_only: set[str] = set()

    def __repr__(self) -> str:
        return f"<EagerUploads {len(self._followed)} followed, {len(self._closed)} closed>"

    async def run(self) -> None:
        """Send what comes until it is cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                nursery.start_soon(self._packs.run)
                for _ in range(SENDERS):
                    nursery.start_soon(self._send_closed)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def uploads(self) -> Iterator[BlobProgress]:
        """Yield what is being sent."""
        yield from (each.progress for each in self._all())

    # What is told of drafts

    def wrote(self, draft: Draft, opened: OpenStaged) -> None:
        """Follow a file once it is large; what was to be sent, or is, is out of date."""
        key = _key(draft, opened.identity)
        self._packs.wrote(draft)
        self._closed.pop(key, None)
        sent = self._sent.get(key)
        if sent is not None:
            sent.scope.cancel()
        if key in self._followed or len(self._followed) >= FOLLOWED:
            return
        following = draft.tree.digests.following(opened.identity.number)
        if following is None or following.written < FOLLOW_BYTES or following.is_lost:
            return
        if self._nursery is None or not self._may_follow(draft, opened.identity):
            return
        try:
            content = GrowingFile(following, opened.fd)
        except OrasfsError as error:
            logger.debug("not followed draft=%s reason=%s", draft.key, error)
            return
        name = "/".join(opened.identity.parts() or ())
        progress = BlobProgress(name, following.written, BlobState.SENDING)
        upload = self._followed[key] = _Upload(draft, progress, content.digest_now)
        self._nursery.start_soon(self._follow, key, upload, content, opened.identity)

    def closed(self, draft: Draft, identity: Identity) -> None:
        """Let a file be sent when it has been let alone."""
        key = _key(draft, identity)
        if key in self._followed or identity.writers or not self._may_send(draft):
            return
        title = (identity.parts() or ("",))[0]
        is_known = self._packs.awaits(draft, title)  # asked first: it touches no disk
        if is_known or not self._is_fit(draft, identity):
            if is_known or (identity.names and _top(identity) is draft.tree.top):
                self._packs.closed(draft, title)
            return
        self._closed.pop(key, None)  # the order is that in which they are due
        self._closed[key] = _Closed(draft, identity, trio.current_time() + QUIET_SECONDS)
        self._arrived.set()

    def dropped(self, draft: Draft) -> None:
        """Send nothing of a draft any more."""
        for key in [key for key, each in self._closed.items() if each.draft is draft]:
            del self._closed[key]
        self._packs.dropped(draft)
        for upload in self._all():
            if upload.draft is draft:
                upload.scope.cancel()

    # What a commit wants

    def target(self, registry: str, repository: str) -> Target:
        """Return a target that says what it has once that is not on its way any more."""
        return WaitingTarget(
            self._target(registry, repository), partial(self._wait, (registry, repository))
        )

    async def _wait(self, place: tuple[str, str], digest: Digest) -> None:
        """Wait for the upload of a blob if there is one; its requests have deadlines."""
        for upload in self._all():
            there = upload.draft.key.registry, _repository(upload.draft)
            if there == place and upload.digest_now() == digest:
                await upload.ended.wait()

    # The uploads

    async def _follow(
        self, key: _Key, upload: _Upload, content: GrowingFile, identity: Identity
    ) -> None:
        target = self._target(upload.draft.key.registry, _repository(upload.draft))

        def tell(sent: int) -> None:
            upload.progress.size = max(upload.progress.size, sent)
            upload.progress.sent = sent

        def follow(is_cancelled: Callable[[], bool]) -> OrasfsError | None:
            try:
                target.follow_blob(content, tell, lambda: is_cancelled() or content.is_lost)
            except OrasfsError as error:
                return error
            return None

        try:
            with upload.scope:
                error = await run_interruptibly(follow, is_waited_for=True)
                self._judge(upload, error, is_whole=False)
        finally:
            content.close()
            del self._followed[key]
            upload.ended.set()
        if not upload.is_there and not upload.scope.cancelled_caught:
            self.closed(upload.draft, identity)  # whole, if nobody writes it any more

    async def _send_closed(self) -> None:
        while True:
            found = next(iter(self._closed.items()), None)
            if found is None:
                self._arrived = trio.Event()
                await self._arrived.wait()
            elif found[1].due > trio.current_time():
                await trio.sleep_until(found[1].due)
            else:
                del self._closed[found[0]]
                await self._send(*found)

    async def _send(self, key: _Key, closed: _Closed) -> None:
        draft, identity = closed.draft, closed.identity
        await trio.lowlevel.checkpoint()
        if draft.is_committing or key in self._sent or not self._is_fit(draft, identity):
            return  # the commit sends it
        await self._send_blob(
            key,
            draft,
            "/".join(identity.parts() or ()),
            partial(trio.to_thread.run_sync, _read, draft, identity),
        )

    async def _send_packed(self, draft: Draft, blob: LocalBlob, title: str) -> None:
        """Send what a directory was packed to."""

        async def packed() -> LocalBlob:
            await trio.lowlevel.checkpoint()
            return blob

        await self._send_blob((draft.id, 0, 0), draft, title, packed)

    async def _send_blob(
        self, key: _Key, draft: Draft, name: str, find: Callable[[], Awaitable[LocalBlob | None]]
    ) -> None:
        upload = _Upload(draft, BlobProgress(name, 0), lambda: upload.progress.digest)
        self._sent[key] = upload
        try:
            with upload.scope:
                self._judge(upload, await self._bring(upload, find), is_whole=True)
        finally:
            del self._sent[key]
            upload.ended.set()

    async def _bring(
        self, upload: _Upload, find: Callable[[], Awaitable[LocalBlob | None]]
    ) -> OrasfsError | None:
        draft, progress = upload.draft, upload.progress
        try:
            blob = await find()
            if blob is None:
                return Aborted("there is nothing to send")
            target = self._target(draft.key.registry, _repository(draft))
            uploader = Uploader(target, lambda _: _mounts_from(draft))
            await uploader.ensure(blob.descriptor, blob.content, progress)
        except OrasfsError as error:
            return error
        return None

    def _judge(self, upload: _Upload, error: OrasfsError | None, *, is_whole: bool) -> None:
        """Take note of how an upload ended."""
        registry = upload.draft.key.registry
        if error is None:
            upload.is_there = True
            self._pauses.worked(registry)
            logger.debug("uploaded early draft=%s name=%s", upload.draft.key, upload.progress.name)
            return
        if isinstance(error, Aborted):
            return
        logger.info(
            "early upload failed draft=%s name=%s error=%s",
            upload.draft.key,
            upload.progress.name,
            error,
        )
        if not is_whole and _refuses_chunks(error):
            self._whole_only.add(registry)
        elif isinstance(error, RegistryError | Unreachable | NotFound):
            self._pauses.failed(registry)

    def _all(self) -> list[_Upload]:
        return [*self._followed.values(), *self._sent.values()]

    def _may_send(self, draft: Draft) -> bool:
        registry = draft.key.registry
        is_fit = self._takes(registry) and not self._pauses.is_paused(registry)
        return is_fit and not draft.is_committing

    def _may_follow(self, draft: Draft, identity: Identity) -> bool:
        return draft.key.registry not in self._whole_only and self._is_fit(draft, identity)

    def _is_fit(self, draft: Draft, identity: Identity) -> bool:
        """Tell whether a file may be sent now: it will be a blob as it is."""
        if not self._may_send(draft):
            return False
        return identity.kind == stat.S_IFREG and _is_raw(draft, identity, self._packing)


def _key(draft: Draft, identity: Identity) -> _Key:
    return draft.id, identity.number, identity.serial


def _repository(draft: Draft) -> str:
    return full_name(draft.key.registry, draft.key.repository)


def _mounts_from(draft: Draft) -> tuple[str, ...]:
    base = draft.base
    if base is None or base.registry != draft.key.registry:
        return ()
    return (full_name(base.registry, base.repository),)


def _refuses_chunks(error: OrasfsError) -> bool:
    """Tell whether a registry seems to take whole blobs only."""
    if isinstance(error, RegistryFailure):
        return error.status < 500 or error.status == 501
    return isinstance(error, Unsupported | TooLarge)


def _is_raw(draft: Draft, identity: Identity, packing: Packing) -> bool:
    """Tell whether a file becomes a layer of its own, as far as that can be known."""
    tree = draft.tree
    parts = identity.parts()
    if not parts or _top(identity) is not tree.top:
        return False  # removed, or in the draft's `.oras`
    if len(parts) == 1:
        return True
    directory = tree.find(tree.top, parts[0])
    said = tree.attribute(directory, settings.PACK) if directory is not None else None
    said = said or tree.attribute(tree.top, settings.PACK) or packing.value.encode()
    return said == Packing.FILES.value.encode()


def _top(identity: Identity) -> Identity:
    here = identity
    while here.names:
        here, _ = next(iter(here.names))
    return here


def _read(draft: Draft, identity: Identity) -> LocalBlob | None:
    """Return a file as a blob; None if it is no more, is empty, or is the base's. Blocks.

    Raises:
        StorageFailure: it is being changed.
        LocalFailure: it cannot be read.
    """
    path = (draft.directory / TREE).joinpath(*(identity.parts() or ()))
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if status.st_ino != identity.number or not status.st_size or _is_lower(draft, identity):
        return None
    layer = FileLayer(path.name, path, status.st_size, "", {})
    return hash_file(layer, open_staged, draft.tree.digests.find)


def _is_lower(draft: Draft, identity: Identity) -> bool:
    return draft.tree.attribute(identity, LOWER) is not None
