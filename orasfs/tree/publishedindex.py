"""The index of a packed layer as it is published beside it: its form, and what it must be.

Owns the form (docs/INDEX.md) and the checks. Whoever can push into a repository can publish an
index, so nothing in one is believed that a tar could not say: names, places and sizes are checked
as those of members, and the form is the one and only that a tar of these members gives. It names
no blobs: what is one of its own in the cache has no digest in the records, so that no index can
show what the cache has of others. Digests of files are beside them, for who compares. Pure.

INVARIANT: `decode` gives an index of which every walk ends, whose names fit into a directory, and
whose files are in the tar, one behind the other; and chunks that are of the layer's blob. It gives
digests of files only if the layer's descriptor names this very index.
"""

import hashlib
import struct
import sys
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from orasfs.errors import ContentRefused, InvalidContent
from orasfs.oci.descriptor import ANNOTATION_INDEX, Descriptor
from orasfs.oci.digest import Digest
from orasfs.tree.chunktable import CHUNK_BYTES, DIGEST_BYTES, MAX_CHUNK_BYTES, ChunkTable
from orasfs.tree.compression import open_decompressor
from orasfs.tree.filedigests import FileDigests
from orasfs.tree.indexbuilder import MAX_TARGET_BYTES
from orasfs.tree.layerindex import (
    BLOB_BYTES,
    ENTRY,
    EXTENT,
    HEADER,
    OWN_BLOB_BYTES,
    RECORD,
    ROOT,
    LayerIndex,
    MemberKind,
    RecordFlag,
)
from orasfs.tree.names import MAX_COMPONENT_BYTES, MAX_PATH_BYTES, show
from orasfs.tree.packed import check_packed
from orasfs.tree.pax import clamp_time_ns

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ARTIFACT_TYPE = "application/vnd.orasfs.layer-index.v1"
MEDIA_TYPE = "application/vnd.orasfs.layer-index.v1+zstd"
ANNOTATION_LAYER = "io.orasfs.index.layer"  # the digest of the layer that an index is of
MAX_BYTES = 32 * 1024 * 1024  # uncompressed: 300,000 files, or 400,000 without digests
MAX_COMPRESSED_BYTES = 16 * 1024 * 1024

_MAGIC = b"ORASFSPX"
_VERSION = 2
# …; sha256 of the layer's blob and its size; lengths of index, table and digests of files
_HEADER = struct.Struct("<8sI32sQQQQ")
_LEVEL = 9
_MAX_FILE_BYTES = 2**62
_FORM_AT = 10  # of a table of chunks
_CHUNK_WIDTH = 2 * 8 + DIGEST_BYTES  # in it; there is a header of less than that
# Those that need nothing beside the blob: `orasfs.tree.chunktable.Form` STREAMS, PLAIN, RESTARTS.
_FORMS = frozenset((b"\0", b"\1", b"\2"))
_FILE, _SYMLINK = int(MemberKind.FILE), int(MemberKind.SYMLINK)
_MAX_TIME_NS = clamp_time_ns(2**64)
_SPARSE, _OWN = int(RecordFlag.SPARSE), int(RecordFlag.OWN)
_KNOWN_FLAGS = int(RecordFlag.IMPLICIT) | _SPARSE | _OWN
_NO_NAMES = frozenset((b"", b".", b".."))


@dataclass(frozen=True, slots=True)
class Published:
    """What a published index says.

    Attributes:
        index: of the layer; none of its blobs has a digest.
        chunks: of the layer's tar.
        fingerprint: see `fingerprint`.
        digests: of the files; None if there are none, or the artifact does not vouch for them.
    """

    index: LayerIndex
    chunks: ChunkTable
    fingerprint: bytes
    digests: FileDigests | None = None


def encode(
    index: bytes | memoryview, chunks: bytes, layer: Descriptor, root: str, digests: bytes = b""
) -> bytes | None:
    """Return the published form of an index; the same for the same layer.

    Args:
        index: in its binary form.
        chunks: the table of the layer's chunks, in its binary form.
        layer: of which they are.
        root: the directory that it is.
        digests: of its files, as `orasfs.tree.filedigests` has them, if they are known. They are
            left out where the whole would be too large with them.

    Returns: None if it is not to be published: it is too large, the layer is one that is not
        shown, or it cannot be read by parts.
    """
    is_usable = chunks[_FORM_AT : _FORM_AT + 1] in _FORMS
    if layer.digest.algorithm != "sha256" or not is_usable:
        return None
    try:
        check_packed(LayerIndex(index), root)
    except ContentRefused:
        return None
    nameless = b"".join(_nameless(index))
    made = _compressed(layer, nameless, chunks, digests)
    return _compressed(layer, nameless, chunks) if made is None and digests else made


def _compressed(
    layer: Descriptor, index: bytes, chunks: bytes, digests: bytes = b""
) -> bytes | None:
    digest, sizes = bytes.fromhex(layer.digest.hex), (len(index), len(chunks), len(digests))
    head = _HEADER.pack(_MAGIC, _VERSION, digest, layer.size, *sizes)
    content = b"".join((head, index, chunks, digests))
    if len(content) > MAX_BYTES:
        return None
    compressed: bytes = zstd.compress(content, _LEVEL)
    return compressed if len(compressed) <= MAX_COMPRESSED_BYTES else None


def decode(published: bytes, layer: Descriptor, root: str) -> Published:
    """Return what a published index says of a layer that is to be the directory `root`.

    Raises:
        InvalidContent: it is of another layer or version, or damaged.
        ContentRefused: it shows what no tar may be unpacked to.
    """
    content = memoryview(_inflate(published))
    if len(content) < _HEADER.size:
        raise InvalidContent("published index: truncated")
    magic, version, digest, size, *sizes = _HEADER.unpack_from(content)
    if (magic, version) != (_MAGIC, _VERSION):
        raise InvalidContent("published index: not one of this version")
    if (Digest("sha256", digest.hex()), size) != (layer.digest, layer.size):
        raise InvalidContent("published index: of another layer")
    if _HEADER.size + sum(sizes) != len(content):
        raise InvalidContent("published index: truncated, or longer than its header says")
    start = _HEADER.size + sizes[0]
    records, stop = content[_HEADER.size : start], start + sizes[1]
    index = LayerIndex(records)
    _check_records(index, records)
    _check_names(index, records)
    check_packed(index, root)
    chunks = _read_chunks(bytes(content[start:stop]), index, layer)
    digests = FileDigests(index, content[stop:]) if sizes[2] else None
    is_vouched = is_vouched_for(layer, Digest.of(published))
    return Published(index, chunks, fingerprint(records), digests if is_vouched else None)


def is_vouched_for(layer: Descriptor, index: Digest) -> bool:
    """Tell whether a layer's descriptor says that this is the digest of its published index."""
    return layer.annotations.get(ANNOTATION_INDEX) == str(index)


def fingerprint(index: bytes | memoryview) -> bytes:
    """Return what two indexes have in common that tell the same of a layer's tar."""
    found = hashlib.sha256()
    for part in _nameless(index):
        found.update(part)
    return found.digest()


def _nameless(index: bytes | memoryview) -> tuple[memoryview | bytes, ...]:
    """Return the parts of an index, with zeros for the digests of blobs."""
    view = memoryview(index)
    start, stop = _blobs(view)
    return view[:start], bytes(stop - start), view[stop:]


def _blobs(view: memoryview) -> tuple[int, int]:
    """Return where the digests of blobs are in an index that `LayerIndex` has taken."""
    counts = HEADER.unpack_from(view)[3:7]
    widths = (RECORD.size, ENTRY.size, EXTENT.size)
    start = HEADER.size + sum(count * width for count, width in zip(counts, widths, strict=False))
    return start, start + counts[3] * BLOB_BYTES


def _inflate(compressed: bytes) -> bytes:
    if len(compressed) > MAX_COMPRESSED_BYTES or not compressed.startswith(b"\x28\xb5\x2f\xfd"):
        raise InvalidContent("published index: too large, or not compressed by zstd")
    made = bytearray()
    decompressor = open_decompressor(compressed)
    for piece in decompressor.feed(compressed):
        made += piece
        if len(made) > MAX_BYTES:
            raise InvalidContent(f"published index: of over {MAX_BYTES} bytes")
    decompressor.finish()
    return bytes(made)


def _check_records(index: LayerIndex, view: memoryview) -> None:
    """Check what records say, but for names: that files are where a pass would find them."""
    if index.problems:
        raise ContentRefused(f"published index: {index.problems[0]}")
    start, stop = _blobs(view)
    if any(view[start:stop]):
        raise InvalidContent("published index: it names blobs")
    end = slab = blobs = 0
    for ordinal, record in enumerate(_records(index, view)):
        tar, place, size, mtime_ns, _, _, _, mode, kind, flags = record
        is_odd = mode > 0o7777 or flags & ~_KNOWN_FLAGS or size > _MAX_FILE_BYTES
        if is_odd or not -_MAX_TIME_NS <= mtime_ns <= _MAX_TIME_NS:
            raise InvalidContent(f"published index: record {ordinal} cannot be")
        if kind == _SYMLINK:
            _check_target(index, ordinal, size)
        if kind != _FILE:
            continue
        start, length = (tar, size) if size and not flags & _SPARSE else _stored(index, ordinal)
        is_own = size >= OWN_BLOB_BYTES and not flags & _SPARSE
        is_right = place == (blobs if is_own else slab) and is_own == bool(flags & _OWN)
        if not is_right or (length and not end <= start <= index.tar_size - length):
            raise InvalidContent(f"published index: file {ordinal} is not where it can be")
        if is_own:
            blobs += 1
        else:
            slab += length
        end = max(end, start + length)
    if slab != index.slab_size or blobs != index.blobs:
        raise InvalidContent("published index: its sizes do not fit")


def _stored(index: LayerIndex, ordinal: int) -> tuple[int, int]:
    """Return where in the tar what is stored of a file begins, and how much it is."""
    extents = index.extents(ordinal)  # which checks them
    if not extents:
        return 0, 0
    start = extents[0].tar_offset
    return start, extents[-1].tar_offset + extents[-1].length - start


def _check_target(index: LayerIndex, ordinal: int, size: int) -> None:
    target = index.member(ordinal).target if size <= MAX_TARGET_BYTES else ""
    if not target or "\0" in target:
        raise ContentRefused(f"published index: symlink {ordinal} has no valid target")


def _check_names(index: LayerIndex, view: memoryview) -> None:
    """Check the names: each entry is reached once, by one path that a tar may have.

    INVARIANT of the form: directories have their entries in the order in which a walk by levels
    comes to them.
    """
    entry_count = HEADER.unpack_from(view)[4]
    names = array("I", bytes(4 * len(index)))
    names[ROOT] = 1
    walk = deque([(ROOT, 0)])
    following = 0
    while walk:
        directory, length = walk.popleft()
        entries = index.children(directory)
        if entries and entries.start != following:
            raise InvalidContent(f"published index: directory {directory} is not where it can be")
        following += len(entries)
        before = b""
        for name, ordinal, kind, *_ in index.rows(directory):
            path = length + len(name)
            if name in _NO_NAMES or b"/" in name or b"\0" in name or name <= before:
                raise ContentRefused(f"published index: no name, or a second one: {show(name)}")
            if len(name) > MAX_COMPONENT_BYTES or path > MAX_PATH_BYTES:
                raise ContentRefused(f"published index: too long: {show(name)}")
            before = name
            names[ordinal] += 1
            if kind == MemberKind.DIRECTORY:
                walk.append((ordinal, path + 1))
    links = (record[6] for record in _records(index, view))
    if following != entry_count or any(map(int.__ne__, names, links)):
        raise InvalidContent("published index: its entries are not all there are")


def _records(index: LayerIndex, view: memoryview) -> Iterator[tuple[int, ...]]:
    return RECORD.iter_unpack(view[HEADER.size : HEADER.size + len(index) * RECORD.size])


def _read_chunks(content: bytes, index: LayerIndex, layer: Descriptor) -> ChunkTable:
    """Return the table of chunks, if they are the whole tar and are in the blob, in order."""
    if content[_FORM_AT : _FORM_AT + 1] not in _FORMS:
        raise InvalidContent("published index: chunks of another form")
    most = index.tar_size // CHUNK_BYTES + 1  # all but the last are that long at least
    if len(content) > (most + 2) * _CHUNK_WIDTH:
        raise InvalidContent("published index: more chunks than the tar can have")
    chunks = ChunkTable.from_bytes(content)
    if not len(chunks) or chunks.size != index.tar_size:
        raise InvalidContent("published index: its chunks are not of the whole tar")
    before = -1
    for number in range(len(chunks)):
        start, stop = chunks.blob_range(number)
        if not before < start < stop <= layer.size or stop - start > 2 * MAX_CHUNK_BYTES:
            raise InvalidContent(f"published index: chunk {number} is not where it can be")
        before = start
    return chunks
