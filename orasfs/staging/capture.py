"""Takes the content of a draft's directory as the values that packing works on.

Owns the walk over the real tree. Blocks; runs in a worker thread while nobody writes.
INVARIANT: no symlink is followed.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orasfs.staging import settings
from orasfs.staging.localdisk import translated
from orasfs.staging.tree import (
    ContentKey,
    StagedDirectory,
    StagedFile,
    StagedNode,
    StagedSpecial,
    StagedSymlink,
)
from orasfs.staging.workspace import LOWER

_KINDS = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True, slots=True)
class LowerContent:
    """The key of a content that is only in the base, at this path."""

    path: str


@dataclass(frozen=True, slots=True)
class Captured:
    """A draft's content at one moment; the key of a file's content is its `Path`.

    Attributes:
        tree: the top directory.
        attributes: the settings of every path that has any; the top's is "".
    """

    tree: StagedDirectory = field(repr=False)
    attributes: Mapping[str, Mapping[str, str]]


def capture(root: Path) -> Captured:
    """Walk the tree below `root`.

    Raises:
        LocalFailure: something in it cannot be read.
    """
    attributes: dict[str, Mapping[str, str]] = {}
    with translated("read the draft"):
        tree = _directory(str(root), "", attributes, {})
    return Captured(tree, attributes)


def _directory(
    path: str,
    relative: str,
    attributes: dict[str, Mapping[str, str]],
    contents: dict[int, ContentKey],
) -> StagedDirectory:
    status = os.lstat(path)
    _note_attributes(path, relative, _names(path), attributes)
    entries: dict[str, StagedNode] = {}
    with os.scandir(path) as found:
        for entry in found:
            below = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                entries[entry.name] = _directory(entry.path, below, attributes, contents)
            else:
                entries[entry.name] = _leaf(entry, below, attributes, contents)
    return StagedDirectory(entries, stat.S_IMODE(status.st_mode), status.st_mtime_ns)


def _leaf(
    entry: "os.DirEntry[str]",
    relative: str,
    attributes: dict[str, Mapping[str, str]],
    contents: dict[int, ContentKey],
) -> StagedNode:
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return StagedSymlink(os.readlink(entry.path), status.st_mtime_ns)  # noqa: PTH115 - a string with surrogates
    if not stat.S_ISREG(status.st_mode):
        return StagedSpecial(_KINDS.get(stat.S_IFMT(status.st_mode), "special file"))
    names = _names(entry.path)
    _note_attributes(entry.path, relative, names, attributes)
    # Hard links have one content.
    key = contents.get(status.st_ino)
    if key is None:
        key = contents[status.st_ino] = _content(entry.path, names)
    return StagedFile(key, status.st_size, stat.S_IMODE(status.st_mode), status.st_mtime_ns)


def _content(path: str, names: Sequence[str]) -> ContentKey:
    if LOWER not in names:
        return Path(path)
    return LowerContent(os.fsdecode(os.getxattr(path, LOWER, follow_symlinks=False)))


def _note_attributes(
    path: str, relative: str, names: Sequence[str], attributes: dict[str, Mapping[str, str]]
) -> None:
    found = {
        name: os.getxattr(path, name, follow_symlinks=False).decode("utf-8", "surrogateescape")
        for name in names
        if name.startswith(settings.PREFIX)
    }
    if found:
        attributes[relative] = found


def _names(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:  # a disk without extended attributes: nobody has set one
        return []
