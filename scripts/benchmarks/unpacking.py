"""The cases that read a large packed directory for the first time: one file of it, and all."""

import filecmp
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.session import Session

FIRST = "mount, first file"
MIDDLE = "mount, middle file"
LAST = "mount, last file"
TAR = "curl and tar"
MEMBER_TARGETS = {FIRST: 0.1, MIDDLE: 0.7, LAST: 1.1}

COPY = "mount, cp -r"
TAR_COPY = "curl and tar, then cp -r"
COPY_TARGET = 1.2

_CURL_TAR = 'curl -sSf "$1" | tar -xz -C "$2"'


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
        with tarfile.open(self._lab.pack.blob.path) as archive:
            names = [member.name for member in archive if member.isfile()]
        picked = (names[0], names[len(names) // 2], names[-1])
        self._members = dict(zip((FIRST, MIDDLE, LAST), picked, strict=True))

    def contenders(self) -> Sequence[Contender]:
        """The mount by the place of the file; the rival unpacks all, whichever is wanted."""
        mounts = [
            Contender(
                name, self._reset_mount, partial(self._read, path), partial(self._verify, path)
            )
            for name, path in self._members.items()
        ]
        last = self._members[LAST]
        return (*mounts, Contender(TAR, self._reset, self._unpack, partial(self._verify, last)))

    def comparisons(self) -> Sequence[Comparison]:
        """A file at the front is there at once, one at the end when all has passed."""
        return tuple(
            Comparison(name, TAR, Better.LOWER_TIME, target)
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

    def _unpack(self) -> float:
        target = self._lab.directory / "unpacked"
        seconds = unpack_by_hand(self._lab, target)
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
        return (
            Contender(COPY, self._reset_mount, self._copy, self._verify),
            Contender(TAR_COPY, self._reset, self._unpack_and_copy, self._verify),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """Both bring the bytes to the disk twice: into a cache or a directory, and as the copy."""
        return (Comparison(COPY, TAR_COPY, Better.LOWER_TIME, COPY_TARGET),)

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

    def _unpack_and_copy(self) -> float:
        target = self._lab.directory / "unpacked"
        seconds = unpack_by_hand(self._lab, target)
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
    """Download and unpack the published directory by curl and tar; return the seconds."""
    url = lab.published_pack.blob_url(lab.pack.blob.digest)
    return timed(["sh", "-c", _CURL_TAR, "sh", url, target])


def _compare(found: Path, expected: Path) -> None:
    if not filecmp.cmp(found, expected, shallow=False):
        raise VerificationFailed(f"{found} is not {expected}")
