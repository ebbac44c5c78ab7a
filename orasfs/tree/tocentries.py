"""What the entries of a table of contents mean: the index of a layer, and its chunks.

Owns the rules for entries of eStargz and zstd:chunked, which have the same fields. What an entry
cannot express, or contradicts another one in, is refused, and so is what extraction would stumble
over: that is for the tar to tell. Where the table is knows `orasfs.tree.toc`. Pure.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

from orasfs.errors import InvalidContent
from orasfs.oci.digest import Digest
from orasfs.tree.chunktable import DIGEST_BYTES, ChunkTable
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import Extent
from orasfs.tree.pax import clamp_time_ns
from orasfs.tree.plainindex import NotPlain, PlainIndex

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_TIMES = 1024  # that are remembered: many files have the same time, or one near it
_MINUTE_CHARACTERS = len("2024-02-29T12:34:")
_SECONDS_NS = {f"{number:02}Z": number * 1_000_000_000 for number in range(60)}
_NO_TIME = "0001-01-01T00:00:00Z"  # Go's zero
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what Go writes for bytes that are no UTF-8
_FILE, _CHUNK = "reg", "chunk"
_SHA256 = "sha256:"
_ZEROS = "zeros"  # a chunk that is nowhere

_Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class Entry(msgspec.Struct, rename="camel", gc=False):
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


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table says: the index of the layer, in its binary form, and its chunks."""

    index: bytes
    chunks: ChunkTable


def contents_of(parse: Callable[[], list[Entry]], blob_stop: int) -> Contents:
    """Return what the entries of a table say, in their order.

    Args:
        parse: makes the entries, which are used up; called twice if they are no plain ones.
        blob_stop: before which byte of the blob all chunks are.

    Raises:
        InvalidContent: they do not describe all of a layer, or the layer needs a closer look.
    """
    with suppress(NotPlain):  # which holds the first entries, as long as it is
        return read_entries(PlainIndex(), parse(), blob_stop)
    return read_entries(IndexBuilder(), parse(), blob_stop)


def read_entries(
    builder: IndexBuilder | PlainIndex, entries: list[Entry], blob_stop: int
) -> Contents:
    """Return what comes of entries with that builder; see `contents_of`.

    They are let go of one by one, since together they take more than what is made of them.

    Raises:
        NotPlain: of a `PlainIndex` only.
    """
    reading = _Reading(builder)
    for member in _grouped(entries):
        reading.take(member)
    return reading.finish(blob_stop)


class _Reading:
    """Makes an index and a table of chunks of the entries, in their order."""

    def __init__(self, builder: IndexBuilder | PlainIndex) -> None:
        self._builder = builder
        self._chunks = ChunkTable()

    def take(self, entries: Sequence[Entry]) -> None:
        """Take a member, and the chunks of a file behind it."""
        entry, builder = entries[0], self._builder
        name = _text(entry.name)
        mode, mtime_ns = entry.mode & 0o7777, _time_ns(entry.modtime)
        match entry.type:
            case "reg":
                self._add_file(name, entries, mode, mtime_ns)
            case "dir":
                builder.add_directory(name, mode=mode, mtime_ns=mtime_ns)
            case "symlink":
                target = _text(entry.link_name)
                builder.add_symlink(name, mode=mode, mtime_ns=mtime_ns, target=target)
            case "hardlink":
                builder.add_hard_link(name, _text(entry.link_name))
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

    def _add_file(self, name: bytes, entries: Sequence[Entry], mode: int, mtime_ns: int) -> None:
        entry, begin = entries[0], self._chunks.size
        size = entry.size
        if size and _is_one_chunk(entries):
            digest = _sha256(entry.chunk_digest or entry.digest)
            self._chunks.add(size, entry.offset, digest, skipped=entry.inner_offset)
        elif size:
            extents = tuple(self._extents(entries))
            if extents != (Extent(0, begin, size),):
                self._builder.add_file(
                    name, mode=mode, mtime_ns=mtime_ns, size=size, extents=extents
                )
                return
        placed = self._builder.add_whole_file(
            name, mode=mode, mtime_ns=mtime_ns, size=size, tar_offset=begin
        )
        if placed is not None and placed.blob is not None and entry.digest:
            self._builder.set_blob(placed.blob, Digest("sha256", _sha256(entry.digest).hex()))

    def _extents(self, entries: Sequence[Entry]) -> Iterator[Extent]:
        """Enter the chunks of a file; yield where they are, without holes."""
        whole, done = entries[0], 0
        begin: tuple[int, int] | None = None  # offset in the file, and address
        for part in entries if whole.size else ():
            length = part.chunk_size or whole.size - part.chunk_offset
            if part.chunk_offset != done or not 0 < length <= whole.size - done:
                raise InvalidContent(f"layer: the chunks of {whole.name[:80]!r} do not fit")
            if part.chunk_type == _ZEROS:
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


def _grouped(entries: list[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield each member, with the chunks that follow it; none is left in the end."""
    entries.reverse()
    while entries:
        member = [entries.pop()]
        while entries and entries[-1].type == _CHUNK:
            member.append(entries.pop())
            if member[-1].name != member[0].name or member[0].type != _FILE:
                raise _misplaced(member[-1])
        if member[0].type == _CHUNK:
            raise _misplaced(member[0])
        yield member


def _misplaced(chunk: Entry) -> InvalidContent:
    return InvalidContent(f"layer: a chunk of {chunk.name[:80]!r} behind something else")


def _is_one_chunk(entries: Sequence[Entry]) -> bool:
    """Tell whether a file that is not empty is one chunk, as nearly all are."""
    entry = entries[0]
    return (
        len(entries) == 1
        and entry.chunk_size in (0, entry.size)
        and not entry.chunk_offset
        and entry.chunk_type != _ZEROS
    )


def _sha256(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text[len(_SHA256) :])
    except ValueError:
        raw = b""
    if len(raw) != DIGEST_BYTES or _SHA256 + raw.hex() != text:
        raise InvalidContent(f"layer: a chunk without a sha256 digest: {text[:80]!r}")
    return raw


def _text(name: str) -> bytes:
    if _REPLACEMENT in name:
        raise InvalidContent("layer: its table of contents does not tell a name that is no UTF-8")
    return name.encode("utf-8", "surrogatepass")


@lru_cache(_TIMES)
def _time_ns(text: str) -> int:
    """Return a time of RFC 3339 in nanoseconds since the epoch; 0 if there is none."""
    if text in ("", _NO_TIME):
        return 0
    seconds_ns = _SECONDS_NS.get(text[_MINUTE_CHARACTERS:])
    if seconds_ns is None:
        return clamp_time_ns(_moment_ns(text))
    return clamp_time_ns(_minute_ns(text[:_MINUTE_CHARACTERS]) + seconds_ns)


@lru_cache(_TIMES)
def _minute_ns(text: str) -> int:
    return _moment_ns(text + "00Z")


def _moment_ns(text: str) -> int:
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
    return whole * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
