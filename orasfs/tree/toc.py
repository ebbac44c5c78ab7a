"""Tables of contents that others put into layers: eStargz and zstd:chunked.

Owns where such a table is, what it must be, and how it becomes an index and a table of chunks. It
is believed only because the manifest names its digest, by an annotation of the layer; each chunk
has a digest in it. What it cannot express, or contradicts itself in, is refused: whoever asks then
reads the layer itself. Pure.

Sources: stargz-snapshotter docs/estargz.md ("eStargz"), containers/storage pkg/chunked
("zstd:chunked", of the first releases too, whose annotations have another prefix).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Annotated

import msgspec

from orasfs.errors import InvalidContent, InvalidName
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.tree.chunktable import ChunkTable
from orasfs.tree.compression import open_decompressor
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import Extent
from orasfs.tree.pax import clamp_time_ns
from orasfs.tree.tarheader import BLOCK, parse_header

ESTARGZ_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
ZSTD_CHUNKED_PREFIXES = ("io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.")
MAX_TOC_BYTES = 64 * 1024 * 1024  # uncompressed: about a quarter of a million files
_TAIL_BYTES = (32 * 1024, 1024 * 1024)  # that are looked for an eStargz table, at least and most
_TAIL_SHARE = 200
_FOOTER_BYTES = 51
_FOOTER_HEAD = bytes.fromhex("1f8b08040000000000ff1a00") + b"SG\x16\0"
_FOOTER_PLACE = re.compile(rb"([0-9a-f]{16})STARGZ")
_FOOTER_TAIL = bytes.fromhex("010000ffff") + bytes(8)
_TOC_NAME = b"stargz.index.json"
_POSITION = re.compile(r"(\d{1,18}):(\d{1,18}):(\d{1,18}):1")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_TIMES = 1024  # that are remembered: many files have the same
_NO_TIME = "0001-01-01T00:00:00Z"  # Go's zero
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what Go writes for bytes that are no UTF-8


class TocForm(Enum):
    """The formats of tables."""

    ESTARGZ = "eStargz"
    ZSTD_CHUNKED = "zstd:chunked"


@dataclass(frozen=True, slots=True)
class TocPlace:
    """A table that a manifest announces.

    Attributes:
        digest: of the table as it is kept: of eStargz uncompressed, of zstd:chunked compressed.
        start: the bytes [start, stop) of the blob are asked for; they hold all of it, or its end.
    """

    form: TocForm
    digest: Digest
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table says: the index of the layer, in its binary form, and its chunks."""

    index: bytes
    chunks: ChunkTable


def find_toc(layer: Descriptor) -> TocPlace | None:
    """Return where the table of a layer is, None if its manifest announces none that is usable."""
    try:
        if ESTARGZ_DIGEST in layer.annotations:
            digest = Digest.parse(layer.annotations[ESTARGZ_DIGEST])
            low, high = _TAIL_BYTES
            tail = min(max(low, layer.size // _TAIL_SHARE), high)
            return TocPlace(TocForm.ESTARGZ, digest, max(0, layer.size - tail), layer.size)
        for prefix in ZSTD_CHUNKED_PREFIXES:
            position = _POSITION.fullmatch(layer.annotations.get(f"{prefix}manifest-position", ""))
            if position is not None:
                digest = Digest.parse(layer.annotations.get(f"{prefix}manifest-checksum", ""))
                start, length, size = map(int, position.groups())
                is_usable = 0 < length <= size <= MAX_TOC_BYTES and start + length <= layer.size
                place = TocPlace(TocForm.ZSTD_CHUNKED, digest, start, start + length)
                return place if is_usable else None
    except InvalidName:
        return None
    return None


def estargz_start(tail: bytes, layer_size: int) -> int:
    """Return where in the blob the table of an eStargz layer begins, which its footer tells.

    Raises:
        InvalidContent: it has no such footer.
    """
    footer = tail[-_FOOTER_BYTES:]
    place = _FOOTER_PLACE.fullmatch(footer[len(_FOOTER_HEAD) : -len(_FOOTER_TAIL)])
    is_footer = footer.startswith(_FOOTER_HEAD) and footer.endswith(_FOOTER_TAIL)
    if len(footer) != _FOOTER_BYTES or not is_footer or place is None:
        raise InvalidContent("eStargz: no footer")
    start = int(place.group(1), 16)
    if start >= layer_size - _FOOTER_BYTES:
        raise InvalidContent("eStargz: its footer points behind the layer")
    return start


def unpack_estargz(compressed: bytes) -> bytes:
    """Return the table of an eStargz layer, from where it begins in the blob.

    Raises:
        InvalidContent: it is damaged, or too large.
    """
    tar = _inflate(compressed, MAX_TOC_BYTES + BLOCK)
    if len(tar) < BLOCK:
        raise InvalidContent("eStargz: truncated table of contents")
    header = parse_header(tar[:BLOCK], 0)
    if header.name != _TOC_NAME or BLOCK + header.size > len(tar):
        raise InvalidContent("eStargz: its footer points at no table of contents")
    return tar[BLOCK : BLOCK + header.size]


def read_contents(place: TocPlace, kept: bytes, blob_stop: int) -> Contents:
    """Return what a table says, whose digest was checked.

    Args:
        place: what it is.
        kept: the table, as its digest is of.
        blob_stop: before which byte of the blob all chunks are.

    Raises:
        InvalidContent: it does not describe all of a layer, or the layer needs a closer look.
    """
    is_zstd = place.form is TocForm.ZSTD_CHUNKED
    document = _inflate(kept, MAX_TOC_BYTES) if is_zstd else kept
    try:
        toc = msgspec.json.decode(document, type=_Toc)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidContent(f"{place.form.value}: its table of contents: {error}") from error
    if toc.version != 1:
        raise InvalidContent(f"{place.form.value}: a table of version {toc.version}")
    reading = _Reading()
    for entries in _grouped(toc.entries):
        reading.take(entries)
    return reading.finish(blob_stop)


_Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Entry(msgspec.Struct, rename="camel", gc=False):
    """An entry of either format."""

    name: str
    type: str
    size: _Natural = 0
    modtime: str = ""
    link_name: str = ""
    mode: _Natural = 0
    offset: _Natural = 0
    inner_offset: _Natural = 0
    chunk_offset: _Natural = 0
    chunk_size: _Natural = 0
    chunk_digest: str = ""
    chunk_type: str = ""
    digest: str = ""


class _Toc(msgspec.Struct):
    version: int
    entries: list[_Entry]


class _Reading:
    """Makes an index and a table of chunks of the entries, in their order."""

    def __init__(self) -> None:
        self._builder = IndexBuilder()
        self._chunks = ChunkTable()

    def take(self, entries: Sequence[_Entry]) -> None:
        """Take a member, and the chunks of a file behind it."""
        entry, builder = entries[0], self._builder
        name, target = _text(entry.name), _text(entry.link_name)
        mode, mtime_ns = entry.mode & 0o7777, _time_ns(entry.modtime)
        match entry.type:
            case "dir":
                builder.add_directory(name, mode=mode, mtime_ns=mtime_ns)
            case "reg":
                extents = tuple(self._extents(entries))
                self._add_file(name, entry, extents, mtime_ns)
            case "symlink":
                builder.add_symlink(name, mode=mode, mtime_ns=mtime_ns, target=target)
            case "hardlink":
                builder.add_hard_link(name, target)
            case "char" | "block" | "fifo":
                builder.skip(name)
            case _:
                raise InvalidContent(f"layer: a member of unknown type {entry.type[:40]!r}")

    def finish(self, blob_stop: int) -> Contents:
        """Return what came of it; what extraction would stumble over is for the tar to tell."""
        problem = self._builder.first_problem
        if problem is not None:
            raise InvalidContent(f"layer: its table of contents: {problem}")
        self._chunks.close(blob_stop)
        return Contents(self._builder.finish(self._chunks.size), self._chunks)

    def _add_file(
        self, name: bytes, entry: _Entry, extents: Sequence[Extent], mtime_ns: int
    ) -> None:
        mode, size = entry.mode & 0o7777, entry.size
        placed = self._builder.add_file(
            name, mode=mode, mtime_ns=mtime_ns, size=size, extents=extents
        )
        if placed is not None and placed.place.blob is not None and entry.digest:
            digest = Digest("sha256", _sha256(entry.digest).hex())
            self._builder.set_blob(placed.place.blob, digest)

    def _extents(self, entries: Sequence[_Entry]) -> Iterator[Extent]:
        """Enter the chunks of a file; yield where they are, without holes."""
        whole, done = entries[0], 0
        begin: tuple[int, int] | None = None  # offset in the file, and address
        for part in entries if whole.size else ():
            length = part.chunk_size or whole.size - part.chunk_offset
            if part.chunk_offset != done or not 0 < length <= whole.size - done:
                raise InvalidContent(f"layer: the chunks of {whole.name[:80]!r} do not fit")
            if part.chunk_type == "zeros":
                if begin is not None:
                    yield Extent(*begin, self._chunks.size - begin[1])
                begin = None
            else:
                begin = begin or (done, self._chunks.size)
                digest = part.chunk_digest or ("" if length < whole.size else whole.digest)
                raw = _sha256(digest)
                self._chunks.add(length, part.offset, raw, skipped=part.inner_offset)
            done += length
        if done != whole.size:
            raise InvalidContent(f"layer: the chunks of {whole.name[:80]!r} are not all of it")
        if begin is not None:
            yield Extent(*begin, self._chunks.size - begin[1])


def _grouped(entries: Sequence[_Entry]) -> Iterator[Sequence[_Entry]]:
    """Yield each member, with the chunks that follow it."""
    start = 0
    for number, entry in enumerate(entries):
        if entry.type != "chunk":
            if number:
                yield entries[start:number]
            start = number
        elif not number or entry.name != entries[start].name or entries[start].type != "reg":
            raise InvalidContent(f"layer: a chunk of {entry.name[:80]!r} behind something else")
    if entries:
        yield entries[start:]


def _sha256(text: str) -> bytes:
    found = _SHA256.fullmatch(text)
    if found is None:
        raise InvalidContent(f"layer: a chunk without a sha256 digest: {text[:80]!r}")
    return bytes.fromhex(found.group(1))


def _text(name: str) -> bytes:
    if _REPLACEMENT in name:
        raise InvalidContent("layer: its table of contents does not tell a name that is no UTF-8")
    return name.encode("utf-8", "surrogatepass")


@lru_cache(_TIMES)
def _time_ns(text: str) -> int:
    """Return a time of RFC 3339 in nanoseconds since the epoch; 0 if there is none."""
    if text in ("", _NO_TIME):
        return 0
    found = _TIME.fullmatch(text)
    if found is None:
        raise InvalidContent(f"layer: no time: {text[:40]!r}")
    seconds, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    except ValueError as error:
        raise InvalidContent(f"layer: no time: {text[:40]!r}") from error
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    whole = since.days * 86400 + since.seconds
    return clamp_time_ns(whole * 1_000_000_000 + int((fraction or "").ljust(9, "0")))


def _inflate(compressed: bytes, limit: int) -> bytes:
    made = bytearray()
    for piece in open_decompressor(compressed).feed(compressed):
        made += piece
        if len(made) > limit:
            raise InvalidContent(f"layer: a table of contents of over {limit} bytes")
    return bytes(made)
