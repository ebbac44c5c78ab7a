"""The case that pushes and pulls a second version of a packed directory; little is changed."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from scripts.benchmarks.case import Comparison, Contender, Gauge
from scripts.benchmarks.changes import Changes, manifest_of
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.link import Link
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.publish import Published
from scripts.benchmarks.seekable import publish_repacked
from scripts.benchmarks.session import Session
from scripts.benchmarks.shaping import Shape
from scripts.benchmarks.versionfiles import VersionFiles
from scripts.benchmarks.versionindexes import VersionIndexes

PUSH, PULL = "push of the second version", "pull of the second version"
LIMIT_PERCENT = 15.0
_REPOSITORY = "bench/versions"
_FIRST, _TAG = "first", "v1"


class SecondVersion:
    """How much passes to and from the registry when 2 % of the files are others."""

    name = "second-version"
    title = "a second version of a packed directory, 2 % of its files changed, pushed and pulled"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._author = Session(lab, f"{self.name}-push")
        self._reader = Session(lab, f"{self.name}-pull")
        self._files = VersionFiles(lab, LIMIT_PERCENT)
        self._indexes = VersionIndexes(lab, LIMIT_PERCENT)
        self._link: Link | None = None
        self._sent = self._received = self._layer = 0

    @property
    def work(self) -> tuple[float, str]:
        """The number of files."""
        return self._lab.pack.files, "files"

    def prepare(self) -> None:
        """Publish the first version, as orasfs packs it, and make the files of the second."""
        lab, repacked = self._lab, self._lab.directory / "repacked.tar.gz"
        near = publish_repacked(lab.registry, _REPOSITORY, _FIRST, lab.pack, repacked)
        self._manifest = manifest_of(lab.registry, _REPOSITORY, _FIRST)
        self._link = lab.link(Shape())
        self._place: Published = replace(near, host=self._link.host, tag=_TAG)
        root = lab.pack.directory
        files = sorted(path for path in root.rglob("*.dat") if not path.is_symlink())
        self._changes = Changes(root, lab.fresh_directory("changes"), files)
        self._files.prepare(self._link)
        self._indexes.prepare(self._link, self._changes)

    def contenders(self) -> Sequence[Contender]:
        """Who makes the second version, and who had the first one and reads the second."""
        return (
            Contender(PUSH, self._reset_push, self._push, self._verify_push),
            Contender(PULL, self._reset_pull, self._pull, self._verify_pull),
            *self._files.contenders(),
            *self._indexes.contenders(),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """None: bytes count here."""
        return ()

    def gauges(self) -> Sequence[Gauge]:
        """What passed, against the size of the whole second version."""
        whole = self._layer or 1
        own = self._author.peak(), self._reader.peak()
        peaks = (*own, *self._files.peaks(), *self._indexes.peaks())
        return (
            Gauge("second version, packed", self._layer / 2**20, "MiB"),
            Gauge("sent, of that", 100 * self._sent / whole, "%", LIMIT_PERCENT),
            Gauge("received, of that", 100 * self._received / whole, "%", LIMIT_PERCENT),
            *self._files.gauges(),
            *self._indexes.gauges(),
            max(peaks, key=lambda peak: peak.value),
        )

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._author.clear()
        self._reader.clear()
        self._files.finish()
        self._indexes.finish()
        self._lab.fresh_directory("changes")

    def _reset_push(self) -> None:
        """Have the first version, all of it, in the author's cache, and the changes in a draft."""
        self._reader.unmount()
        self._files.unmount()
        self._indexes.unmount()
        self._lab.registry.put_manifest(_REPOSITORY, _TAG, self._manifest)
        self._author.clear()
        self._author.remount(self._place)
        top = self._author.path(self._place)
        run(["ls", top / PACK_TITLE])
        run([sys.executable, "-m", "orasfs", "edit", top])
        self._changes.copy_to(top / PACK_TITLE)
        self._passed()

    def _push(self) -> float:
        top = self._author.path(self._place)
        seconds = timed([sys.executable, "-m", "orasfs", "commit", "-q", top])
        self._sent = self._passed()[0]
        return seconds

    def _verify_push(self) -> None:
        self._author.unmount()
        (layer,) = json.loads(manifest_of(self._lab.registry, _REPOSITORY, _TAG))["layers"]
        self._layer = layer["size"]

    def _reset_pull(self) -> None:
        """Have the first version, all of it, in the reader's cache."""
        self._reader.clear()
        first = replace(self._place, tag=_FIRST)
        self._reader.remount(first)
        run(["ls", self._reader.path(first) / PACK_TITLE])
        self._reader.remount(self._place)
        self._passed()

    def _pull(self) -> float:
        # A listing has the whole layer fetched and unpacked.
        seconds = timed(["ls", self._reader.path(self._place) / PACK_TITLE])
        self._received = self._passed()[1]
        return seconds

    def _verify_pull(self) -> None:
        self._changes.verify(self._reader.path(self._place) / PACK_TITLE)
        self._reader.unmount()

    def _passed(self) -> tuple[int, int]:
        """Return how many bytes went to the registry, and came from it, since the last time."""
        if self._link is None:
            raise AssertionError("there is no link before `prepare`")
        traffic = self._link.take()
        return traffic.bytes_up, traffic.bytes_down
