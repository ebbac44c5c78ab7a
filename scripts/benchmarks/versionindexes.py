"""A second version of a packed directory, pushed with its index, read by who has the first one.

Owns how that is published, changed, pushed and pulled: a part of `scripts.benchmarks.versions`.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from scripts.benchmarks.case import Contender, Gauge
from scripts.benchmarks.changes import Changes, manifest_of
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.link import Link
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.publish import Published
from scripts.benchmarks.seekable import publish_repacked
from scripts.benchmarks.session import Session

PUSH, PULL = "push of the same, index=publish", "pull of the same, index=publish"
_REPOSITORY = "bench/version-indexes"
_FIRST, _TAG = "first", "v1"


class VersionIndexes:
    """How much passes if the author publishes an index of the second version."""

    def __init__(self, lab: Lab, limit_percent: float) -> None:
        self._lab = lab
        self._limit_percent = limit_percent
        self._author = Session(lab, "version-indexes-push")
        self._reader = Session(lab, "version-indexes-pull")
        self._sent = self._received = self._layer = 0

    def prepare(self, link: Link, changes: Changes) -> None:
        """Publish the first version, as orasfs packs it, without an index."""
        lab, repacked = self._lab, self._lab.directory / "repacked-again.tar.gz"
        near = publish_repacked(lab.registry, _REPOSITORY, _FIRST, lab.pack, repacked)
        repacked.unlink()
        self._link, self._changes = link, changes
        self._manifest = manifest_of(lab.registry, _REPOSITORY, _FIRST)
        self._place: Published = replace(near, host=link.host, tag=_TAG)
        self._first = replace(self._place, tag=_FIRST)

    def contenders(self) -> tuple[Contender, Contender]:
        """Who makes the second version, and who had the first one and reads all of the second."""
        return (
            Contender(PUSH, self._reset_push, self._push, self._verify_push),
            Contender(PULL, self._reset_pull, self._pull, self._verify_pull),
        )

    def gauges(self) -> tuple[Gauge, Gauge]:
        """What passed, against the size of the whole layer."""
        percent = 100 / (self._layer or 1)
        received = percent * self._received
        return (
            Gauge("sent, index=publish", percent * self._sent, "%"),
            Gauge("received, index=publish", received, "%", self._limit_percent),
        )

    def peaks(self) -> tuple[Gauge, Gauge]:
        """Unmount, and return the highest memory of either side."""
        return self._author.peak(), self._reader.peak()

    def finish(self) -> None:
        """Unmount and drop the caches."""
        self._author.clear()
        self._reader.clear()

    def unmount(self) -> None:
        """Let others mount."""
        self._author.unmount()
        self._reader.unmount()

    def _reset_push(self) -> None:
        """Have the first version, all of it, in the author's cache, and the changes in a draft."""
        self._reader.unmount()
        self._lab.registry.put_manifest(_REPOSITORY, _TAG, self._manifest)
        self._author.clear()
        self._author.remount(self._place, "index=publish")
        top = self._author.path(self._place)
        run(["ls", top / PACK_TITLE])
        run([sys.executable, "-m", "orasfs", "edit", top])
        self._changes.copy_to(top / PACK_TITLE)
        self._link.take()

    def _push(self) -> float:
        top = self._author.path(self._place)
        seconds = timed([sys.executable, "-m", "orasfs", "commit", "-q", top])
        self._sent = self._link.take().bytes_up
        return seconds

    def _verify_push(self) -> None:
        self._author.unmount()
        raw = manifest_of(self._lab.registry, _REPOSITORY, _TAG)
        (layer,) = json.loads(raw)["layers"]
        self._layer = layer["size"]

    def _reset_pull(self) -> None:
        """Have the first version, all of it, in the reader's cache."""
        self._reader.clear()
        self._reader.remount(self._first)
        run(["ls", self._reader.path(self._first) / PACK_TITLE])
        self._reader.remount(self._place)
        self._link.take()

    def _pull(self) -> float:
        top = self._reader.path(self._place) / PACK_TITLE
        with Path("/dev/null").open("wb") as nowhere:
            all_files = ("-type", "f", "-exec", "cat", "{}", "+")
            seconds = timed(["find", str(top), *all_files], output=nowhere)
        self._received = self._link.take().bytes_down
        return seconds

    def _verify_pull(self) -> None:
        self._changes.verify(self._reader.path(self._place) / PACK_TITLE)
        self._reader.unmount()
