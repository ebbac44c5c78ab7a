"""Makes what is read: one large file, and a directory of many small ones.

Everything follows from a seed, so that two runs on one machine read the same bytes.
"""

import gzip
import hashlib
import io
import os
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MTIME = 1_700_000_000
_FILES_PER_DIRECTORY = 25
_DIRECTORIES_PER_DIRECTORY = 8
_TEXT = 4 << 20
_VOCABULARY = 5_000
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A file on local disk that is to be published: `digest` is `sha256:HEX` of its bytes."""

    path: Path
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A directory on local disk and the same as tar+gzip.

    Attributes:
        directory: the tree itself; its name is the first component of all names in the tar.
        blob: the compressed tar.
        tar_digest: `sha256:HEX` of the uncompressed tar.
        files: how many regular files there are.
    """

    directory: Path
    blob: Blob
    tar_digest: str
    files: int


class HashingWriter(io.RawIOBase):
    """Passes on what it is given, hashes and counts it. Closing it closes nothing else."""

    def __init__(self, out: BinaryIO | gzip.GzipFile) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """`sha256:HEX` of what was written."""
        return f"sha256:{self._digest.hexdigest()}"

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def write(self, piece: bytes) -> int:  # type: ignore[override]  # all who write have bytes
        """Write bytes through, hashed."""
        self._digest.update(piece)
        self.size += len(piece)
        return self._out.write(piece)

    def tell(self) -> int:
        """Return how much was written."""
        return self.size


class UnpaddedTar(tarfile.TarFile):
    """Ends with two blocks of zeros, as what Go writes, and not with a record of 10 KiB.

    The reference client reads no further, and so would find another content digest.
    """

    closed: bool

    def close(self) -> None:
        """End the archive."""
        if not self.closed and self.fileobj is not None:
            self.closed = True
            self.fileobj.write(bytes(2 * tarfile.BLOCKSIZE))


def write_model(path: Path, size: int, seed: int = 1) -> Blob:
    """Write `size` bytes that do not compress, as the weights of a model."""
    generator = random.Random(seed)  # noqa: S311 - repeatable, not secret
    with path.open("wb") as file:
        out = HashingWriter(file)
        for start in range(0, size, _PIECE):
            out.write(generator.randbytes(min(_PIECE, size - start)))
    return Blob(path, out.digest, out.size)


def write_tree(parent: Path, name: str, files: int, seed: int = 2, scale: float = 1.0) -> Packed:
    """Write a tree like /usr: nested directories, mostly small files, some links; and pack it.

    Files have 5 KiB on average, times `scale`, and a mebibyte at most.
    """
    generator = random.Random(seed)  # noqa: S311 - repeatable, not secret
    words = _text(generator)
    root = parent / name
    root.mkdir(parents=True)
    directories = _make_directories(root, -(-files // _FILES_PER_DIRECTORY), generator)
    for number in range(files):
        directory = directories[number % len(directories)]
        size = min(int(scale * generator.lognormvariate(7.5, 1.5)), 1 << 20)
        start = generator.randrange(len(words) - size)
        path = directory / f"{generator.getrandbits(32):08x}-{number}.dat"
        path.write_bytes(words[start : start + size])
        path.chmod(0o755 if number % 10 == 0 else 0o644)
        os.utime(path, (_MTIME + number, _MTIME + number))
        if number % 20 == 0:
            (directory / f"link-{number}").symlink_to(path.name)
    for path in [root, *root.rglob("*")]:
        if path.is_dir() or path.is_symlink():
            os.utime(path, (_MTIME, _MTIME), follow_symlinks=False)
    blob, tar_digest = _pack(root, parent / f"{name}.tar.gz")
    return Packed(root, blob, tar_digest, files)


def _text(generator: random.Random) -> bytes:
    """Return bytes that compress about as well as programs and documents do."""
    words = [generator.randbytes(generator.randint(2, 9)) for _ in range(_VOCABULARY)]
    # The fourth power makes few words frequent, as in texts: gzip then saves about two thirds.
    pieces = (words[int(_VOCABULARY * generator.random() ** 4)] for _ in range(_TEXT // 6))
    return b" ".join(pieces)


def _make_directories(root: Path, count: int, generator: random.Random) -> list[Path]:
    directories = [root]
    for number in range(count - 1):
        parent = directories[number // _DIRECTORIES_PER_DIRECTORY]
        directory = parent / f"d{generator.getrandbits(24):06x}-{number}"
        directory.mkdir()
        directories.append(directory)
    return directories


def _pack(root: Path, path: Path) -> tuple[Blob, str]:
    """Pack as the reference client does: sorted names below the title, no owners, gzip."""
    with path.open("wb") as file:
        packed = HashingWriter(file)
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as zipped:
            plain = HashingWriter(zipped)
            with UnpaddedTar(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
                tar.add(root, arcname=root.name, filter=_ownerless)
    return Blob(path, packed.digest, packed.size), plain.digest


def _ownerless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
