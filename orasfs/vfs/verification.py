"""Which blobs have been checked against their digests, for `user.oras.verified`.

Owns what open readers have told. Knows no cache: a blob that nobody has opened in this mount
counts as verified only if it would not be served before it is.
"""

from collections import defaultdict

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader

SERVED_VERIFIED_BYTES = 64 * 1024 * 1024  # up to here nothing is served before it is checked


class Verification:
    """Follows the open readers of blobs."""

    def __init__(self) -> None:
        self._verified: set[Digest] = set()
        self._open: defaultdict[Digest, list[BlobReader]] = defaultdict(list)

    def opened(self, digest: Digest, reader: BlobReader) -> None:
        """Follow a reader."""
        self._open[digest].append(reader)

    def closed(self, digest: Digest, reader: BlobReader) -> None:
        """Stop following a reader, and keep what it knows."""
        if reader.is_verified:
            self._verified.add(digest)
        readers = self._open[digest]
        readers.remove(reader)
        if not readers:
            del self._open[digest]

    def forget(self, digest: Digest) -> None:
        """Take back that a blob was verified: it turned out to be another."""
        self._verified.discard(digest)

    def is_verified(self, descriptor: Descriptor) -> bool:
        """Tell whether all bytes served of the blob are checked ones."""
        if descriptor.size <= SERVED_VERIFIED_BYTES or descriptor.digest in self._verified:
            return True
        return any(reader.is_verified for reader in self._open.get(descriptor.digest, ()))
