"""Makes tars in memory, member by member."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from orasfs.staging.tarwriter import BLOCK, Header, Piece

_PIECE_BYTES = 1 << 20

Add = Callable[[tarfile.TarFile], None]


def file(name: str, content: bytes) -> Add:
    """Add a file."""

    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))

    return add


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Add:
    """Add a symlink, or a link of another kind."""

    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)

    return add


def directory(name: str, mode: int = 0o750) -> Add:
    """Add a directory."""

    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.mtime = tarfile.DIRTYPE, mode, 7
        archive.addfile(member)

    return add


def files(contents: Mapping[str, bytes]) -> list[Add]:
    """Add files by name."""
    return [file(name, content) for name, content in contents.items()]


def tar_of(*members: Add) -> bytes:
    """Return a tar of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for add in members:
            add(archive)
    return buffer.getvalue()


def pieces_of(tar: BinaryIO) -> Iterator[Piece]:
    """Yield a tar's bytes as `orasfs.staging.tarwriter` does, contents as bytes."""
    end = 0
    with tarfile.TarFile(fileobj=tar) as archive:
        for member in archive:
            at = tar.tell()
            size = member.size if member.isreg() else 0
            stop = member.offset_data + size + -size % BLOCK
            tar.seek(member.offset)
            header = tar.read(member.offset_data - member.offset)
            yield Header(member.name.encode(), header, stop - member.offset)
            yield from _read(tar, stop - member.offset_data)
            tar.seek(at)
            end = stop
        tar.seek(end)
        yield from iter(lambda: tar.read(_PIECE_BYTES), b"")


def _read(tar: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = tar.read(min(size, _PIECE_BYTES))
        size -= len(piece)
        yield piece
