"""A second version of a directory of which every file is a layer of its own (`pack=files`).

Owns how that is published, changed, pushed and pulled: a part of `scripts.benchmarks.versions`.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.benchmarks.case import Contender, Gauge, VerificationFailed
from scripts.benchmarks.changes import Changes, manifest_of
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.link import Link
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.publish import TITLE, Published
from scripts.benchmarks.session import Session

PUSH, PULL = "push of the same, pack=files", "pull of the same, pack=files"
MAX_FILES = 10_000  # a manifest may have 4 MiB, of which each takes 250 bytes
_REPOSITORY = "bench/version-files"
_FIRST, _TAG = "first", "v1"


class VersionFiles:
    """How much passes if a version is a manifest of many layers."""

    def __init__(self, lab: Lab, limit_percent: float) -> None:
        self._lab = lab
        self._limit_percent = limit_percent
        self._author = Session(lab, "version-files-push")
        self._reader = Session(lab, "version-files-pull")
        self._sent = self._received = self._whole = 0

    def prepare(self, link: Link) -> None:
        """Commit the first version, and make the files of the second."""
        self._link = link
        root = self._lab.pack.directory
        files = sorted(path for path in root.rglob("*.dat") if not path.is_symlink())[:MAX_FILES]
        self._changes = Changes(root, self._lab.fresh_directory("changed-files"), files)
        self._place = Published(link.host, _REPOSITORY, _TAG)
        self._first = replace(self._place, tag=_FIRST)
        self._author.clear()
        self._author.remount(self._first, "pack=files")
        top = self._author.path(self._first)
        draft = Path(f"{top.parent}:{top.name}")
        run(["mkdir", "-p", draft])
        for path in files:
            target = draft / PACK_TITLE / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        run([sys.executable, "-m", "orasfs", "commit", "-q", draft])
        self._manifest = manifest_of(self._lab.registry, _REPOSITORY, _FIRST)
        self._reader.clear()
        self._author.unmount()
        self._reader.remount(self._first)
        run([sys.executable, "-m", "orasfs", "fetch", "-q", self._reader.path(self._first)])
        self._reader.unmount()

    def contenders(self) -> tuple[Contender, Contender]:
        """Who makes the second version, and who had the first one and reads the second."""
        return (
            Contender(PUSH, self._reset_push, self._push, self._verify_push),
            Contender(PULL, self._reset_pull, self._pull, self._verify_pull),
        )

    def gauges(self) -> tuple[Gauge, Gauge, Gauge]:
        """What passed, against the size of all layers."""
        whole = self._whole or 1
        return (
            Gauge("second version, pack=files", self._whole / 2**20, "MiB"),
            Gauge("sent, pack=files", 100 * self._sent / whole, "%", self._limit_percent),
            Gauge("received, pack=files", 100 * self._received / whole, "%", self._limit_percent),
        )

    def peaks(self) -> tuple[Gauge, Gauge]:
        """Unmount, and return the highest memory of either side."""
        return self._author.peak(), self._reader.peak()

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._author.clear()
        self._reader.clear()
        self._lab.fresh_directory("changed-files")

    def unmount(self) -> None:
        """Let others mount."""
        self._author.unmount()
        self._reader.unmount()

    def _reset_push(self) -> None:
        self._reader.unmount()
        self._lab.registry.put_manifest(_REPOSITORY, _TAG, self._manifest)
        self._author.remount(self._place)
        top = self._author.path(self._place)
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
        before, after = _layers(self._manifest), _layers(self._second())
        self._whole = sum(layer["size"] for layer in after.values())
        if before.keys() != after.keys():
            raise VerificationFailed("the second version has other files")
        changed = sum(before[title]["digest"] != after[title]["digest"] for title in after)
        if changed != len(self._changes.changed):
            raise VerificationFailed(f"{changed} layers are others in the second version")

    def _reset_pull(self) -> None:
        """Have the first version, all of it and nothing of the second, in the reader's cache."""
        self._reader.unmount()
        second = self._second()
        kept = {layer["digest"] for layer in _layers(self._manifest).values()}
        new = {layer["digest"] for layer in _layers(second).values()} - kept
        for digest in new:
            (self._reader.cache / "blobs" / digest.replace(":", "/")).unlink(missing_ok=True)
        self._reader.remount(self._place)
        self._link.take()

    def _pull(self) -> float:
        top = self._reader.path(self._place)
        with Path("/dev/null").open("wb") as nowhere:
            all_files = ("-type", "f", "-exec", "cat", "{}", "+")
            seconds = timed(["find", str(top), *all_files], output=nowhere)
        self._received = self._link.take().bytes_down
        return seconds

    def _verify_pull(self) -> None:
        self._changes.verify(self._reader.path(self._place) / PACK_TITLE)
        self._reader.unmount()

    def _second(self) -> bytes:
        return manifest_of(self._lab.registry, _REPOSITORY, _TAG)


def _layers(manifest: bytes) -> Mapping[str, Any]:
    """Return the layers by title."""
    return {layer["annotations"][TITLE]: layer for layer in json.loads(manifest)["layers"]}
