"""An in-memory source: the raw ports of one repository, with knobs to make it misbehave.

`MemorySource` satisfies `orasfs.oci.storage.Source`. Its counters tell what was asked, its knobs
are plain attributes that a test sets at any time. The stream side is used from worker threads.
"""

import threading
from dataclasses import dataclass

from orasfs.errors import NotFound, OrasfsError, RegistryFailure
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import Page

GATE_SECONDS = 20.0


@dataclass(frozen=True)
class StreamRequest:
    """A call of `open_stream`."""

    digest: Digest
    start: int
    stop: int | None


class MemoryStream:
    """A stream of a `MemorySource`; obeys the source's knobs at each read."""

    def __init__(self, source: "MemorySource", content: bytes, start: int, stop: int) -> None:
        self._source = source
        self._content = content
        self._stop = stop
        self._is_closed = False
        self.offset = start

    def readinto(self, buffer: memoryview) -> int:
        source = self._source
        if source.gate_at is not None and self.offset >= source.gate_at:
            source.at_gate.set()
            if not self._wait_for_gate():
                return 0
        if source.fail_at is not None and self.offset >= source.fail_at:
            raise source.stream_error
        end = min(self._stop, self.offset + min(source.chunk_bytes, len(buffer)))
        for edge in (source.gate_at, source.fail_at):
            if edge is not None and self.offset < edge:
                end = min(end, edge)
        piece = self._content[self.offset : end]
        buffer[: len(piece)] = piece
        self.offset += len(piece)
        source.bytes_sent += len(piece)
        return len(piece)

    def close(self) -> None:
        self._is_closed = True

    def _wait_for_gate(self) -> bool:
        """Wait for the gate, as a stalled network would; False if closed meanwhile."""
        for _ in range(int(GATE_SECONDS / 0.01)):
            if self._source.gate.wait(0.01):
                return True
            if self._is_closed:
                return False
        raise RegistryFailure("the test never opened the gate")


class MemorySource:
    """One repository in memory.

    Knobs:
        is_trusted: whether large blobs may be served unverified.
        chunk_bytes: at most so many bytes a read.
        ignores_ranges: every stream is the whole blob, as from a registry that answers 200.
        gate_at, gate, at_gate: streams wait at that offset until `gate` is set; `at_gate` is set
            by the first that waits.
        fail_at, stream_error: streams fail at that offset.
        open_error: what `open_stream` raises.
        failure: what every asynchronous call raises.
        served: bytes served instead of the right ones, by digest.
        page_size: tags a page.
    """

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.tags: dict[str, Descriptor] = {}
        self.manifests: dict[Digest, Descriptor] = {}
        self.served: dict[Digest, bytes] = {}
        self.is_trusted = True
        self.chunk_bytes = 256 * 1024
        self.ignores_ranges = False
        self.gate_at: int | None = None
        self.gate = threading.Event()
        self.at_gate = threading.Event()
        self.fail_at: int | None = None
        self.stream_error: OrasfsError = RegistryFailure("broken on purpose")
        self.open_error: OrasfsError | None = None
        self.failure: OrasfsError | None = None
        self.page_size = 100
        self.streams: list[StreamRequest] = []
        self.bytes_sent = 0
        self.calls: list[tuple[str, str]] = []

    def add_blob(self, content: bytes, media_type: str = "application/octet-stream") -> Descriptor:
        """Put a blob in and return its descriptor."""
        digest = Digest.of(content)
        self.blobs[digest] = content
        return Descriptor(media_type, digest, len(content))

    def add_manifest(
        self, raw: bytes, tag: str | None = None, media_type: str = mediatype.OCI_MANIFEST
    ) -> Descriptor:
        """Put a manifest in, tagged or not, and return its descriptor."""
        descriptor = self.add_blob(raw, media_type)
        self.manifests[descriptor.digest] = descriptor
        if tag is not None:
            self.tags[tag] = descriptor
        return descriptor

    def count(self, name: str) -> int:
        """Return how often a method was called."""
        return sum(1 for call, _ in self.calls if call == name)

    def forget_requests(self) -> None:
        """Count anew what is asked and sent."""
        self.calls.clear()
        self.streams.clear()
        self.bytes_sent = 0

    async def resolve(self, reference: str) -> Descriptor:
        self._called("resolve", reference)
        if ":" in reference:
            found = self.manifests.get(Digest.parse(reference))
        else:
            found = self.tags.get(reference)
        if found is None:
            raise NotFound(f"{reference}: not found")
        return found

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        self._called("fetch_manifest", str(descriptor.digest))
        return self._content(descriptor.digest)

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        self._called("list_tags", token or "")
        names = sorted(self.tags)
        start = int(token or 0)
        stop = start + (limit or self.page_size)
        return Page(names[start:stop], str(stop) if stop < len(names) else None)

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        self._called("list_referrers", str(subject))
        found = []
        for digest, descriptor in self.manifests.items():
            document = parse_document(self.blobs[digest])
            if document.subject is not None and document.subject.digest == subject:
                kind = document.artifact_type if isinstance(document, Manifest) else ""
                found.append(
                    Descriptor(
                        descriptor.media_type,
                        digest,
                        descriptor.size,
                        annotations=document.annotations,
                        artifact_type=kind,
                    )
                )
        return tuple(found)

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> MemoryStream:
        self.streams.append(StreamRequest(descriptor.digest, start, stop))
        if self.open_error is not None:
            raise self.open_error
        content = self._content(descriptor.digest)
        if self.ignores_ranges:
            return MemoryStream(self, content, 0, len(content))
        return MemoryStream(self, content, start, len(content) if stop is None else stop)

    def _content(self, digest: Digest) -> bytes:
        content = self.served.get(digest, self.blobs.get(digest))
        if content is None:
            raise NotFound(f"{digest}: not found")
        return content

    def _called(self, name: str, argument: str) -> None:
        self.calls.append((name, argument))
        if self.failure is not None:
            raise self.failure


class TwoPlaces(MemorySource):
    """A source whose first place serves other bytes than its second one."""

    def __init__(self) -> None:
        super().__init__()
        self.rejected: list[Digest] = []

    def reject(self, descriptor: Descriptor) -> bool:
        self.rejected.append(descriptor.digest)
        return self.served.pop(descriptor.digest, None) is not None
