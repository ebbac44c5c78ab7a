"""The case that walks a packed directory of many files with find(1)."""

from collections.abc import Sequence
from pathlib import Path

from scripts.benchmarks import pagecache
from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import TREE_TITLE, Lab
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.session import Session

MOUNT_FIRST = "mount, empty cache"
MOUNT_COLD = "new mount, layer in the cache"
MOUNT_WARM = "mount, again"
DISK_COLD = "local disk, cold"
DISK_WARM = "local disk, again"
UNPACK = "curl and tar, then local disk"
COLD_TARGET = 4.0
WARM_TARGET = 1.5

# What must be equal: sizes of files only, since directories have none of meaning, and no modes of
# symlinks. A time is in whole seconds in the tar.
PRINT = (
    *("(", "-type", "d", "-printf", r"d %m %T@ %P\n", ")"),
    *("-o", "(", "-type", "f", "-printf", r"f %m %s %T@ %P\n", ")"),
    *("-o", "-printf", r"%y %T@ %P -> %l\n"),
)


class FindPacked:
    """`find -printf` with types, modes, sizes and times, over everything in a packed directory."""

    name = "find-packed"
    title = "find with types, modes, sizes and times over a packed directory"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._listing = lab.directory / "listing"
        self._expected: list[bytes] = []

    @property
    def work(self) -> tuple[float, str]:
        """The number of files; directories and links come on top."""
        return self._lab.tree_files, "files"

    def prepare(self) -> None:
        """Publish the tree, and learn what a right listing is from the local one."""
        self._place = self._lab.published_tree
        self._find(self._lab.tree.directory)
        self._expected = self._listed()
        self._session.clear()

    def contenders(self) -> Sequence[Contender]:
        """The mount in three states, the same tree on disk, and the download by hand."""
        return (
            Contender(MOUNT_FIRST, self._reset_first, self._find_mount, self._verify),
            Contender(MOUNT_COLD, self._reset_cold, self._find_mount, self._verify),
            Contender(MOUNT_WARM, self._reset_warm, self._find_mount, self._verify),
            Contender(DISK_COLD, self._drop, self._find_disk, self._verify),
            Contender(DISK_WARM, self._find_again, self._find_disk, self._verify),
            Contender(UNPACK, self._reset_unpack, self._unpack, self._verify),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """The first listing has no target: it is a download."""
        return (
            Comparison(MOUNT_FIRST, UNPACK, Better.LOWER_TIME),
            Comparison(MOUNT_COLD, DISK_COLD, Better.LOWER_TIME, COLD_TARGET),
            Comparison(MOUNT_WARM, DISK_WARM, Better.LOWER_TIME, WARM_TARGET),
        )

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory while it unpacks and lists."""
        return (self._session.peak(),)

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._session.clear()
        self._lab.fresh_directory("unpacked")

    def _reset_first(self) -> None:
        self._session.clear()
        run(["curl", "-sSf", "-o", "/dev/null", self._url()])
        self._session.remount(self._place)

    def _reset_cold(self) -> None:
        self._session.unmount()
        pagecache.drop(self._session.cache)
        self._session.remount(self._place)

    def _reset_warm(self) -> None:
        self._find_mount()

    def _drop(self) -> None:
        pagecache.drop(self._lab.tree.directory)

    def _find_again(self) -> None:
        self._find_disk()

    def _reset_unpack(self) -> None:
        self._lab.fresh_directory("unpacked")
        run(["curl", "-sSf", "-o", "/dev/null", self._url()])

    def _find_mount(self) -> float:
        return self._find(self._session.path(self._place) / TREE_TITLE)

    def _find_disk(self) -> float:
        return self._find(self._lab.tree.directory)

    def _unpack(self) -> float:
        target = self._lab.directory / "unpacked"
        script = 'curl -sSf "$1" | tar -xz -C "$2"'
        seconds = timed(["sh", "-c", script, "sh", self._url(), target])
        return seconds + self._find(target / TREE_TITLE)

    def _url(self) -> str:
        return self._place.blob_url(self._lab.tree.blob.digest)

    def _find(self, root: Path) -> float:
        with self._listing.open("wb") as output:
            return timed(["find", root, *PRINT], output=output)

    def _listed(self) -> list[bytes]:
        return sorted(self._listing.read_bytes().splitlines())

    def _verify(self) -> None:
        listed = self._listed()
        if listed == self._expected:
            return
        wrong = set(listed) ^ set(self._expected)
        example = min(wrong) if wrong else b"a name twice"
        raise VerificationFailed(
            f"{len(listed)} entries, not the {len(self._expected)} expected: {example!r}"
        )
