"""Published indexes as tests want them: of a layer that is packed here, and changed at will."""

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from orasfs.oci.descriptor import ANNOTATION_INDEX, Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.layerblob import Compression, write_layer
from orasfs.tree import publishedindex
from orasfs.tree.chunktable import ChunkMaker
from orasfs.tree.compression import open_decompressor
from orasfs.tree.filedigests import FileHashes
from orasfs.tree.layerindex import (
    BLOB_BYTES,
    ENTRY,
    EXTENT,
    HEADER,
    LENGTH,
    RECORD,
    LayerIndex,
)
from orasfs.tree.tar import TarScanner
from tests.support.archives import directory, files, link, pieces_of, tar_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
FILES = {f"docs/sub/{number:02}": os.urandom(700_000) for number in range(8)}
FILES["docs/large"] = os.urandom(3 * MIB)
FILES["docs/small"] = b"small"
TAR = tar_of(
    directory("docs"),
    directory("docs/sub"),
    *files(FILES),
    link("docs/link", "small"),
)


def packed(compression: Compression = Compression.GZIP, tar: bytes = TAR) -> bytes:
    """Return the blob that orasfs makes of a tar."""
    output = io.BytesIO()
    pieces = pieces_of(io.BytesIO(tar))
    write_layer(pieces, compression, output, lambda _: io.BytesIO())
    return output.getvalue()


def described(blob: bytes) -> Descriptor:
    """Return the descriptor of a blob."""
    return Descriptor("application/vnd.test", Digest.of(blob), len(blob))


def indexed(blob: bytes) -> tuple[bytes, bytes]:
    """Return the index of a layer and the table of its chunks, in their binary forms."""
    index, table, _ = hashed(blob)
    return index, table


def hashed(blob: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the same, and the digests of the layer's files."""
    decompressor, hashes = open_decompressor(blob), FileHashes()
    scanner, chunks = TarScanner(hashes), ChunkMaker(blob)
    for piece in decompressor.feed(blob):
        chunks.take(decompressor.stream_start, piece)
        scanner.feed(piece)
    table = chunks.finish(len(blob))
    assert table is not None
    index = b"".join(scanner.sections())
    return index, table.to_bytes(), hashes.in_order(LayerIndex(index))


def published(blob: bytes, digests: bytes | None = None) -> bytes:
    """Return the published form of a layer's index, with the digests of its files or others."""
    index, table, found = hashed(blob)
    found = found if digests is None else digests
    made = publishedindex.encode(index, table, described(blob), "docs", found)
    assert made is not None
    return made


def vouching(layer: Descriptor, index: bytes) -> Descriptor:
    """Return a descriptor that names an index of its layer."""
    named = {**layer.annotations, ANNOTATION_INDEX: str(Digest.of(index))}
    return Descriptor(layer.media_type, layer.digest, layer.size, named)


@dataclass
class Parts:
    """An index taken apart, to be changed and put together again."""

    records: list[list[int]]
    entries: list[list[int]]
    extents: list[list[int]]
    blobs: bytearray
    heap: bytearray
    problems: bytes
    sizes: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, index: bytes) -> "Parts":
        magic, version, width, *rest = HEADER.unpack_from(index)
        counts, sizes = rest[:6], rest[6:8]
        widths = (RECORD.size, ENTRY.size, EXTENT.size, BLOB_BYTES, 1, 1)
        sections, start = [], HEADER.size
        for count, each in zip(counts, widths, strict=True):
            sections.append(index[start : start + count * each])
            start += count * each
        assert start == len(index)
        assert (magic, width) == (b"ORASFSLI", RECORD.size)
        assert version
        return cls(
            [list(row) for row in RECORD.iter_unpack(sections[0])],
            [list(row) for row in ENTRY.iter_unpack(sections[1])],
            [list(row) for row in EXTENT.iter_unpack(sections[2])],
            bytearray(sections[3]),
            bytearray(sections[4]),
            sections[5],
            sizes,
        )

    def text(self, content: bytes) -> int:
        """Put a name into the heap and return where it is."""
        self.heap += content
        return len(self.heap) - len(content)

    def rename(self, entry: int, name: bytes) -> None:
        """Give an entry another name."""
        self.entries[entry][0], self.entries[entry][2] = self.text(name), len(name)

    def name(self, entry: int) -> bytes:
        start, _, length = self.entries[entry]
        return bytes(self.heap[start : start + length])

    def ordinal(self, name: bytes) -> int:
        """Return the ordinal that an entry of that name has."""
        return next(row[1] for number, row in enumerate(self.entries) if self.name(number) == name)

    def to_bytes(self) -> bytes:
        counts = (
            len(self.records),
            len(self.entries),
            len(self.extents),
            len(self.blobs) // BLOB_BYTES,
            len(self.heap),
            len(self.problems),
        )
        head = HEADER.pack(b"ORASFSLI", 2, RECORD.size, *counts, *self.sizes, 0)[: -LENGTH.size]
        return b"".join(
            (
                head + LENGTH.pack(zlib.crc32(head)),
                *(RECORD.pack(*row) for row in self.records),
                *(ENTRY.pack(*row) for row in self.entries),
                *(EXTENT.pack(*row) for row in self.extents),
                self.blobs,
                self.heap,
                self.problems,
            )
        )


def changed(
    blob: bytes,
    change: Callable[[Parts], None] = lambda _: None,
    *,
    chunks: Callable[[bytearray], None] = lambda _: None,
    head: Callable[[bytearray], None] = lambda _: None,
    digests: bytes = b"",
) -> bytes:
    """Return a published index that somebody has tampered with, and put together well."""
    index, table = indexed(blob)
    parts, other = Parts.of(index), bytearray(table)
    parts.blobs = bytearray(len(parts.blobs))
    change(parts)
    chunks(other)
    return assembled(parts.to_bytes(), bytes(other), described(blob), head, digests)


def assembled(
    index: bytes,
    table: bytes,
    layer: Descriptor,
    head: Callable[[bytearray], None] | None = None,
    digests: bytes = b"",
) -> bytes:
    """Put an index together, whatever is in it."""
    digest, sizes = bytes.fromhex(layer.digest.hex), (len(index), len(table), len(digests))
    made = bytearray(struct.pack("<8sI32sQQQQ", b"ORASFSPX", 2, digest, layer.size, *sizes))
    if head is not None:
        head(made)
    compressed: bytes = zstd.compress(bytes(made) + index + table + digests)
    return compressed
