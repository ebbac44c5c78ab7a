"""The case that pushes and pulls a second version of a packed directory; little is changed."""

import filecmp
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

from scripts.benchmarks.case import Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.link import Link
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.publish import Published
from scripts.benchmarks.seekable import publish_repacked
from scripts.benchmarks.session import Session
from scripts.benchmarks.shaping import Shape
from tests.support.publish import OCI_MANIFEST

PUSH, PULL = "push of the second version", "pull of the second version"
LIMIT_PERCENT = 15.0
_REPOSITORY = "bench/versions"
_FIRST, _TAG = "first", "v1"
_CHANGED_OF = 50  # one file of so many
_ADDED = b"changed in the second version\n"


class SecondVersion:
    """How much passes to and from the registry when 2 % of the files are others."""

    name = "second-version"
    title = "a second version of a packed directory, 2 % of its files changed, pushed and pulled"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._author = Session(lab, f"{self.name}-push")
        self._reader = Session(lab, f"{self.name}-pull")
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
        self._manifest = self._raw(_FIRST)
        self._link = lab.link(Shape())
        self._place: Published = replace(near, host=self._link.host, tag=_TAG)
        self._changes = lab.fresh_directory("changes")
        root = lab.pack.directory
        files = sorted(path for path in root.rglob("*.dat") if not path.is_symlink())
        self._changed = [path.relative_to(root) for path in files[::_CHANGED_OF]]
        self._same = files[1].relative_to(root)
        for path in self._changed:
            target = self._changes / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_ADDED + (root / path).read_bytes())

    def contenders(self) -> Sequence[Contender]:
        """Who makes the second version, and who had the first one and reads the second."""
        return (
            Contender(PUSH, self._reset_push, self._push, self._verify_push),
            Contender(PULL, self._reset_pull, self._pull, self._verify_pull),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """None: bytes count here."""
        return ()

    def gauges(self) -> Sequence[Gauge]:
        """What passed, against the size of the whole second version."""
        whole = self._layer or 1
        return (
            Gauge("second version, packed", self._layer / 2**20, "MiB"),
            Gauge("sent, of that", 100 * self._sent / whole, "%", LIMIT_PERCENT),
            Gauge("received, of that", 100 * self._received / whole, "%", LIMIT_PERCENT),
            self._author.peak(),
        )

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._author.clear()
        self._reader.clear()
        self._lab.fresh_directory("changes")

    def _reset_push(self) -> None:
        """Have the first version, all of it, in the author's cache, and the changes in a draft."""
        self._reader.unmount()
        self._lab.registry.put_manifest(_REPOSITORY, _TAG, self._manifest)
        self._author.clear()
        self._author.remount(self._place)
        top = self._author.path(self._place)
        run(["ls", top / PACK_TITLE])
        run([sys.executable, "-m", "orasfs", "edit", top])
        for path in self._changed:
            shutil.copyfile(self._changes / path, top / PACK_TITLE / path)
        self._passed()

    def _push(self) -> float:
        top = self._author.path(self._place)
        seconds = timed([sys.executable, "-m", "orasfs", "commit", "-q", top])
        self._sent = self._passed()[0]
        return seconds

    def _verify_push(self) -> None:
        self._author.unmount()
        (layer,) = json.loads(self._raw(_TAG))["layers"]
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
        shown = self._reader.path(self._place) / PACK_TITLE
        expected = [(path, self._changes / path) for path in self._changed]
        expected.append((self._same, self._lab.pack.directory / self._same))
        for path, right in expected:
            if not filecmp.cmp(shown / path, right, shallow=False):
                raise VerificationFailed(f"{path} is another in the second version")

    def _raw(self, tag: str) -> bytes:
        path = f"/v2/{_REPOSITORY}/manifests/{tag}"
        status, _, raw = self._lab.registry.request("GET", path, headers={"Accept": OCI_MANIFEST})
        if status != 200:
            raise VerificationFailed(f"the registry has no {_REPOSITORY}:{tag}: {status}")
        return raw

    def _passed(self) -> tuple[int, int]:
        """Return how many bytes went to the registry, and came from it, since the last time."""
        if self._link is None:
            raise AssertionError("there is no link before `prepare`")
        traffic = self._link.take()
        return traffic.bytes_up, traffic.bytes_down
