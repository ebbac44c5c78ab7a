"""The digests of a layer's regular files, as a published index has them.

Owns their form: 32 bytes (sha256) for each member that is a file, in order of ordinals; zeros
where a file has no bytes or is sparse. They are made of the bytes as a tar passes. Pure.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator

from orasfs.errors import InvalidContent
from orasfs.tree.indexbuilder import Placed
from orasfs.tree.layerindex import HEADER, RECORD, LayerIndex, MemberKind, RecordFlag

DIGEST_BYTES = 32

_NONE = bytes(DIGEST_BYTES)
_FILE, _SPARSE, _OWN = int(MemberKind.FILE), int(RecordFlag.SPARSE), int(RecordFlag.OWN)


class FileHashes:
    """Hashes the files of a tar; implements `orasfs.tree.tar.MemberSink`."""

    def __init__(self) -> None:
        self._starts = array("Q")  # where in the slab the small files begin
        self._slab_size = 0
        self._small, self._own = bytearray(), bytearray()
        self._is_own = False
        self._hash = hashlib.sha256()

    def __repr__(self) -> str:
        return f"<FileHashes {(len(self._small) + len(self._own)) // DIGEST_BYTES}>"

    def begin(self, placed: Placed) -> None:
        """Begin a file."""
        self._is_own = placed.blob is not None
        if not self._is_own:
            self._starts.append(self._slab_size)
            self._slab_size += placed.length
        self._hash = hashlib.sha256()

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the file."""
        self._hash.update(content)

    def end(self) -> None:
        """End the file."""
        found = self._own if self._is_own else self._small
        found += self._hash.digest()

    def in_order(self, index: LayerIndex) -> bytes:
        """Return the digests of the files of an index that the same pass has made."""
        made = bytearray()
        for _, place, has_digest, is_own in _files(index):
            if not has_digest:
                made += _NONE
                continue
            number = place if is_own else bisect_left(self._starts, place)
            found = self._own if is_own else self._small
            made += found[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        return bytes(made)


class FileDigests:
    """The digests of one layer's files.

    Args:
        index: of the layer.
        digests: in their binary form.

    Raises (on construction):
        InvalidContent: they are not as many as there are files, or of a file that can have none.
    """

    def __init__(self, index: LayerIndex, digests: bytes | memoryview) -> None:
        self._digests = memoryview(digests)
        self._ordinals = array("I")  # of files
        start = 0
        for ordinal, _, has_digest, _ in _files(index):
            if not has_digest and self._digests[start : start + DIGEST_BYTES] != _NONE:
                raise InvalidContent(f"published index: a digest of file {ordinal}")
            self._ordinals.append(ordinal)
            start += DIGEST_BYTES
        if start != len(self._digests):
            raise InvalidContent("published index: not as many digests as files")

    def __repr__(self) -> str:
        return f"<FileDigests {len(self._ordinals)}>"

    def find(self, ordinal: int) -> bytes | None:
        """Return the sha256 of a file's bytes; None if it has none, or is no file."""
        number = bisect_left(self._ordinals, ordinal)
        if number == len(self._ordinals) or self._ordinals[number] != ordinal:
            return None
        found = bytes(self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])
        return None if found == _NONE else found


def _files(index: LayerIndex) -> Iterator[tuple[int, int, bool, bool]]:
    """Yield ordinal and place of each file, whether it has a digest, and a blob of its own."""
    records = index.buffer[HEADER.size : HEADER.size + len(index) * RECORD.size]
    for ordinal, (_, place, size, *_, kind, flags) in enumerate(RECORD.iter_unpack(records)):
        if kind == _FILE:
            yield ordinal, place, bool(size) and not flags & _SPARSE, bool(flags & _OWN)
