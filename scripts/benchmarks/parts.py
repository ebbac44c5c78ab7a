"""The case that reads one file of a packed directory of which only the contents are known.

Either the index stayed in the cache while all bytes went, or the layer brings a table of contents
of its own and nothing of it is in the cache.
"""

import filecmp
import shutil
from collections.abc import Sequence
from functools import partial

from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import PACK_TITLE, Lab
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.publish import Published
from scripts.benchmarks.seekable import publish_chunked, publish_estargz, publish_repacked
from scripts.benchmarks.session import Session
from scripts.benchmarks.unpacking import TAR, picked, unpack_by_hand, warm

TARGET = 1 / 20
INDEX, ESTARGZ, CHUNKED = "index", "eStargz", "zstd:chunked"
_KEPT_BYTES = 1 << 20  # manifests and tables stay, blobs go
_KINDS = (INDEX, ESTARGZ, CHUNKED)
_PLACES = ("first", "middle", "last")


class PackedParts:
    """One file of a packed directory by ranges, wherever it is in the tar."""

    name = "packed-parts"
    title = "one file of a packed directory by ranges: with an index, and by tables of contents"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)

    @property
    def work(self) -> tuple[float, str]:
        """One file."""
        return 1, "files"

    def prepare(self) -> None:
        """Publish the directory three times, have its index, and find out which file is where."""
        lab = self._lab
        self._with_index = publish_repacked(
            lab.registry, "bench/repacked", "v1", lab.pack, lab.directory / "repacked.tar.gz"
        )
        self._with_toc = publish_estargz(
            lab.registry, "bench/estargz", "v1", lab.pack, lab.directory / "estargz.tar.gz"
        )
        self._with_chunked_toc = publish_chunked(
            lab.registry, "bench/chunked", "v1", lab.pack, lab.directory / "chunked.tar.zst"
        )
        self._members = dict(zip(_PLACES, picked(lab), strict=True))
        self._keep_index()

    def contenders(self) -> Sequence[Contender]:
        """The mount by kind and place; the rival unpacks all, whichever is wanted."""
        mounts = [
            Contender(
                _named(kind, place),
                partial(self._reset_mount, kind),
                partial(self._read, kind, path),
                partial(self._verify, path),
            )
            for kind in _KINDS
            for place, path in self._members.items()
        ]
        last = self._members[_PLACES[-1]]
        return (*mounts, Contender(TAR, self._reset, self._unpack, partial(self._verify, last)))

    def comparisons(self) -> Sequence[Comparison]:
        """A file costs what it has, wherever it is."""
        return tuple(
            Comparison(_named(kind, place), TAR, Better.LOWER_TIME, TARGET)
            for kind in _KINDS
            for place in _PLACES
        )

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory."""
        return (self._session.peak(),)

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._session.clear()
        self._lab.fresh_directory("unpacked")
        self._lab.fresh_directory("index-only")

    def _keep_index(self) -> None:
        """Unpack the layer once, and keep a cache that has its index and no bytes of it."""
        self._session.clear()
        self._session.remount(self._with_index)
        run(["ls", self._session.path(self._with_index) / PACK_TITLE])
        self._session.unmount()
        self._session.evict(_KEPT_BYTES)
        kept = self._lab.fresh_directory("index-only")
        shutil.copytree(self._session.cache, kept, dirs_exist_ok=True)

    def _place(self, kind: str) -> Published:
        return {
            INDEX: self._with_index,
            ESTARGZ: self._with_toc,
            CHUNKED: self._with_chunked_toc,
        }[kind]

    def _reset(self) -> None:
        self._session.clear()
        self._lab.fresh_directory("unpacked")
        warm(self._lab)

    def _reset_mount(self, kind: str) -> None:
        self._reset()
        if kind == INDEX:
            kept = self._lab.directory / "index-only"
            shutil.copytree(kept, self._session.cache, dirs_exist_ok=True)
        self._session.remount(self._place(kind))

    def _read(self, kind: str, member: str) -> float:
        path = self._session.path(self._place(kind)) / member
        with (self._lab.directory / "member").open("wb") as output:
            return timed(["cat", path], output=output)

    def _unpack(self) -> float:
        target = self._lab.directory / "unpacked"
        seconds = unpack_by_hand(self._lab, target)
        run(["cp", target / self._members[_PLACES[-1]], self._lab.directory / "member"])
        return seconds

    def _verify(self, member: str) -> None:
        expected = self._lab.pack.directory.parent / member
        if not filecmp.cmp(self._lab.directory / "member", expected, shallow=False):
            raise VerificationFailed(f"{member} is another")


def _named(kind: str, place: str) -> str:
    return f"{kind}, {place} file"
