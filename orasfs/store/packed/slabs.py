"""Whether a slab has the bytes that the files of its layer have.

Owns the comparison of a slab with the tar from which it was made. An index has digests of the
files that are blobs of their own, and none of those in the slab: what the slab must be says only
the layer's blob, which the caller has verified. Without it there are the sizes. Blocking; holds
one step of the tar at a time.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from orasfs.errors import InvalidContent
from orasfs.store.files import disk
from orasfs.tree.layerindex import ROOT, LayerIndex, MemberKind


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of which a slab has what is in the tar at [start, stop)."""

    ordinal: int
    start: int
    stop: int


def stored(index: LayerIndex) -> Iterator[Stored]:
    """Yield the files of a slab, in the order of the tar, which is that of the slab.

    Raises:
        InvalidContent: they do not lie one behind the other, or are not all of the slab.
    """
    in_slab = in_tar = 0
    for ordinal in range(len(index)):
        if index.kind_of(ordinal) is not MemberKind.FILE:
            continue
        place = index.place(ordinal)
        extents = index.extents(ordinal)
        if place.blob is not None or not extents:
            continue
        start, stop = place.tar_offset, extents[-1].tar_offset + extents[-1].length
        if place.offset != in_slab or start < in_tar:
            raise InvalidContent(f"layer index: file {ordinal} is not behind the one before")
        in_slab, in_tar = in_slab + stop - start, stop
        yield Stored(ordinal, start, stop)
    if in_slab != index.slab_size:
        raise InvalidContent(f"layer index: files of {in_slab} bytes in {index.slab_size}")


def differing(index: LayerIndex, slab_fd: int, tar: Iterable[bytes | memoryview]) -> Iterator[int]:
    """Yield the ordinals of the files of which the slab has other bytes than the tar.

    Args:
        index: of the layer.
        slab_fd: its slab.
        tar: the uncompressed tar, in parts.

    Raises:
        InvalidContent: the index is not of this tar.
        StorageFailure: the slab cannot be read.
    """
    files = stored(index)
    file = next(files, None)
    in_slab = begin = 0
    last = ROOT
    for piece in tar:
        end = begin + len(piece)
        wanted = bytearray()
        parts: list[tuple[int, int]] = []  # ordinals, and where in `wanted` they end
        while file is not None and file.start < end:
            wanted += piece[max(file.start, begin) - begin : min(file.stop, end) - begin]
            parts.append((file.ordinal, len(wanted)))
            if file.stop > end:
                break
            file = next(files, None)
        found = disk.read_fully(slab_fd, in_slab, len(wanted)) if wanted else b""
        if found != wanted:
            for ordinal in _unequal(parts, found, wanted):
                if ordinal != last:
                    yield ordinal
                last = ordinal
        in_slab += len(wanted)
        begin = end
    if file is not None:
        raise InvalidContent(f"layer index: file {file.ordinal} is behind the end of its tar")


def own(index: LayerIndex, number: int) -> Sequence[int]:
    """Return the ordinals of the files that are a blob of their own, of that number.

    Raises:
        InvalidContent: the index is damaged.
    """
    files = (each for each in range(len(index)) if index.kind_of(each) is MemberKind.FILE)
    return [ordinal for ordinal in files if index.place(ordinal).blob == number]


def paths_of(index: LayerIndex, ordinals: Collection[int]) -> Iterator[str]:
    """Yield the paths of files, of hard links one; what is replaced later in the tar has none."""
    left = set(ordinals)
    walk = [(ROOT, b"")]
    while walk and left:
        directory, path = walk.pop()
        for name, ordinal, kind, *_ in index.rows(directory):
            if kind == MemberKind.DIRECTORY:
                walk.append((ordinal, path + name + b"/"))
            elif ordinal in left:
                left.remove(ordinal)
                yield (path + name).decode("utf-8", "surrogateescape")


def _unequal(parts: list[tuple[int, int]], found: bytes, wanted: bytearray) -> Iterator[int]:
    """Yield the ordinals whose parts differ."""
    start = 0
    for ordinal, stop in parts:
        if found[start:stop] != wanted[start:stop]:
            yield ordinal
        start = stop
