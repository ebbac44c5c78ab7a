"""The case that reads a large raw layer over a long way, on which one connection is slow."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.benchmarks.case import Better, Comparison, Contender, Gauge
from scripts.benchmarks.data import Blob, write_model
from scripts.benchmarks.lab import MODEL_TITLE, Lab
from scripts.benchmarks.link import Link
from scripts.benchmarks.processes import timed
from scripts.benchmarks.publish import Published, publish_file
from scripts.benchmarks.reading import read, verify
from scripts.benchmarks.session import Session
from scripts.benchmarks.shaping import Shape

_LEAST_MEBIBYTES = 65  # what is smaller comes in one stream, since it is verified first
_SHARE = 8
_SEED = 5
FAR = Shape(0.1, 100e6, 20e6)
TARGET = 0.75

MOUNT = "mount"
CURL = "curl to disk"


class FarRead:
    """First read of a raw layer over a long way, against a plain download."""

    name = "far-read"
    title = f"a raw layer read once over a link of {FAR}"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._link: Link | None = None
        size = lab.model_mebibytes
        self._mebibytes = max(min(_LEAST_MEBIBYTES, size), size // _SHARE)
        self._excess: list[float] = []

    @property
    def work(self) -> tuple[float, str]:
        """The layer's size."""
        return self._mebibytes, "MiB"

    def prepare(self) -> None:
        """Publish a layer that takes some seconds, and lay the link."""
        path = self._lab.fresh_directory("far") / MODEL_TITLE
        self._blob: Blob = write_model(path, self._mebibytes << 20, _SEED)
        near = publish_file(self._lab.registry, "bench/far", "v1", MODEL_TITLE, self._blob)
        self._link = self._lab.link(FAR)
        self._place: Published = replace(near, host=self._link.host)
        self._target = self._lab.fresh_directory("download")

    def contenders(self) -> Sequence[Contender]:
        """The mount, and one connection."""
        return (
            Contender(MOUNT, self._remount, self._read, self._verify_mount),
            Contender(CURL, self._session.clear, self._curl, self._verify_download),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """Several connections are to be quicker than one."""
        return (Comparison(MOUNT, CURL, Better.LOWER_TIME, TARGET),)

    def gauges(self) -> Sequence[Gauge]:
        """What was fetched beyond the layer, which is the price."""
        most = max(self._excess, default=0.0)
        return (Gauge("fetched beyond the layer", most, "MiB"), self._session.peak())

    def finish(self) -> None:
        """Unmount, and take the link down."""
        self._session.clear()
        for name in ("download", "far"):
            self._lab.fresh_directory(name)
        if self._link is not None:
            self._link.close()

    def _remount(self) -> None:
        self._session.clear()
        self._session.remount(self._place)
        if self._link is not None:
            self._link.take()

    def _read(self) -> float:
        return read(self._file(), self._blob.size)

    def _file(self) -> Path:
        return self._session.path(self._place) / MODEL_TITLE

    def _verify_mount(self) -> None:
        verify(self._file(), self._blob)
        if self._link is not None:
            self._excess.append(self._link.take().mebibytes - self._mebibytes)

    def _curl(self) -> float:
        url = self._place.blob_url(self._blob.digest)
        return timed(["curl", "-sSf", "-o", self._target / MODEL_TITLE, url])

    def _verify_download(self) -> None:
        verify(self._target / MODEL_TITLE, self._blob)
