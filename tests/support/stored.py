"""A layer to be read while it passes: small and large files, and links, in a blob as it was."""

import gzip
import os
import tarfile

from orasfs.oci.digest import Digest
from orasfs.tree.layerindex import OWN_BLOB_BYTES
from orasfs.tree.node import PackedLayer
from tests.fakes.source import MemorySource
from tests.support.archives import directory, file, link, tar_of

FIRST, SECOND, LARGE = b"first" * 100, os.urandom(300_000), os.urandom(OWN_BLOB_BYTES + 5)


def packed(source: MemorySource, tar: bytes, content_digest: Digest | None = None) -> PackedLayer:
    """Put a tar into a source, stored: places in the blob are about those in the tar."""
    blob = gzip.compress(tar, 0)
    return PackedLayer(source.add_blob(blob), "docs", content_digest)


TAR = tar_of(
    directory("docs"),
    file("docs/first", FIRST),
    link("docs/near", "first"),
    link("docs/sub/far", "../first"),
    file("docs/second", SECOND),
    file("docs/large", LARGE),
    link("docs/hard", "docs/first", tarfile.LNKTYPE),
)
GATE = 200_000  # in the middle of the second file
