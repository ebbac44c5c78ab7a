"""Scans tars in memory, and reads what their indexes say back out of them."""

from dataclasses import dataclass

from orasfs.tree.layerindex import ROOT, LayerIndex, MemberKind
from orasfs.tree.tar import TarScanner


@dataclass(frozen=True, slots=True)
class Shown:
    """A member as a reader sees it."""

    kind: MemberKind
    mode: int
    mtime_ns: int
    target: str
    content: bytes
    link_count: int


def scan(archive: bytes, chunk_size: int = 1 << 20) -> LayerIndex:
    """Return the index of a tar that is fed in chunks."""
    scanner = TarScanner()
    for start in range(0, len(archive), chunk_size):
        scanner.feed(memoryview(archive)[start : start + chunk_size])
    return LayerIndex(scanner.finish())


def shown(archive: bytes, chunk_size: int = 1 << 20) -> dict[str, Shown]:
    """Return all members of a tar by path."""
    index = scan(archive, chunk_size)
    found: dict[str, Shown] = {}
    stack = [(ROOT, "")]
    while stack:
        directory, prefix = stack.pop()
        for entry in index.children(directory):
            ordinal = index.resolve(entry)
            member = index.member(ordinal)
            path = prefix + index.name_of(entry)
            found[path] = Shown(
                member.kind,
                member.mode,
                member.mtime_ns,
                member.target,
                content_of(index, ordinal, archive),
                member.link_count,
            )
            if member.kind == MemberKind.DIRECTORY:
                stack.append((ordinal, path + "/"))
    return found


def content_of(index: LayerIndex, ordinal: int, tar: bytes) -> bytes:
    """Return a file's bytes by its extents; zeros where there are none."""
    member = index.member(ordinal)
    content = bytearray(member.size if member.kind == MemberKind.FILE else 0)
    for extent in index.extents(ordinal):
        part = tar[extent.tar_offset : extent.tar_offset + extent.length]
        content[extent.file_offset : extent.file_offset + extent.length] = part
    return bytes(content)
