"""The case that reads one file of a layer of others whose bytes are gone, by its seek points."""

import filecmp
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from orasfs.store.options import PointOptions
from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.link import Link
from scripts.benchmarks.processes import run, timed, wait_until
from scripts.benchmarks.publish import Published
from scripts.benchmarks.session import Session
from scripts.benchmarks.shaping import Shape
from scripts.benchmarks.unpacking import TAR, picked, unpack_by_hand, warm

TARGET = 1 / 20
POINTS_NAME = "index.points"
_KEPT = "points-only"
_KEPT_BYTES = 1 << 20  # manifests stay, blobs go
_MAKING_SECONDS = 300.0
_PLACES = ("first file", "middle file", "last file")


class PackedPoints:
    """One file of a tar.gz of one member, wherever it is."""

    name = "packed-points"
    title = "one file of an evicted tar.gz of another tool, by seek points"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._link: Link | None = None
        self._fetched: list[float] = []
        self._points_bytes = 0

    @property
    def work(self) -> tuple[float, str]:
        """One file."""
        return 1, "files"

    def prepare(self) -> None:
        """Have the layer's index and points, and nothing else of it."""
        lab = self._lab
        self._link = lab.link(Shape())
        there = replace(lab.published_pack, host=self._link.host)
        # A mount of the repository: it need not be found out which one the path names.
        self._place = Published(f"{there.host}/{there.repository}", "", there.tag)
        self._members = dict(zip(_PLACES, picked(lab), strict=True))
        self._keep_points()

    def contenders(self) -> Sequence[Contender]:
        """The mount by place; the rival unpacks all, whichever is wanted."""
        mounts = [
            Contender(
                name, self._reset_mount, partial(self._read, path), partial(self._verify, path)
            )
            for name, path in self._members.items()
        ]
        last = self._members[_PLACES[-1]]
        return (*mounts, Contender(TAR, self._reset, self._unpack, partial(self._compare, last)))

    def comparisons(self) -> Sequence[Comparison]:
        """A file costs what it has, wherever it is."""
        return tuple(Comparison(name, TAR, Better.LOWER_TIME, TARGET) for name in _PLACES)

    def gauges(self) -> Sequence[Gauge]:
        """What was fetched for a file at most, what the points take, and the daemon's memory."""
        share = 100 * self._points_bytes / self._lab.pack.blob.size
        return (
            Gauge("fetched for a file", max(self._fetched, default=0.0), "MiB"),
            Gauge("seek points, of the layer", share, "%", 2.0),
            self._session.peak(),
        )

    def finish(self) -> None:
        """Unmount, drop the copies, and take the link down."""
        self._session.clear()
        for name in ("unpacked", _KEPT):
            self._lab.fresh_directory(name)
        if self._link is not None:
            self._link.close()

    def _keep_points(self) -> None:
        cache = self._session.cache
        self._session.clear()
        self._session.remount(self._place, "plain_http")
        run(["ls", self._session.path(self._place) / PACK_TITLE])
        if self._lab.pack.blob.size >= PointOptions().least_bytes:  # else it has none
            found = cache / "orasfs" / "layers"
            wait_until(lambda: any(found.rglob(POINTS_NAME)), "seek points", _MAKING_SECONDS)
            self._points_bytes = next(found.rglob(POINTS_NAME)).stat().st_size
        self._session.unmount()
        self._session.evict(_KEPT_BYTES)
        kept = self._lab.fresh_directory(_KEPT)
        shutil.copytree(cache, kept, dirs_exist_ok=True)

    def _reset(self) -> None:
        self._session.clear()
        self._lab.fresh_directory("unpacked")
        warm(self._lab)

    def _reset_mount(self) -> None:
        self._reset()
        kept = self._lab.directory / _KEPT
        shutil.copytree(kept, self._session.cache, dirs_exist_ok=True)
        self._session.remount(self._place, "plain_http")
        self._take()

    def _read(self, member: str) -> float:
        path = self._session.path(self._place) / member
        with (self._lab.directory / "member").open("wb") as output:
            return timed(["cat", path], output=output)

    def _unpack(self) -> float:
        target = self._lab.directory / "unpacked"
        seconds = unpack_by_hand(self._lab, target)
        run(["cp", target / self._members[_PLACES[-1]], self._lab.directory / "member"])
        return seconds

    def _verify(self, member: str) -> None:
        self._compare(member)
        self._session.unmount()
        self._fetched.append(self._take())

    def _compare(self, member: str) -> None:
        expected = self._lab.pack.directory.parent / member
        if not filecmp.cmp(self._lab.directory / "member", expected, shallow=False):
            raise VerificationFailed(f"{member} is another")

    def _take(self) -> float:
        if self._link is None:
            raise AssertionError("there is no link: prepare is missing")
        return self._link.take().mebibytes
