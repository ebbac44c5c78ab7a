"""Reads a tar as it passes, and makes its index. Passes files' bytes on, and keeps none.

Owns the order of blocks: headers, extended headers, data, the end. Pure, and pushed: bytes come in
chunks of any size. Header blocks are `orasfs.tree.tarheader`, extended headers `orasfs.tree.pax`,
what a member is after both `orasfs.tree.tarmember`, what names and links mean
`orasfs.tree.indexbuilder`.

Limits: an extended header or long name takes at most 1 MiB; the other limits are those of the
index's builder. Members of unknown type are skipped with their data; devices and pipes are left
out, as the reference client leaves them out. The archive ends at two zero blocks, whatever
follows, or where the bytes end between two members. Like most readers (and unlike POSIX) links and
directories have no data, whatever their size says.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol

from orasfs.errors import ContentRefused, InvalidContent
from orasfs.tree.indexbuilder import IndexBuilder, Placed
from orasfs.tree.names import show
from orasfs.tree.pax import (
    MAX_SEGMENTS,
    MapReader,
    Segment,
    extents_of,
    parse_map,
    parse_number,
)
from orasfs.tree.tarheader import (
    BLOCK,
    Header,
    parse_header,
    sparse_in_extension,
    sparse_in_header,
)
from orasfs.tree.tarmember import Extensions, Member, time_ns

MAX_EXTENDED_BYTES = 1 << 20

_ZEROS = bytes(BLOCK)
_OLD_FILE, _DIRECTORY, _SYMLINK, _HARD_LINK, _SPARSE = b"\0", b"5", b"2", b"1", b"S"
_FILES = frozenset((b"0", _OLD_FILE, b"7"))
_DIRECTORIES = frozenset((_DIRECTORY, b"D"))  # D: of GNU's incremental archives, with a listing
_DEVICES = frozenset((b"3", b"4", b"6"))  # and pipes: nothing follows their headers
_LONG_NAME, _LONG_TARGET = b"L", b"K"
_EXTENDED, _GLOBAL = frozenset((b"x", b"X")), b"g"


class _Phase(Enum):
    MEMBERS = 1
    ONE_ZERO_BLOCK = 2
    ENDED = 3


class MemberSink(Protocol):
    """Who takes the bytes of files, one file after the other."""

    def begin(self, placed: Placed) -> None:
        """Be told what the bytes that follow are; there is at least one."""
        ...

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the file, which are valid during the call only."""
        ...

    def end(self) -> None:
        """Be told that these were all."""
        ...


class TarScanner:
    """Takes the bytes of a tar, in order; gives the serialized LayerIndex.

    After any method has raised, the scanner is of no use.

    Args:
        sink: takes the bytes of files; None if they are of no interest.

    Attributes:
        builder: what is known of the members so far.
        offset: how many bytes have passed.
    """

    def __init__(self, sink: MemberSink | None = None) -> None:
        self.builder = IndexBuilder()
        self.offset = 0
        self._sink = sink
        self._data = 0  # bytes of a file that go to the sink
        self._skip = 0  # bytes of data, and of padding, that are not looked at
        self._wanted = BLOCK
        self._gathered = bytearray()
        self._take: Callable[[bytes], None] = self._take_header
        self._phase = _Phase.MEMBERS
        self._extensions = Extensions()

    def __repr__(self) -> str:
        return f"TarScanner(offset={self.offset}, phase={self._phase.name})"

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            InvalidContent: they are no tar; the message names the offset.
            ContentRefused: a limit was passed.
        """
        view = memoryview(chunk)
        position, end = 0, len(view)
        while position < end:
            left = end - position
            if self._data:
                step = min(self._data, left)
                self.offset += step
                self._pass_on(view[position : position + step])
            elif self._skip:
                step = min(self._skip, left)
                self._skip -= step
                self.offset += step
            elif self._phase is _Phase.ENDED:
                self.offset += left
                return
            elif left >= self._wanted and not self._gathered:
                step, self._wanted = self._wanted, BLOCK
                self.offset += step
                self._take(bytes(view[position : position + step]))
            else:
                step = min(self._wanted - len(self._gathered), left)
                self.offset += step
                self._gather_some(view[position : position + step])
            position += step

    def _gather_some(self, part: memoryview) -> None:
        """Keep a part of a block, and take the block when it is whole."""
        self._gathered += part
        if len(self._gathered) == self._wanted:
            gathered, self._wanted = bytes(self._gathered), BLOCK
            self._gathered.clear()
            self._take(gathered)

    def _pass_on(self, content: memoryview) -> None:
        self._data -= len(content)
        if self._sink is not None:
            self._sink.write(content)
            if not self._data:
                self._sink.end()

    def finish(self) -> bytes:
        """Say that there is no more, and return the index; raises as `sections`."""
        return b"".join(self.sections())

    def sections(self) -> Iterator[bytes | bytearray]:
        """Say that there is no more, and return the parts of the index, of any size.

        Raises:
            InvalidContent: the tar ends in the middle of something.
        """
        is_between = self._take == self._take_header and not self._extensions.is_pending
        if self._data or self._skip or self._gathered or not is_between:
            raise InvalidContent(f"tar: truncated at offset {self.offset}")
        return self.builder.sections(self.offset)

    def _take_header(self, block: bytes) -> None:
        if block == _ZEROS:
            is_second = self._phase is _Phase.ONE_ZERO_BLOCK
            self._phase = _Phase.ENDED if is_second else _Phase.ONE_ZERO_BLOCK
            return
        offset = self.offset - BLOCK
        if self._phase is _Phase.ONE_ZERO_BLOCK:
            raise InvalidContent(f"tar: data behind a zero block, at offset {offset}")
        header = parse_header(block, offset)
        if header.kind in _FILES and self._extensions.is_empty and header.name[-1:] != b"/":
            self._take_whole(header)
        elif header.kind in _EXTENDED:
            self._gather(header.size, self._extensions.take_local)
        elif header.kind == _GLOBAL:
            self._gather(header.size, self._extensions.take_global)
        elif header.kind == _LONG_NAME:
            self._gather(header.size, self._extensions.take_long_name)
        elif header.kind == _LONG_TARGET:
            self._gather(header.size, self._extensions.take_long_target)
        else:
            self._take_member(header, offset)

    def _take_whole(self, header: Header) -> None:
        """Take a file of which its header says all, as most are."""
        size = header.size
        self._skip = _padded(size)
        placed = self.builder.add_whole_file(
            header.name,
            mode=header.mode,
            mtime_ns=time_ns(header),
            size=size,
            tar_offset=self.offset,
        )
        self._begin(placed)

    def _begin(self, placed: Placed | None) -> None:
        """Have the data of a file passed on that were to be skipped, if it is not left out."""
        if placed is not None and placed.length and self._sink is not None:
            self._data = placed.length
            self._skip -= placed.length
            self._sink.begin(placed)

    def _gather(self, size: int, use: Callable[[bytes, int], None]) -> None:
        """Have the data of an extended header gathered, and given to `use` without padding."""
        if size > MAX_EXTENDED_BYTES:
            raise ContentRefused(
                f"tar: extended header of {size} bytes at offset {self.offset}: over 1 MiB"
            )

        def take(data: bytes) -> None:
            self._take = self._take_header
            use(data[:size], self.offset - _padded(size))

        if size:
            self._wanted = _padded(size)
            self._take = take
        else:
            use(b"", self.offset)

    def _take_member(self, header: Header, offset: int) -> None:
        member = self._extensions.merged(header, offset)
        kind, name, mode, mtime_ns = member.kind, member.name, member.mode, member.mtime_ns
        if kind == _SPARSE:
            segments, size, is_extended = sparse_in_header(header, offset)
            self._take_sparse_extensions(member, segments, size, is_extended=is_extended)
        elif kind in _DIRECTORIES or (kind == _OLD_FILE and name.endswith(b"/")):
            self._skip = 0 if kind == _DIRECTORY else _padded(member.stored)
            self.builder.add_directory(name, mode=mode, mtime_ns=mtime_ns)
        elif kind in _FILES:
            self._take_file(member)
        elif kind == _SYMLINK:
            self.builder.add_symlink(name, mode=mode, mtime_ns=mtime_ns, target=member.target)
        elif kind == _HARD_LINK:
            self.builder.add_hard_link(name, member.target)
        else:
            self._skip = 0 if kind in _DEVICES else _padded(member.stored)
            self.builder.skip(name)

    def _take_file(self, member: Member) -> None:
        values = member.values
        real = values.get(b"GNU.sparse.realsize") or values.get(b"GNU.sparse.size") or b"0"
        if (values.get(b"GNU.sparse.major"), values.get(b"GNU.sparse.minor")) == (b"1", b"0"):
            self._take_sparse_map(member, parse_number(real, self.offset))
        elif b"GNU.sparse.map" in values:
            segments = parse_map(values[b"GNU.sparse.map"], self.offset)
            self._place(member, segments, parse_number(real, self.offset))
        elif member.pairs:
            self._place(member, member.pairs, parse_number(real, self.offset))
        else:
            self._place(member, [(0, member.stored)], member.stored)

    def _take_sparse_extensions(
        self, member: Member, segments: list[Segment], size: int, *, is_extended: bool
    ) -> None:
        """Read the rest of an old GNU sparse map, a block at a time."""

        def take(block: bytes) -> None:
            self._take = self._take_header
            more, is_extended = sparse_in_extension(block, self.offset - BLOCK)
            segments.extend(more)
            self._take_sparse_extensions(member, segments, size, is_extended=is_extended)

        if len(segments) > MAX_SEGMENTS:
            raise ContentRefused(f"tar: over {MAX_SEGMENTS} segments in {show(member.name)}")
        if is_extended:
            self._take = take
        else:
            self._place(member, segments, size)

    def _take_sparse_map(self, member: Member, size: int) -> None:
        """Read a map of sparse format 1.0, with which the member's data begin."""
        reader = MapReader(self.offset)

        def take(block: bytes) -> None:
            member.stored -= BLOCK
            if reader.feed(block):
                self._take = self._take_header
                self._place(member, reader.segments(), size)
            elif member.stored <= 0:
                raise InvalidContent(f"tar: truncated sparse map at offset {self.offset}")

        if not member.stored:
            raise InvalidContent(f"tar: missing sparse map at offset {self.offset}")
        self._take = take

    def _place(self, member: Member, segments: list[Segment], size: int) -> None:
        """Add a file, of which the data begin here, and have them skipped."""
        stored = max(member.stored, 0)
        self._skip = _padded(stored)
        placed = self.builder.add_file(
            member.name,
            mode=member.mode,
            mtime_ns=member.mtime_ns,
            size=size,
            extents=extents_of(segments, self.offset, stored, size),
        )
        self._begin(placed)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
