"""A local OCI image layout as a target: what a registry does for a commit, done to a directory.

Owns the writing into a layout: blobs by way of ingest/, index.json whole and at once. Reading is
`orasfs.store.layout`'s. Knows no network; every method may wait for the disk, in a thread.

INVARIANT: index.json is replaced by rename, under an exclusive flock on `index.json.lock` beside
it, so that of two who move a tag one sees what the other did.
INVARIANT: a blob has its name only once it was verified and is durable, and index.json never names
a manifest that is not there.
"""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from orasfs.errors import (
    Aborted,
    Busy,
    ContentMismatch,
    InvalidContent,
    InvalidName,
    NotEmpty,
    NotFound,
    TagMoved,
    Unsupported,
)
from orasfs.oci import layoutedit
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, verify
from orasfs.oci.layoutindex import LAYOUT_VERSION, parse_index
from orasfs.oci.manifest import Index, Manifest, parse_document
from orasfs.oci.reference import is_tag
from orasfs.oci.storage import ANY, BlobContent, Expectation, GrowingContent
from orasfs.store.files import disk, ingest
from orasfs.store.layout import LayoutSource

T = TypeVar("T")
_Edit = Callable[[bytes], bytes]

_PIECE_BYTES = 1024 * 1024
_LOCK_SECONDS = 30.0
_LOCK_POLL_SECONDS = 0.005
_MARKER = b'{"imageLayoutVersion":"%s"}' % LAYOUT_VERSION.encode()

_UNFINISHED = frozenset({"blobs", "index.json", ".index.json.tmp", ".oci-layout.tmp"})


def create_layout(path: Path) -> None:
    """Make a directory that is missing or empty a layout; leave one that is a layout already.

    For one process at a time.

    Raises:
        InvalidName: there is something else in it.
        StorageFailure: it cannot be made or written.
    """
    with disk.translated(f"make the layout {path}"):
        path.mkdir(parents=True, exist_ok=True)
        if (path / "oci-layout").exists():
            return
        # What is left of a layout that was not finished is taken up again.
        if {entry.name for entry in path.iterdir()} - {
            "blobs",
            "index.json",
            ".index.json.tmp",
            ".oci-layout.tmp",
        }:
            raise InvalidName(f"{path}: neither empty nor an OCI image layout")
        (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not (path / "index.json").exists():
            _replace(path / "index.json", layoutedit.EMPTY_INDEX)
        # Last, because it is what makes the directory a layout.
        _replace(path / "oci-layout", _MARKER)


def remove_empty_layout(path: Path) -> None:
    """Remove a layout in which nothing is, and nothing was.

    Raises:
        NotEmpty: a manifest or a blob is in it, or something that no layout has.
        StorageFailure: it cannot be removed.
    """
    with disk.translated(f"remove the layout {path}"):
        index = (path / "index.json").read_bytes()
        files = {str(each.relative_to(path)) for each in path.rglob("*") if not each.is_dir()}
        if parse_index(index).manifests or files - {"oci-layout", "index.json", "index.json.lock"}:
            raise NotEmpty(f"{path.name}: the layout is not empty")
        (path / "oci-layout").unlink()  # first: what is left is taken up again
        shutil.rmtree(path)


class LayoutTarget:
    """The one repository of a layout, for writing; implements `orasfs.oci.storage.Target`.

    Args:
        path: of the layout, which exists; see `create_layout`. Kept as an attribute.
        lock_seconds: how long to wait for another writer.
    """

    def __init__(self, path: Path, *, lock_seconds: float = _LOCK_SECONDS) -> None:
        self.path = path
        self._lock_seconds = lock_seconds
        self._source = LayoutSource(path)
        self._limiter = trio.CapacityLimiter(2)

    def __repr__(self) -> str:
        return f"<LayoutTarget {self.path}>"

    async def resolve(self, reference: str) -> Descriptor:
        """See `Resolver.resolve`."""
        return await self._source.resolve(reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """See `ManifestFetcher.fetch_manifest`."""
        return await self._source.fetch_manifest(descriptor)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """See `BlobPusher.has_blob`."""
        return await self._in_thread(partial(self._has, descriptor))

    async def mount_blob(
        self,
        descriptor: Descriptor,  # noqa: ARG002 - the port's
        from_repository: str,  # noqa: ARG002 - the port's
    ) -> bool:
        """See `BlobPusher.mount_blob`: a layout is one repository, so there is no other."""
        await trio.lowlevel.checkpoint()
        return False

    def push_blob(
        self,
        descriptor: Descriptor,
        content: BlobContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """See `BlobPusher.push_blob`. What an earlier push left is not resumed: a copy is fast."""
        if content.size != descriptor.size:
            raise ContentMismatch(
                f"{descriptor.digest}: the content has {content.size} bytes, not {descriptor.size}"
            )
        with self._ingesting(descriptor) as incoming, content.open() as file:
            on_progress(0)
            while True:
                if is_cancelled():
                    raise Aborted(f"{descriptor.digest}: the copy was given up")
                with disk.translated(f"read {descriptor.digest}"):
                    piece = file.read(_PIECE_BYTES)
                if not piece:
                    break
                incoming.append(piece)
                on_progress(incoming.offset)
            incoming.verify()
            incoming.publish()

    def follow_blob(
        self,
        content: GrowingContent,  # noqa: ARG002 - the port's
        on_progress: Callable[[int], None],  # noqa: ARG002 - the port's
        is_cancelled: Callable[[], bool],  # noqa: ARG002 - the port's
    ) -> None:
        """See `BlobPusher.follow_blob`: what is on this disk already is copied when it is whole.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("a layout takes whole blobs only")

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation = ANY
    ) -> None:
        """See `ManifestPusher.push_manifest`; `expected` is exact, whoever else writes.

        Raises:
            Busy: another writer holds the lock for too long.
        """
        await self._in_thread(
            partial(self._push_manifest, raw, media_type, reference, expected=expected)
        )

    async def delete_manifest(self, digest: Digest) -> None:
        """See `TagRemover.delete_manifest`; its layers stay, they may be another's too."""
        await self._in_thread(partial(self._delete_manifest, digest))

    async def delete_tag(self, tag: str) -> None:
        """See `TagRemover.delete_tag`; the manifest stays, without the tag."""
        await self._in_thread(partial(self._delete_tag, tag))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    # Blocking

    def _has(self, descriptor: Descriptor) -> bool:
        path = self._path_of(descriptor.digest)
        with disk.translated(f"look for {descriptor.digest}"):
            return path.is_file() and path.stat().st_size == descriptor.size

    def _path_of(self, digest: Digest) -> Path:
        return self.path / "blobs" / digest.algorithm / digest.hex

    @contextmanager
    def _ingesting(self, descriptor: Descriptor) -> Iterator[ingest.Ingest]:
        """Take a blob by way of a temporary file, of which nothing is left if it fails."""
        directory = self.path / "ingest"
        with disk.translated(f"ingest {descriptor.digest}"):
            directory.mkdir(exist_ok=True)
            ingest.sweep(directory)
            fd, path = ingest.open_private(directory)
        incoming = ingest.Ingest(fd, path, descriptor, self._path_of(descriptor.digest))
        try:
            yield incoming
        finally:
            incoming.close(keep=False)

    def _push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation
    ) -> None:
        is_tag_given = ":" not in reference
        if is_tag_given and not is_tag(reference):
            raise InvalidName(f"tag {reference[:140]!r}: not a valid one")
        digest = Digest.of(raw) if is_tag_given else Digest.parse(reference)
        verify(raw, digest, len(raw))
        descriptor = Descriptor(media_type, digest, len(raw))
        if not self._has(descriptor):
            with self._ingesting(descriptor) as incoming:
                incoming.append(raw)
                incoming.verify()
                incoming.publish()
        tag = reference if is_tag_given else None
        entry = layoutedit.entry_of(_document(raw, media_type), descriptor)

        def edit(index: bytes) -> bytes:
            if tag is not None:
                _check_expected(tag, parse_index(index).tags.get(tag), expected, digest)
            return layoutedit.put(index, digest, entry, tag)

        self._edit_index(edit)

    def _delete_manifest(self, digest: Digest) -> None:
        def edit(index: bytes) -> bytes:
            path = self._path_of(digest)
            if digest not in parse_index(index).manifests and not path.is_file():
                raise NotFound(f"{digest}: not in the layout {self.path}")
            return layoutedit.remove_manifest(index, digest)

        self._edit_index(edit)
        with disk.translated(f"remove {digest}"):
            # After the index: it must not name what is not there.
            self._path_of(digest).unlink(missing_ok=True)

    def _delete_tag(self, tag: str) -> None:
        def edit(index: bytes) -> bytes:
            if tag not in parse_index(index).tags:
                raise NotFound(f"{tag}: no such tag in the layout {self.path}")
            return layoutedit.remove_tag(index, tag)

        self._edit_index(edit)

    def _edit_index(self, edit: _Edit) -> None:
        """Replace index.json by what `edit` makes of it, while no other of us does the same."""
        path = self.path / "index.json"
        with self._locked(), disk.translated(f"change {path}"):
            try:
                before = path.read_bytes()
            except FileNotFoundError:
                before = layoutedit.EMPTY_INDEX
            after = edit(before)
            if after != before or not path.exists():
                _replace(path, after)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of index.json; that file stays, since removing it would split the lock."""
        path = self.path / "index.json.lock"
        deadline = time.monotonic() + self._lock_seconds
        with disk.translated(f"lock {path}"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            while not _try_lock(fd, path):
                if time.monotonic() > deadline:
                    raise Busy(f"{self.path}: another process keeps changing this layout")
                # flock itself would wait for ever.
                threading.Event().wait(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(fd)


def _try_lock(fd: int, path: Path) -> bool:
    with disk.translated(f"lock {path}"):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _check_expected(
    tag: str, present: Descriptor | None, expected: Expectation, digest: Digest
) -> None:
    """Judge what a tag names before it is moved; what it is to become is always right.

    Raises:
        TagMoved: it is something else than expected.
    """
    found = present.digest if present is not None else None
    if expected is ANY or found in (expected, digest):
        return
    raise TagMoved(
        f"{tag}: it is {found or 'gone'} now, and was expected to be {expected or 'absent'}",
        expected=str(expected or ""),
        found=str(found or ""),
    )


def _document(raw: bytes, media_type: str) -> Manifest | Index | None:
    try:
        return parse_document(raw, media_type)
    except InvalidContent:
        return None  # of a kind we do not know: kept as it is


def _replace(path: Path, content: bytes) -> None:
    """Give a file new content at once and durably; the `OSError` is the caller's.

    One writer at a time: what a killed one left is written over, so that nothing piles up.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            disk.write_fully(fd, content, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    disk.sync_directory(path.parent)
