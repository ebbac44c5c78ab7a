"""Unpacks a layer of many empty files in a process of its own, and tells what that took.

Arguments: a directory, and how many files. Prints the mebibytes of anonymous memory that unpacking
took at most, and that opening the layer and looking a thousand names up took.
"""

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from orasfs.store.packed import unpack
from tests.support.passes import finish, unpacker_of

_PIECE_BYTES = 1 << 20
_CHECKSUM = slice(148, 156)


def main() -> None:
    """Do as the arguments say."""
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    base, peak = _anonymous(), 0

    def note() -> None:
        nonlocal peak
        peak = max(peak, _anonymous())

    blob = directory / "blob"
    with blob.open("wb") as file:
        for piece in _tar(count):
            file.write(piece)
    unpacker = unpacker_of(blob, directory, note)
    unpacker.feed(blob.stat().st_size)
    sealed = finish(unpacker, directory / "layer")
    note()
    sealed.close(keep=False)
    del unpacker, sealed
    sys.stdout.write(f"{(peak - base) / 1024}\n")

    before = _anonymous()
    unpacked = unpack.open_unpacked(directory / "layer")
    if unpacked is None or len(unpacked.index) != count + count // 1000 + 1:
        raise AssertionError("the layer is not what it should be")
    for number in range(0, count, max(1, count // 1000)):
        if unpacked.index.locate(_path(number)) is None:
            raise AssertionError(f"not found: {_path(number)}")
    sys.stdout.write(f"{(_anonymous() - before) / 1024}\n")


def _tar(count: int) -> Iterator[bytes]:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    pieces = bytearray()
    for number in range(count):
        header[:100] = _path(number).encode().ljust(100, b"\0")
        header[_CHECKSUM] = b" " * 8
        header[_CHECKSUM] = b"%06o\0 " % sum(header)
        pieces += header
        if len(pieces) >= _PIECE_BYTES:
            yield bytes(pieces)
            pieces.clear()
    yield bytes(pieces) + bytes(2 * tarfile.BLOCKSIZE)


def _path(number: int) -> str:
    """Name a file: a thousand a directory, in no order."""
    return f"directory-{number // 1000:04}/file-{number * 7919 % 1000003:08}.txt"


def _anonymous() -> int:
    """Return the anonymous memory in kibibytes; mapped files are the page cache's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon in /proc/self/status")


main()
