"""A local OCI image layout as a source: one repository, no server.

Owns the reading of a layout directory that belongs to someone else: nothing in it is ever written
here. index.json is read again when it changes. Blobs are offered in place (`blob_path`), so that
the cache need not copy them; who serves them verifies them.

Source: image-spec v1.1 image-layout.md.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import trio

from orasfs.errors import InvalidContent, InvalidName, NotFound, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, verify
from orasfs.oci.layoutindex import LAYOUT_VERSION, LayoutIndex, parse_index, parse_marker
from orasfs.oci.manifest import MAX_MANIFEST_BYTES, Index, Manifest, parse_document
from orasfs.oci.storage import Page
from orasfs.store.content import cas
from orasfs.store.files import disk

T = TypeVar("T")
_Stamp = tuple[int, int, int]


@runtime_checkable
class InPlace(Protocol):
    """A source whose blobs are local files already."""

    def blob_path(self, descriptor: Descriptor) -> Path | None:
        """Return where the blob's file is, None if it has none; the bytes are unverified."""
        ...


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """index.json as it was at `stamp`."""

    stamp: _Stamp
    index: LayoutIndex


@dataclass(frozen=True, slots=True)
class _Relations:
    """A manifest's own descriptor, its subject, and the manifests it lists."""

    descriptor: Descriptor
    subject: Digest | None
    children: tuple[Digest, ...]


class FileStream:
    """A stream of a local file."""

    def __init__(self, fd: int, start: int, stop: int) -> None:
        self._fd = fd
        self._stop = stop
        self.offset = start

    def readinto(self, buffer: memoryview) -> int:
        """Fill a part of `buffer`; return the number of bytes, 0 at the end."""
        if self._fd < 0:
            return 0
        with disk.translated("read a blob of the layout"):
            wanted = min(len(buffer), self._stop - self.offset)
            count = os.preadv(self._fd, [buffer[:wanted]], self.offset) if wanted > 0 else 0
        self.offset += count
        return count

    def close(self) -> None:
        """Close the file. Harmless twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LayoutSource:
    """The one repository of a layout; implements `orasfs.oci.storage.Source` and `InPlace`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limiter = trio.CapacityLimiter(2)
        self._snapshot: _Snapshot | None = None
        self._relations: dict[Digest, _Relations] = {}  # what a manifest says never changes

    def __repr__(self) -> str:
        return f"<LayoutSource {self._path}>"

    @property
    def is_trusted(self) -> bool:
        """Large blobs may be served while they are being verified: the disk is the user's own."""
        return True

    def blob_path(self, descriptor: Descriptor) -> Path | None:
        """Return where the blob's file is, None if the layout does not have it."""
        path = self._path_of(descriptor.digest)
        return path if path.is_file() else None

    async def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor that a tag or a digest names; see `oci.storage.Resolver`."""
        return await self._in_thread(partial(self._resolve, reference))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest's bytes, verified; see `oci.storage.ManifestFetcher`."""
        return await self._in_thread(partial(self._read_manifest, descriptor))

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        """Return the tags in order of name; the token is the last name of the page before."""
        index = await self._in_thread(self._read_index)
        names = sorted(name for name in index.tags if token is None or name > token)
        if limit is None or token is not None or len(names) <= limit:
            return Page(names)
        return Page(names[:limit], names[limit - 1])

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Return what in the layout names `subject` as its subject, children of indexes too."""
        return await self._in_thread(partial(self._find_referrers, subject))

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> FileStream:
        """Open the blob's bytes; see `oci.storage.BlobStreamer`."""
        fd = cas.open_regular(self._path_of(descriptor.digest), descriptor.size)
        if fd is None:
            raise NotFound(f"{descriptor.digest}: not in the layout {self._path}")
        return FileStream(fd, start, descriptor.size if stop is None else stop)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _path_of(self, digest: Digest) -> Path:
        return self._path / "blobs" / digest.algorithm / digest.hex

    def _read_index(self) -> LayoutIndex:
        """Return index.json as it is now; blocking."""
        path = self._path / "index.json"
        with disk.translated(f"read {path}"):
            try:
                status = path.stat()
            except FileNotFoundError as error:
                raise NotFound(f"{path}: missing, so the layout has no tags") from error
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if self._snapshot is None or self._snapshot.stamp != stamp:
                self._snapshot = _Snapshot(stamp, parse_index(path.read_bytes()))
        return self._snapshot.index

    def _resolve(self, reference: str) -> Descriptor:
        index = self._read_index()
        if ":" not in reference:
            found = index.tags.get(reference)
            if found is None:
                raise NotFound(f"{reference}: no such tag in the layout {self._path}")
        else:
            digest = Digest.parse(reference)
            found = index.manifests.get(digest) or self._describe(digest)
        return found if found.media_type else self._describe(found.digest)

    def _describe(self, digest: Digest) -> Descriptor:
        """Return the descriptor of a manifest that index.json does not describe; blocking."""
        try:
            size = self._path_of(digest).stat().st_size
        except OSError as error:
            raise NotFound(f"{digest}: not in the layout {self._path}") from error
        raw = self._read_manifest(Descriptor("", digest, size))
        try:
            return Descriptor(parse_document(raw).media_type, digest, size)
        except InvalidContent as error:
            raise NotFound(f"{digest}: a blob, but no manifest: {error}") from error

    def _read_manifest(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > MAX_MANIFEST_BYTES:
            raise InvalidContent(f"{descriptor.digest}: a manifest of {descriptor.size} bytes")
        path = self._path_of(descriptor.digest)
        with disk.translated(f"read {path}"):
            try:
                raw = path.read_bytes()
            except FileNotFoundError as error:
                raise NotFound(f"{descriptor.digest}: not in the layout {self._path}") from error
        verify(raw, descriptor.digest, descriptor.size)
        return raw

    def _find_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        pending = list(self._read_index().manifests)
        seen: set[Digest] = set()
        found = []
        while pending:
            digest = pending.pop()
            if digest in seen:
                continue
            seen.add(digest)
            relations = self._relate(digest)
            if relations is None:
                continue
            pending.extend(relations.children)
            if relations.subject == subject:
                found.append(relations.descriptor)
        return tuple(sorted(found, key=lambda descriptor: descriptor.digest))

    def _relate(self, digest: Digest) -> _Relations | None:
        """Return what a manifest refers to; None if it is missing or unreadable."""
        relations = self._relations.get(digest)
        if relations is None:
            try:
                size = self._path_of(digest).stat().st_size
                raw = self._read_manifest(Descriptor("", digest, size))
                relations = _relations(parse_document(raw), digest, size)
            except (OSError, OrasfsError):
                return None
            self._relations[digest] = relations
        return relations


class LayoutRegistry:
    """A layout directory as a registry of one repository, whose name is empty.

    Args:
        path: of the layout.
        must_exist: without, what is not there is not found when it is asked for.

    Raises (on construction):
        InvalidName: the directory is no OCI image layout; the message says what to do.
    """

    def __init__(self, path: Path, *, must_exist: bool = True) -> None:
        if must_exist:
            _check_layout(path)
        self._source = LayoutSource(path)

    def __repr__(self) -> str:
        return f"<LayoutRegistry {self._source!r}>"

    def repository(self, name: str) -> LayoutSource:  # noqa: ARG002 - a layout has one repository
        """Return the repository, by whatever name."""
        return self._source

    async def list_repositories(self, token: str | None = None) -> Page:  # noqa: ARG002
        """Return no names: the repository is the layout itself."""
        await trio.lowlevel.checkpoint()
        return Page(())


def _check_layout(path: Path) -> None:
    if not path.is_dir():
        raise InvalidName(f"{path}: no such directory; `oras copy --to-oci-layout` makes a layout")
    try:
        version = parse_marker((path / "oci-layout").read_bytes())
    except OSError as error:
        raise InvalidName(
            f"{path}: no OCI image layout: its oci-layout file cannot be read ({error.strerror}); "
            "name the directory that has oci-layout and index.json in it"
        ) from error
    except InvalidContent as error:
        raise InvalidName(f"{path}: no OCI image layout: {error}") from error
    if version != LAYOUT_VERSION:
        raise InvalidName(
            f"{path}: layout version {version[:40]!r}; only {LAYOUT_VERSION} can be read"
        )


def _relations(document: Manifest | Index, digest: Digest, size: int) -> _Relations:
    descriptor = Descriptor(
        document.media_type,
        digest,
        size,
        annotations=document.annotations,
        artifact_type=document.artifact_type,
    )
    children = document.manifests if isinstance(document, Index) else ()
    return _Relations(
        descriptor=descriptor,
        subject=document.subject.digest if document.subject else None,
        children=tuple(child.digest for child in children),
    )
