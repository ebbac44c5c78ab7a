"""Makes tars in memory, member by member."""

import io
import tarfile
from collections.abc import Callable, Mapping

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
