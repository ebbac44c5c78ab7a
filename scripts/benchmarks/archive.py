"""The case that reads files all over a packed directory that is here, beside ratarmount.

That mounts a local tar.gz by an index with seek points of its own. Both have all on disk and are
mounted anew: the one has the layer in its cache, the other the tar.gz and its index.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scripts.benchmarks import pagecache
from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.mount import mount_points
from scripts.benchmarks.processes import Daemon, ProgramFailed, run, timed, wait_until
from scripts.benchmarks.session import Session

MOUNT = "mount"
RATARMOUNT = "ratarmount"
DISK = "local disk"
TARGET = 0.5
_FILES = 1_000
_SEED = 5
_ANSWER_SECONDS = 60.0
_CAT = 'cd "$1" && xargs -d "\\n" -a "$2" cat'


def program() -> str | None:
    """Return where ratarmount is, None if it is not installed."""
    beside = Path(sys.executable).parent / RATARMOUNT
    return shutil.which(RATARMOUNT) or (str(beside) if beside.exists() else None)


class ArchiveMount:
    """A mount of an archive by ratarmount."""

    def __init__(self, archive: Path, directory: Path) -> None:
        """Make the index of the archive, below `directory`."""
        self.path = directory / "mnt"
        self.index = directory / "index.sqlite"
        self._log = directory / "ratarmount.log"
        self._archive = archive
        self._env = {"HOME": str(directory), "LC_ALL": "C"}
        self._daemon: Daemon | None = None
        self.path.mkdir(parents=True)
        run([*self._argv(), "--no-mount", archive])

    def mount(self) -> None:
        """Mount it, and return once it answers."""
        argv = [*self._argv(), "-f", self._archive, self.path]
        self._daemon = Daemon(argv, self._log, self._env)
        wait_until(self._is_mounted_or_gone, RATARMOUNT, _ANSWER_SECONDS)
        if not self._daemon.is_running():
            raise ProgramFailed(f"{RATARMOUNT} ended: {self._daemon.last_words()}")
        run(["stat", self.path], deadline_seconds=_ANSWER_SECONDS)

    def unmount(self) -> None:
        """Unmount it (lazily if it must be), and end the process. Harmless twice."""
        daemon, self._daemon = self._daemon, None
        for flags in (["-u"], ["-u", "-z"]):
            if self.path in mount_points():
                argv = ["fusermount3", *flags, str(self.path)]
                subprocess.run(argv, capture_output=True, check=False, timeout=_ANSWER_SECONDS)
        if daemon is not None and not daemon.has_ended():
            daemon.stop()

    def _argv(self) -> list[str | Path]:
        return [program() or RATARMOUNT, "--index-file", self.index]

    def _is_mounted_or_gone(self) -> bool:
        gone = self._daemon is None or not self._daemon.is_running()
        return gone or self.path in mount_points()


class PackedRandom:
    """A thousand files of a packed directory that is in the cache."""

    name = "packed-random"
    title = "1,000 files all over a packed directory that is in the cache, by a new mount"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._names = lab.directory / "names"
        self._output = lab.directory / "archived"
        self._archive: ArchiveMount | None = None

    @property
    def work(self) -> tuple[float, str]:
        """The files."""
        return min(_FILES, self._lab.tree_files), "files"

    def prepare(self) -> None:
        """Have the layer in the cache, the rival's index on disk, and files chosen."""
        lab = self._lab
        self._place = lab.published_pack
        parent = lab.pack.directory.parent
        files = sorted(path for path in lab.pack.directory.rglob("*.dat") if path.is_file())
        chosen = random.Random(_SEED)  # noqa: S311 - repeatable, not secret
        self._chosen = chosen.sample(files, min(_FILES, len(files)))
        names = (os.fspath(path.relative_to(parent)) for path in self._chosen)
        self._names.write_text("".join(f"{name}\n" for name in names))
        self._session.clear()
        self._session.remount(self._place)
        run(["ls", self._session.path(self._place) / PACK_TITLE])
        self._session.unmount()
        if program() is not None:
            self._archive = ArchiveMount(lab.pack.blob.path, lab.fresh_directory("archive"))

    def contenders(self) -> Sequence[Contender]:
        """The mount, the files themselves, and the rival where it is installed."""
        parent = self._lab.pack.directory.parent
        found = [
            Contender(MOUNT, self._reset_mount, self._cat_mount, self._verify),
            Contender(DISK, self._forget, partial(self._cat, parent), self._verify),
        ]
        if self._archive is not None:
            read = partial(self._cat, self._archive.path)
            found.append(Contender(RATARMOUNT, self._reset_archive, read, self._verify))
        return found

    def comparisons(self) -> Sequence[Comparison]:
        """What is unpacked once need not be decompressed with each read."""
        return (
            Comparison(MOUNT, RATARMOUNT, Better.LOWER_TIME, TARGET),
            Comparison(MOUNT, DISK, Better.LOWER_TIME),
        )

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory."""
        return (self._session.peak(),)

    def finish(self) -> None:
        """Unmount both, and drop what they have."""
        self._unmount()
        self._session.clear()
        if self._archive is not None and self._archive.path not in mount_points():
            self._lab.fresh_directory("archive")

    def _unmount(self) -> None:
        self._session.unmount()
        if self._archive is not None:
            self._archive.unmount()

    def _forget(self) -> None:
        """Have nothing of what is read in memory, where that can be had."""
        self._unmount()
        archived = [] if self._archive is None else [self._archive.index]
        pack = self._lab.pack
        pagecache.drop(self._session.cache, pack.directory, pack.blob.path, *archived)

    def _reset_mount(self) -> None:
        self._forget()
        self._session.remount(self._place)

    def _reset_archive(self) -> None:
        self._forget()
        if self._archive is not None:
            self._archive.mount()

    def _cat_mount(self) -> float:
        return self._cat(self._session.path(self._place))

    def _cat(self, directory: Path) -> float:
        with self._output.open("wb") as output:
            return timed(["sh", "-c", _CAT, "sh", directory, self._names], output=output)

    def _verify(self) -> None:
        if self._output.read_bytes() != b"".join(path.read_bytes() for path in self._chosen):
            raise VerificationFailed("other bytes")
