"""A staged tree as values: what a draft's directory holds at the moment of its commit.

Owns the nodes, and how names become bytes and are ordered. Knows neither how a draft is kept on
disk nor how it is packed: a file's bytes are behind a key that only its owner can open.
INVARIANT: names are single path components, as `str` with surrogate escapes (PEP 383); paths are
relative to the draft's top directory and have no `.` and no `..`.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

ContentKey = Hashable


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A regular file: size in bytes, permission bits, and the key of its content.

    A hard link is just another `StagedFile` with the same key, as the reference client packs it.
    """

    content: ContentKey
    size: int
    mode: int = 0o644
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class StagedSymlink:
    """A symbolic link; `target` as readlink(2) returns it."""

    target: str
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class StagedSpecial:
    """A device, FIFO or socket, which no artifact can hold; `kind` is the word for it."""

    kind: str


@dataclass(frozen=True, slots=True)
class StagedDirectory:
    """A directory; the order of `entries` means nothing."""

    entries: Mapping[str, "StagedNode"] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    mode: int = 0o755
    mtime_ns: int = 0


StagedNode = StagedFile | StagedSymlink | StagedSpecial | StagedDirectory


def name_bytes(name: str) -> bytes:
    """Return the bytes of a name or path; they give the order, too."""
    return name.encode("utf-8", "surrogateescape")


def sorted_entries(directory: StagedDirectory) -> list[tuple[str, StagedNode]]:
    """Return the entries in byte order of name."""
    return sorted(directory.entries.items(), key=lambda entry: name_bytes(entry[0]))


def walk(path: str, node: StagedNode) -> Iterator[tuple[str, StagedNode]]:
    """Yield `node` at `path` and all below, each directory before its entries, in byte order.

    That is the order of Go's `filepath.Walk`, which sorts in each directory, not by whole path.
    """
    pending = [(path, node)]
    while pending:
        here, current = pending.pop()
        yield here, current
        if isinstance(current, StagedDirectory):
            prefix = f"{here}/" if here else ""
            pending += [(prefix + name, entry) for name, entry in sorted_entries(current)[::-1]]


def find(root: StagedDirectory, path: str) -> StagedNode | None:
    """Return the node at `path`, following no link; None if there is none."""
    node: StagedNode | None = root
    for name in path.split("/"):
        if not isinstance(node, StagedDirectory):
            return None
        node = node.entries.get(name)
    return node
