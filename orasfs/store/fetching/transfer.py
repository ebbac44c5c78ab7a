"""What the worker threads do with a blob: bring it from its source, or check a local file.

Owns no state: each function is the work of one thread on one blob, which it reports to an
`Arrival`. Blocking; knows no trio.

INVARIANT: whatever ends the work, bytes that turned out wrong are gone, and right ones of an
unfinished download stay for the next one to resume.
"""

import os
from typing import Protocol

from orasfs.errors import ContentMismatch, RegistryFailure, StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Verifier
from orasfs.oci.storage import BlobStream, BlobStreamer
from orasfs.store.fetching.arrival import Arrival
from orasfs.store.files import disk
from orasfs.store.files.ingest import Ingest

_BUFFER_BYTES = 1024 * 1024


class IngestStore(Protocol):
    """Where a download puts its bytes."""

    def begin(self, descriptor: Descriptor) -> Ingest:
        """Begin to take a blob as a stream."""
        ...

    def keep(self, incoming: Ingest) -> None:
        """Take a verified one over, to be published and closed."""
        ...


def fetch(
    store: IngestStore, source: BlobStreamer, descriptor: Descriptor, arrival: Arrival
) -> None:
    """Fetch a blob into the store, from where an earlier run was interrupted.

    Raises:
        ContentMismatch: the source served something else, or an earlier run left something else.
        StorageFull: the disk is full; what was fetched is dropped, to leave room to others.
        arrival.Stopped: the arrival was told to stop.
    """
    ingest = store.begin(descriptor)
    try:
        arrival.begin(ingest.open_reader())
        ingest.resume(arrival.advance)
        arrival.resumed = ingest.resumed
        if ingest.offset < descriptor.size:
            _receive(ingest, source, descriptor, arrival)
        ingest.verify()
        arrival.mark_verified()
    except (ContentMismatch, StorageFull):
        ingest.close(keep=False)
        raise
    except BaseException:
        ingest.close(keep=True)
        raise
    store.keep(ingest)


def check(descriptor: Descriptor, arrival: Arrival) -> None:
    """Check the local file `arrival.fd` against its descriptor.

    Raises:
        ContentMismatch: it is something else.
        arrival.Stopped: the arrival was told to stop.
    """
    arrival.begin(arrival.fd)
    verifier = Verifier(descriptor.digest, descriptor.size)
    offset = 0
    with disk.translated(f"check {descriptor.digest}"):
        while content := os.pread(arrival.fd, _BUFFER_BYTES, offset):
            verifier.update(content)
            arrival.checked = offset = offset + len(content)
            arrival.check()
    verifier.finish()
    arrival.mark_verified()


def _receive(
    ingest: Ingest, source: BlobStreamer, descriptor: Descriptor, arrival: Arrival
) -> None:
    stream = source.open_stream(descriptor, ingest.offset)
    buffer = memoryview(bytearray(min(_BUFFER_BYTES, descriptor.size)))
    try:
        arrival.attach(stream)
        _skip(stream, ingest.offset, buffer, arrival)
        while count := stream.readinto(buffer):
            ingest.append(buffer[:count])
            arrival.advance(ingest.offset)
    finally:
        stream.close()
    arrival.check()  # a stream that `stop` closed may look like one that has ended


def _skip(stream: BlobStream, offset: int, buffer: memoryview, arrival: Arrival) -> None:
    """Bring the stream to `offset`: a source that ignores ranges begins at 0 (RFC 9110, 14.2)."""
    while stream.offset < offset:
        arrival.check()
        if not stream.readinto(buffer[: min(len(buffer), offset - stream.offset)]):
            return  # too short, which the size shows
    if stream.offset > offset:
        raise RegistryFailure(f"asked for byte {offset}, the source sent byte {stream.offset}")
