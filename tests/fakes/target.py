"""An in-memory target: the pushing ports of one repository, with faults to order.

`MemoryTarget` satisfies `orasfs.oci.storage.Target`. Like a registry it refuses a manifest whose
blobs it lacks, and counts every call, which a fault can hit by its number.
"""

import threading
from collections import Counter
from collections.abc import Callable

import trio

from orasfs.errors import (
    Aborted,
    ContentMismatch,
    NotFound,
    OrasfsError,
    RegistryFailure,
    TagMoved,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import ANY, BlobContent, Expectation, GrowingContent

PIECE_BYTES = 64 * 1024


class MemoryTarget:
    """One repository in memory.

    Attributes:
        blobs: content by digest.
        manifests: (raw, media type) by digest.
        tags: digests by tag.
        elsewhere: blobs of other repositories of the registry, by repository.
        calls: the ports that were called, in order.
        counts: how often each.
        fail_at: the call of that number raises `error`; those that push a blob half-way.
        lose_answer: the next manifest is put, and the answer lost.
        stalled: pushes of blobs wait until somebody cancels; `pushing` is set by the first.
    """

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, tuple[bytes, str]] = {}
        self.tags: dict[str, Digest] = {}
        self.elsewhere: dict[str, dict[Digest, bytes]] = {}
        self.calls: list[str] = []
        self.counts: Counter[str] = Counter()
        self.fail_at: int | None = None
        self.error: OrasfsError = RegistryFailure("the test ordered it", status=500)
        self.lose_answer = False
        self.stalled = False
        self.pushing = threading.Event()
        self._lock = threading.Lock()

    def _called(self, name: str) -> None:
        with self._lock:
            self.calls.append(name)
            self.counts[name] += 1
            if self.fail_at is not None and len(self.calls) > self.fail_at:
                self.fail_at = None
                raise self.error

    async def resolve(self, reference: str) -> Descriptor:
        await trio.lowlevel.checkpoint()
        self._called("resolve")
        return self._find(reference)

    def _find(self, reference: str) -> Descriptor:
        digest = Digest.parse(reference) if ":" in reference else self.tags.get(reference)
        if digest not in self.manifests:
            raise NotFound(f"{reference}: no such manifest")
        raw, media_type = self.manifests[digest]
        return Descriptor(media_type, digest, len(raw))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        await trio.lowlevel.checkpoint()
        self._called("fetch_manifest")
        return self.manifests[self._find(str(descriptor.digest)).digest][0]

    async def has_blob(self, descriptor: Descriptor) -> bool:
        await trio.lowlevel.checkpoint()
        self._called("has_blob")
        return descriptor.digest in self.blobs

    async def mount_blob(self, descriptor: Descriptor, from_repository: str) -> bool:
        await trio.lowlevel.checkpoint()
        self._called("mount_blob")
        found = self.elsewhere.get(from_repository, {}).get(descriptor.digest)
        if found is None:
            return False
        self.blobs[descriptor.digest] = found
        return True

    def push_blob(
        self,
        descriptor: Descriptor,
        content: BlobContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._called("push_blob")
        self.pushing.set()
        received = b""
        with content.open() as stream:
            while piece := stream.read(PIECE_BYTES):
                received += piece
                on_progress(len(received))
                while self.stalled and not is_cancelled():
                    threading.Event().wait(0.005)
                if is_cancelled():
                    raise Aborted("given up")
        if Digest.of(received, descriptor.digest.algorithm) != descriptor.digest:
            raise ContentMismatch(f"{descriptor.digest}: got {len(received)} other bytes")
        assert len(received) == descriptor.size == content.size
        self.blobs[descriptor.digest] = received

    def follow_blob(
        self,
        content: GrowingContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._called("follow_blob")
        self.pushing.set()
        received = b""
        while (stop := content.wait(len(received), is_cancelled)) > len(received):
            with content.open() as stream:
                stream.seek(len(received))
                while len(received) < stop:
                    received += stream.read(min(PIECE_BYTES, stop - len(received)))
                    on_progress(len(received))
        digest = content.digest_now()
        if digest is None or digest != Digest.of(received):
            raise ContentMismatch(f"{digest}: got {len(received)} other bytes")
        self.blobs[digest] = received

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation = ANY
    ) -> None:
        await trio.lowlevel.checkpoint()
        self._called("push_manifest")
        found = self.tags.get(reference)
        if expected is not ANY and found != expected:
            raise TagMoved(f"{reference}: moved", expected=str(expected), found=str(found or ""))
        parsed = parse_document(raw, media_type)
        if isinstance(parsed, Manifest):
            named = [*parsed.layers, *([parsed.config] if parsed.config else [])]
            missing = [str(b.digest) for b in named if not b.urls and b.digest not in self.blobs]
            if missing:
                code = "MANIFEST_BLOB_UNKNOWN"
                raise RegistryFailure(f"{code} {missing}", status=404, code=code)
        digest = Digest.of(raw)
        self.manifests[digest] = (raw, media_type)
        if ":" not in reference:
            self.tags[reference] = digest
        if self.lose_answer:
            self.lose_answer = False
            raise RegistryFailure("the answer was lost", status=502)

    async def delete_manifest(self, digest: Digest) -> None:
        await trio.lowlevel.checkpoint()
        self._called("delete_manifest")
        if self.manifests.pop(digest, None) is None:
            raise NotFound(f"{digest}: no such manifest")
        self.tags = {tag: found for tag, found in self.tags.items() if found != digest}

    async def delete_tag(self, tag: str) -> None:
        await trio.lowlevel.checkpoint()
        self._called("delete_tag")
        if self.tags.pop(tag, None) is None:
            raise NotFound(f"{tag}: no such tag")
