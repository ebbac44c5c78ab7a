"""Tables of contents that others put into layers: eStargz and zstd:chunked.

Owns where such a table is, what it must be, and how it becomes an index and a table of chunks. It
is believed only because the manifest names its digest, by an annotation of the layer; each chunk
has a digest in it. What it cannot express, or contradicts itself in, is refused: whoever asks then
reads the layer itself. Pure.

Sources: stargz-snapshotter docs/estargz.md ("eStargz"), containers/storage pkg/chunked
("zstd:chunked", of the first releases too, whose annotations have another prefix).
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import partial

import msgspec

from orasfs.errors import InvalidContent, InvalidName
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.tree.compression import open_decompressor
from orasfs.tree.tarheader import BLOCK, parse_header
from orasfs.tree.tocentries import Contents, Entry, contents_of

ESTARGZ_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
ZSTD_CHUNKED_PREFIXES = ("io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.")
MAX_TOC_BYTES = 64 * 1024 * 1024  # uncompressed: about a quarter of a million files
_TAIL_BYTES = (32 * 1024, 2 * 1024 * 1024)  # looked for an eStargz table, at least and most
_TAIL_SHARE = 200
_FOOTER_BYTES = 51
_FOOTER_HEAD = bytes.fromhex("1f8b08040000000000ff1a00") + b"SG\x16\0"
_FOOTER_PLACE = re.compile(rb"([0-9a-f]{16})STARGZ")
_FOOTER_TAIL = bytes.fromhex("010000ffff") + bytes(8)
_TOC_NAME = b"stargz.index.json"
_POSITION = re.compile(r"(\d{1,18}):(\d{1,18}):(\d{1,18}):1")


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
    return contents_of(partial(_parse, place.form, document), blob_stop)


def _parse(form: TocForm, document: bytes) -> list[Entry]:
    try:
        toc = msgspec.json.decode(document, type=_Toc)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidContent(f"{form.value}: its table of contents: {error}") from error
    if toc.version != 1:
        raise InvalidContent(f"{form.value}: a table of version {toc.version}")
    return toc.entries


class _Toc(msgspec.Struct):
    version: int
    entries: list[Entry]


def _inflate(compressed: bytes, limit: int) -> bytes:
    made = bytearray()
    for piece in open_decompressor(compressed).feed(compressed):
        made += piece
        if len(made) > limit:
            raise InvalidContent(f"layer: a table of contents of over {limit} bytes")
    return bytes(made)
