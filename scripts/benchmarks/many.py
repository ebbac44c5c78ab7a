"""The case that lists a packed directory of very many files, of which each is next to nothing."""

import gzip
import random
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.benchmarks import pagecache
from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.data import Blob, HashingWriter
from scripts.benchmarks.lab import Lab
from scripts.benchmarks.processes import timed
from scripts.benchmarks.publish import publish_blob
from scripts.benchmarks.session import Session

FIRST = "mount, empty cache"
COLD = "new mount, layer in the cache"
WARM = "mount, again"
TAR = "curl and tar -t"
LIMIT_MEBIBYTES = 200.0

TITLE = "many"
_FILES_PER_DIRECTORY = 25
_DIRECTORIES_PER_DIRECTORY = 8
_MTIME = 1_700_000_000
_LEVEL = 1


def write_many(path: Path, files: int, seed: int = 4) -> tuple[Blob, str]:
    """Write a tar+gzip with `files` small files; return it and the digest of the tar."""
    generator = random.Random(seed)  # noqa: S311 - repeatable, not secret
    with path.open("wb") as file:
        packed = HashingWriter(file)
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=_LEVEL, mtime=0) as zipped:
            plain = HashingWriter(zipped)
            for member, content in _members(files, generator):
                plain.write(member.tobuf(tarfile.GNU_FORMAT))
                plain.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
            plain.write(bytes(2 * tarfile.BLOCKSIZE))
    return Blob(path, packed.digest, packed.size), plain.digest


def _members(files: int, generator: random.Random) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    directories: list[str] = []
    for number in range(files):
        if number % _FILES_PER_DIRECTORY == 0:
            count = len(directories)
            parent = directories[(count - 1) // _DIRECTORIES_PER_DIRECTORY] if count else ""
            name = f"{parent}/d{generator.getrandbits(24):06x}-{count}" if parent else TITLE
            directories.append(name)
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, _MTIME
            yield member, b""
        member = tarfile.TarInfo(f"{directories[-1]}/{generator.getrandbits(32):08x}-{number}")
        content = b"x" * (number % 100)
        member.size, member.mode, member.mtime = len(content), 0o644, _MTIME + number
        yield member, content


class ListMany:
    """`find -printf` of sizes and times over a million files, and the daemon's memory."""

    name = "list-many"
    title = "find with sizes and times over a packed directory of very many files"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        # One cache, and the memory of unpacking and of listing apart.
        self._unpacking = Session(lab, self.name)
        self._listing = Session(lab, self.name)
        self._output = lab.directory / "listing"

    @property
    def work(self) -> tuple[float, str]:
        """The number of files; directories come on top."""
        return self._lab.many_files, "files"

    def prepare(self) -> None:
        """Publish the layer."""
        blob, tar_digest = write_many(self._lab.directory / TITLE, self._lab.many_files)
        registry = self._lab.registry
        self._place = publish_blob(registry, "bench/many", "v1", TITLE, blob, tar_digest)
        self._url = self._place.blob_url(blob.digest)
        self._unpacking.clear()

    def contenders(self) -> Sequence[Contender]:
        """The mount in three states; the rival lists the tar itself."""
        return (
            Contender(FIRST, self._reset_first, self._find_first, self._verify),
            Contender(COLD, self._reset_cold, self._find, self._verify),
            Contender(WARM, self._find_again, self._find, self._verify),
            Contender(TAR, self._unmount, self._list_tar, self._verify_tar),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """Information only: the case is about memory."""
        return (
            Comparison(FIRST, TAR, Better.LOWER_TIME),
            Comparison(COLD, TAR, Better.LOWER_TIME),
        )

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory when it unpacks too, and when it only lists."""
        unpacking, listing = self._unpacking.peak().value, self._listing.peak().value
        return (
            Gauge("peak memory, unpacking", unpacking, "MiB", LIMIT_MEBIBYTES),
            Gauge("peak memory, listing", listing, "MiB", LIMIT_MEBIBYTES),
        )

    def finish(self) -> None:
        """Unmount and drop what is large."""
        self._unmount()
        self._unpacking.clear()

    def _unmount(self) -> None:
        self._unpacking.unmount()
        self._listing.unmount()

    def _reset_first(self) -> None:
        self._unmount()
        self._unpacking.clear()
        self._unpacking.remount(self._place)

    def _reset_cold(self) -> None:
        self._unmount()
        pagecache.drop(self._listing.cache)
        self._listing.remount(self._place)

    def _find_again(self) -> None:
        self._find()

    def _find_first(self) -> float:
        return self._find_below(self._unpacking.path(self._place))

    def _find(self) -> float:
        return self._find_below(self._listing.path(self._place))

    def _find_below(self, artifact: Path) -> float:
        wanted = ["-type", "f", "-printf", r"%s %T@\n"]
        with self._output.open("wb") as output:
            return timed(["find", artifact / TITLE, *wanted], output=output)

    def _list_tar(self) -> float:
        script = 'curl -sSf "$1" | tar -tz'
        with self._output.open("wb") as output:
            return timed(["sh", "-c", script, "sh", self._url], output=output)

    def _verify(self) -> None:
        files, size, seconds = 0, 0, 0
        with self._output.open() as lines:
            for line in lines:
                words = line.split()
                files, size = files + 1, size + int(words[0])
                seconds += int(float(words[1])) - _MTIME
        numbers = range(self._lab.many_files)
        expected = len(numbers), sum(number % 100 for number in numbers), sum(numbers)
        if (files, size, seconds) != expected:
            raise VerificationFailed(f"{(files, size, seconds)}, not {expected} as expected")

    def _verify_tar(self) -> None:
        with self._output.open() as lines:
            files = sum(1 for line in lines if not line.endswith("/\n"))
        if files != self._lab.many_files:
            raise VerificationFailed(f"{files} files in the tar, not {self._lab.many_files}")
