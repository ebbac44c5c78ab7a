"""Tar headers byte for byte as the reference client writes them, so that content digests agree.

Owns the format. Knows no compression and opens nothing: where a file's bytes belong it emits a
`FilePiece`, and whoever streams fills them in. Pure.

Sources: Go's archive/tar (Writer with the format unspecified: USTAR where every field fits, else
PAX; it never comes to GNU) as used by the reference client's content/file/utils.go tarDirectory:
names without a trailing slash, owner 0:0 without names, mtimes rounded to the nearest second
(halves up), no access or change times, hard links as files of their own.
INVARIANT: the pieces' sizes add up to a multiple of 512 bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from orasfs.errors import InvalidInput
from orasfs.staging.tree import (
    ContentKey,
    StagedDirectory,
    StagedFile,
    StagedNode,
    StagedSymlink,
    name_bytes,
    walk,
)

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
SYMLINK_MODE = 0o777  # what lstat(2) says of every symbolic link on Linux
_NAME_BYTES = 100
_PREFIX_BYTES = 155
_OCTAL_LIMIT = 8**11  # of the size and mtime fields, one byte of which is the NUL
_MAX_RECORDS_BYTES = 1 << 20  # archive/tar's maxSpecialFileSize
_NANOSECONDS = 1_000_000_000


_OWNER = _DEVICE = b"0000000\x00" * 2
_NO_CHECKSUM = b" " * 8  # as which it is counted
_MAGIC_AND_NAMES = b"ustar\x0000" + bytes(64)
_PADDING = bytes(12)


class EntryType(Enum):
    """The type flags that a packed directory needs."""

    FILE = b"0"
    SYMLINK = b"2"
    DIRECTORY = b"5"
    EXTENDED = b"x"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member: path and link target as bytes, size in bytes, permission bits, whole seconds."""

    path: bytes
    type: EntryType
    mode: int
    mtime_seconds: int
    size: int = 0
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class FilePiece:
    """A place in the tar for the bytes of a staged file; `path` is for messages."""

    content: ContentKey
    size: int
    path: str


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a member.

    Attributes:
        path: of the member.
        content: its blocks, with those of an extended header.
        record_bytes: how long the member is in the tar, header and padding included.
    """

    path: bytes
    content: bytes = field(repr=False)
    record_bytes: int


Piece = bytes | Header | FilePiece


def tar_pieces(
    title: str, directory: StagedDirectory, *, latest_mtime_ns: int | None = None
) -> Iterator[Piece]:
    """Yield the tar of `directory`, whose root entry is `title`, with the trailer.

    Args:
        title: the layer's title; the path of every member begins with it.
        directory: the staged directory; it must hold files, directories and symlinks only.
        latest_mtime_ns: later mtimes are clamped to this one (SOURCE_DATE_EPOCH).

    Raises:
        InvalidInput: a special file is in it, or a path that no tar can hold.
    """
    for path, node in walk(title, directory):
        entry = entry_of(path, node, latest_mtime_ns)
        content, padding = header(entry), -entry.size % BLOCK
        yield Header(entry.path, content, len(content) + entry.size + padding)
        if isinstance(node, StagedFile) and node.size:
            yield FilePiece(node.content, node.size, path)
            yield bytes(padding)
    yield TRAILER


def piece_size(piece: Piece) -> int:
    """Return how many bytes of the tar a piece is."""
    match piece:
        case FilePiece():
            return piece.size
        case Header():
            return len(piece.content)
        case _:
            return len(piece)


def entry_of(path: str, node: StagedNode, latest_mtime_ns: int | None = None) -> Entry:
    """Return the member that stands for `node`.

    Raises:
        InvalidInput: it is a special file.
    """
    name = name_bytes(path)
    match node:
        case StagedFile():
            seconds = round_mtime(node.mtime_ns, latest_mtime_ns)
            return Entry(name, EntryType.FILE, node.mode & 0o7777, seconds, size=node.size)
        case StagedSymlink():
            seconds = round_mtime(node.mtime_ns, latest_mtime_ns)
            target = name_bytes(node.target)
            return Entry(name, EntryType.SYMLINK, SYMLINK_MODE, seconds, target=target)
        case StagedDirectory():
            seconds = round_mtime(node.mtime_ns, latest_mtime_ns)
            return Entry(name, EntryType.DIRECTORY, node.mode & 0o7777, seconds)
        case _:
            raise InvalidInput(f"{path!r} is a {node.kind}, which cannot be packed: remove it")


def round_mtime(mtime_ns: int, latest_mtime_ns: int | None = None) -> int:
    """Return whole seconds: the nearest one, the later one of two as near (Go's Time.Round)."""
    if latest_mtime_ns is not None:
        mtime_ns = min(mtime_ns, latest_mtime_ns)
    return (mtime_ns + _NANOSECONDS // 2) // _NANOSECONDS


def header(entry: Entry) -> bytes:
    """Return the header block of `entry`, after its extended header where it needs one.

    Raises:
        InvalidInput: its path or target is over a mebibyte.
    """
    records = _records(entry)
    prefix, name = _split(entry.path) or (b"", entry.path)
    if not records.keys() - {b"path"} and (prefix or b"path" not in records):
        return _block(entry, name, prefix)
    return _extended_header(entry.path, records) + _block(entry, entry.path, b"")


def _records(entry: Entry) -> dict[bytes, bytes]:
    """Return the fields that a plain USTAR header cannot hold, in the order they are written."""
    records = {}
    if not _is_plain(entry.target):
        records[b"linkpath"] = entry.target
    if not 0 <= entry.mtime_seconds < _OCTAL_LIMIT:
        records[b"mtime"] = b"%d" % entry.mtime_seconds
    if not _is_plain(entry.path):
        records[b"path"] = entry.path
    if entry.size >= _OCTAL_LIMIT:
        records[b"size"] = b"%d" % entry.size
    return records


def _is_plain(text: bytes) -> bool:
    return text.isascii() and len(text) <= _NAME_BYTES


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """Split a long ASCII path at the last slash that leaves a prefix which fits, if any fits."""
    if len(path) <= _NAME_BYTES or not path.isascii():
        return None
    slash = path.rfind(b"/", 0, _PREFIX_BYTES + 1)
    if slash <= 0 or len(path) - slash - 1 > _NAME_BYTES:
        return None
    return path[:slash], path[slash + 1 :]


def _extended_header(path: bytes, records: dict[bytes, bytes]) -> bytes:
    """Return the PAX header (POSIX.1-2001 pax, "pax Extended Header") of a member."""
    content = b"".join(_record(key, value) for key, value in records.items())
    if len(content) > _MAX_RECORDS_BYTES:
        raise InvalidInput(f"a path of {len(path)} bytes is too long for a tar: shorten it")
    directory, slash, base = path.rpartition(b"/")
    name = _ascii(directory + slash + b"PaxHeaders.0/" + base)[:_NAME_BYTES].rstrip(b"/")
    fields = [name.ljust(100, b"\0"), *(_octal(number, 8) for number in (0, 0, 0))]
    fields += [_octal(len(content), 12), _octal(0, 12), b" " * 8, EntryType.EXTENDED.value]
    # Unlike a member's, its device numbers are left empty.
    fields += [bytes(100), b"ustar\x0000", bytes(64 + 16 + _PREFIX_BYTES + 12)]
    return _with_checksum(b"".join(fields)) + content + bytes(-len(content) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """Return the record, whose length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def _block(entry: Entry, name: bytes, prefix: bytes) -> bytes:
    """Return the header block; what does not fit is cut or zero, its record having the value."""
    fields = (
        *(_text(name, 100), _octal(entry.mode, 8), _OWNER),
        *(_octal(entry.size, 12), _octal(entry.mtime_seconds, 12), _NO_CHECKSUM),
        *(entry.type.value, _text(entry.target, 100), _MAGIC_AND_NAMES, _DEVICE),
        *(_text(prefix, _PREFIX_BYTES), _PADDING),
    )
    return _with_checksum(b"".join(fields))


def _with_checksum(block: bytes) -> bytes:
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _ascii(text: bytes) -> bytes:
    return text if text.isascii() else bytes(byte for byte in text if byte < 0x80)


def _text(text: bytes, size: int) -> bytes:
    """Return `text` as a field: non-ASCII bytes dropped, cut, and never ending in a slash if cut.

    A reader that takes a slash at the field's end for a directory's would misread the member.
    """
    text = _ascii(text)
    if len(text) <= size:
        return text.ljust(size, b"\0")
    field = text[:size]
    if field.endswith(b"/"):
        end = len(text[: size - 1].rstrip(b"/"))
        field = field[:end] + b"\0" + field[end + 1 :]
    return field


def _octal(number: int, size: int) -> bytes:
    """Return the number in octal, zero-padded, with a NUL; zero if it does not fit."""
    if not 0 <= number < 8 ** (size - 1):
        number = 0
    return b"%0*o\0" % (size - 1, number)
