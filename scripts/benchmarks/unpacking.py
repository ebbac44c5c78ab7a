"""The cases that read a large packed directory for the first time: one file of it, and all.

What they are measured against is what the reference client does: it downloads the blob into a
temporary file and verifies it, then decompresses that, verifies the tar and extracts it, and
removes the file. Here curl, gzip, openssl and tar do the same in the same order; they run beside
each other where the client does one thing at a time. A pipe of curl and tar, which verifies
nothing and keeps no blob, is there for information.
"""

import filecmp
import shutil
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.reading import pulling
from scripts.benchmarks.session import Session

FIRST = "mount, first file"
MIDDLE = "mount, middle file"
LAST = "mount, last file"
TAR = "curl, then tar, as oras pull"
PIPE = "curl and tar"
MEMBER_TARGETS = {FIRST: 0.1, MIDDLE: 0.7, LAST: 1.1}

COPY = "mount, cp -r"
COPY_TARGET = 1.2

_PIPE = 'curl -sSf "$1" | tar -xz -C "$2"'
# URL, where to, a temporary file, its digest, that of the tar, a pipe, what hashes
_PULL = """
set -e
found=$(curl -sSf "$1" | tee "$3" | $7)
test "$4" = "sha256:${found%% *}"
mkfifo "$6"
tar -x -C "$2" -f "$6" &
found=$(gzip -dc "$3" | tee "$6" | $7)
wait $!
test "$5" = "sha256:${found%% *}"
rm "$3" "$6"
"""


Unpack = Callable[[Lab, Path], float]


def picked(lab: Lab) -> tuple[str, str, str]:
    """Return the first file of the packed directory, the one in the middle and the last."""
    with tarfile.open(lab.pack.blob.path) as archive:
        names = [member.name for member in archive if member.isfile()]
    return names[0], names[len(names) // 2], names[-1]


class PackedMember:
    """One file of a packed directory that is in no cache, wherever it is in the tar."""

    name = "packed-member"
    title = "one file of a packed directory, with an empty cache"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._members: dict[str, str] = {}

    @property
    def work(self) -> tuple[float, str]:
        """One file."""
        return 1, "files"

    def prepare(self) -> None:
        """Publish the directory, and find out which file is where in its tar."""
        self._place = self._lab.published_pack
        self._members = dict(zip((FIRST, MIDDLE, LAST), picked(self._lab), strict=True))

    def contenders(self) -> Sequence[Contender]:
        """The mount by the place of the file; the rival unpacks all, whichever is wanted."""
        mounts = [
            Contender(
                name, self._reset_mount, partial(self._read, path), partial(self._verify, path)
            )
            for name, path in self._members.items()
        ]
        last = partial(self._verify, self._members[LAST])
        others = [
            Contender(name, self._reset, partial(self._unpack, unpack), last)
            for name, unpack in _unpackings(self._lab).items()
        ]
        return (*mounts, *others)

    def comparisons(self) -> Sequence[Comparison]:
        """A file at the front is there at once, one at the end when all has passed."""
        return tuple(
            Comparison(name, rival, Better.LOWER_TIME, target)
            for rival in (TAR, pulling(self._lab.client))
            for name, target in MEMBER_TARGETS.items()
        )

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory while it unpacks."""
        return (self._session.peak(),)

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._session.clear()
        self._lab.fresh_directory("unpacked")

    def _reset(self) -> None:
        self._session.clear()
        self._lab.fresh_directory("unpacked")
        warm(self._lab)

    def _reset_mount(self) -> None:
        self._reset()
        self._session.remount(self._place)

    def _read(self, member: str) -> float:
        with (self._lab.directory / "member").open("wb") as output:
            return timed(["cat", self._session.path(self._place) / member], output=output)

    def _unpack(self, unpack: Unpack) -> float:
        target = self._lab.directory / "unpacked"
        seconds = unpack(self._lab, target)
        run(["cp", target / self._members[LAST], self._lab.directory / "member"])
        return seconds

    def _verify(self, member: str) -> None:
        _compare(self._lab.directory / "member", self._lab.pack.directory.parent / member)


class PackedCopy:
    """All of a packed directory that is in no cache, copied."""

    name = "packed-copy"
    title = "cp -r of a packed directory, with an empty cache"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)

    @property
    def work(self) -> tuple[float, str]:
        """The number of files."""
        return self._lab.tree_files, "files"

    def prepare(self) -> None:
        """Publish the directory."""
        self._place = self._lab.published_pack

    def contenders(self) -> Sequence[Contender]:
        """A copy through the mount, and one of what was unpacked by hand."""
        others = [
            Contender(_and_copy(name), self._reset, partial(self._rival, unpack), self._verify)
            for name, unpack in _unpackings(self._lab).items()
        ]
        return (Contender(COPY, self._reset_mount, self._copy, self._verify), *others)

    def comparisons(self) -> Sequence[Comparison]:
        """Both bring the bytes to the disk twice: into a cache or a directory, and as the copy."""
        return tuple(
            Comparison(COPY, _and_copy(rival), Better.LOWER_TIME, COPY_TARGET)
            for rival in (TAR, pulling(self._lab.client))
        )

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory while it unpacks and is read."""
        return (self._session.peak(),)

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._session.clear()
        for name in ("unpacked", "copied"):
            self._lab.fresh_directory(name)

    def _reset(self) -> None:
        self._session.clear()
        for name in ("unpacked", "copied"):
            self._lab.fresh_directory(name)
        warm(self._lab)

    def _reset_mount(self) -> None:
        self._reset()
        self._session.remount(self._place)

    def _copy(self) -> float:
        source = self._session.path(self._place) / PACK_TITLE
        return timed(["cp", "-r", source, self._lab.directory / "copied"])

    def _rival(self, unpack: Unpack) -> float:
        target = self._lab.directory / "unpacked"
        seconds = unpack(self._lab, target)
        copied = self._lab.directory / "copied"
        return seconds + timed(["cp", "-r", target / PACK_TITLE, copied])

    def _verify(self) -> None:
        copied = self._lab.directory / "copied" / PACK_TITLE
        run(["diff", "-r", "--no-dereference", self._lab.pack.directory, copied])


def warm(lab: Lab) -> None:
    """Have the blob in the registry's memory, and an idle disk."""
    run(["curl", "-sSf", "-o", "/dev/null", lab.published_pack.blob_url(lab.pack.blob.digest)])
    run(["sync"])


def unpack_by_hand(lab: Lab, target: Path) -> float:
    """Download, verify and unpack the published directory as `oras pull`; return the seconds."""
    url = lab.published_pack.blob_url(lab.pack.blob.digest)
    spool = lab.fresh_directory("pulled")
    # sha256sum of coreutils 9.1 takes three times as long where the processor has SHA-NI.
    hashes = "openssl dgst -sha256 -r" if shutil.which("openssl") else "sha256sum"
    files = (spool / "blob", lab.pack.blob.digest, lab.pack.tar_digest, spool / "tar")
    return timed(["sh", "-c", _PULL, "sh", url, target, *files, hashes])


def _unpackings(lab: Lab) -> dict[str, Unpack]:
    """Return how the published directory is unpacked without orasfs, by name."""
    found: dict[str, Unpack] = {TAR: unpack_by_hand, PIPE: unpack_by_pipe}
    if lab.client is not None:
        found[pulling(lab.client)] = lambda lab, target: lab.pull(lab.published_pack, target)
    return found


def _and_copy(name: str) -> str:
    return f"{name}, then cp -r"


def unpack_by_pipe(lab: Lab, target: Path) -> float:
    """Download and unpack the published directory in one go; return the seconds."""
    url = lab.published_pack.blob_url(lab.pack.blob.digest)
    return timed(["sh", "-c", _PIPE, "sh", url, target])


def _compare(found: Path, expected: Path) -> None:
    if not filecmp.cmp(found, expected, shallow=False):
        raise VerificationFailed(f"{found} is not {expected}")
