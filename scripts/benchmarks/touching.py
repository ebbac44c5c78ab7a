"""The cases that read a little of a large raw layer: its first bytes, and places all over it.

What counts here is what crosses the link: requests and bytes, so they go by a counted one.
"""

import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.lab import MODEL_TITLE, Lab
from scripts.benchmarks.link import Link, Traffic
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.publish import Published
from scripts.benchmarks.reading import CURL_PULL, pulling, verify
from scripts.benchmarks.session import Session
from scripts.benchmarks.shaping import Shape

_HEAD_BYTES = 4096
_READS = 1000
_SEED = 11
_TOUCHER = Path(__file__).with_name("toucher.py")
FIRST_TARGET = 1 / 50
FIRST_MEBIBYTES = 2.0
FIRST_REQUESTS = 4.0
SLOW = Shape(delay_seconds=0.02, bytes_per_second=3e6)
FAR = Shape(delay_seconds=0.1, bytes_per_second=100e6)
SLOW_SECONDS = 1.0
RANDOM_SHARE = 0.4

MOUNT = "mount"
CURL_RANGE = "curl of these bytes"
PULL_FIRST = "curl to disk, then the same reads"


class FirstBytes:
    """`head -c 4096` of a layer in no cache, by a mount that has asked for nothing before."""

    name = "first-bytes"
    title = "head -c 4096 of a raw layer, by a new mount with an empty cache"
    shape = Shape()
    limit_seconds: float | None = None

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._output = lab.directory / "head"
        self._traffic: list[Traffic] = []
        self._seconds: list[float] = []
        self._link: Link | None = None

    @property
    def work(self) -> tuple[float, str]:
        """One file."""
        return 1, "files"

    def prepare(self) -> None:
        """Publish the layer, and lay the link."""
        self._link = self._lab.link(self.shape)
        there = replace(self._lab.published_model, host=self._link.host)
        self._url = there.blob_url(self._lab.model.digest)
        # A mount of the repository: it need not be found out which one the path names.
        self._far = Published(f"{there.host}/{there.repository}", "", there.tag)
        self._target = self._lab.fresh_directory("download")
        with self._lab.model.path.open("rb") as file:
            self._expected = file.read(_HEAD_BYTES)

    def contenders(self) -> Sequence[Contender]:
        """The mount, and a download of just these bytes, whose address is known."""
        return (
            Contender(MOUNT, self._remount, self._head, self._verify),
            Contender(CURL_RANGE, self._session.clear, self._range, self._verify_bytes),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """How much the names before the bytes cost."""
        return (Comparison(MOUNT, CURL_RANGE, Better.LOWER_TIME),)

    def gauges(self) -> Sequence[Gauge]:
        """What crossed the link, the most of all runs, and how long it took at a set distance."""
        found = [
            Gauge(
                "fetched for it",
                max((each.mebibytes for each in self._traffic), default=0.0),
                "MiB",
                FIRST_MEBIBYTES,
            ),
            Gauge(
                "requests one after the other",
                max((len(each.requests) for each in self._traffic), default=0),
                "",
                FIRST_REQUESTS,
            ),
            Gauge("connections", max((each.connections for each in self._traffic), default=0), ""),
        ]
        if self.limit_seconds is not None:
            slowest = max(self._seconds, default=0.0)
            found.append(Gauge("slowest run", slowest, "s", self.limit_seconds))
        return (*found, self._session.peak())

    def finish(self) -> None:
        """Unmount, and take the link down."""
        self._session.clear()
        self._lab.fresh_directory("download")
        if self._link is not None:
            self._link.close()

    def _remount(self) -> None:
        self._session.clear()
        self._session.remount(self._far, "plain_http")
        self._taken()

    def _head(self) -> float:
        path = self._session.path(self._far) / MODEL_TITLE
        with self._output.open("wb") as output:
            seconds = timed(["head", "-c", str(_HEAD_BYTES), path], output=output)
        self._seconds.append(seconds)
        return seconds

    def _verify(self) -> None:
        self._verify_bytes()
        self._session.unmount()  # with all that was asked for beyond
        self._traffic.append(self._taken())

    def _range(self) -> float:
        span = f"0-{_HEAD_BYTES - 1}"
        return timed(["curl", "-sSf", "-r", span, "-o", self._output, self._url])

    def _verify_bytes(self) -> None:
        if self._output.read_bytes() != self._expected:
            raise VerificationFailed("other bytes")

    def _taken(self) -> Traffic:
        if self._link is None:
            raise AssertionError("there is no link: prepare is missing")
        return self._link.take()


class FirstBytesWhole(FirstBytes):
    """The same beside a download of the whole, on a link as fast as it gets."""

    def contenders(self) -> Sequence[Contender]:
        """The whole as well, straight from the registry: a link would only make it slower."""
        rival = pulling(self._lab.client) or CURL_PULL
        whole = Contender(rival, self._reset_whole, self._whole, self._verify_whole)
        return (*super().contenders(), whole)

    def comparisons(self) -> Sequence[Comparison]:
        """A look at the first bytes must not cost what the whole does."""
        rival = pulling(self._lab.client) or CURL_PULL
        whole = Comparison(MOUNT, rival, Better.LOWER_TIME, FIRST_TARGET)
        return (whole, *super().comparisons())

    def _reset_whole(self) -> None:
        self._session.clear()
        self._lab.fresh_directory("download")
        self._lab.warm_model()

    def _whole(self) -> float:
        if self._lab.client is not None:
            return self._lab.pull(self._lab.published_model, self._target)
        return self._lab.pull_model(self._target / MODEL_TITLE)

    def _verify_whole(self) -> None:
        verify(self._target / MODEL_TITLE, self._lab.model)


class FirstBytesSlow(FirstBytes):
    """The same over a slow link."""

    name = "first-bytes-slow"
    title = f"the same over a link of {SLOW}"
    shape = SLOW
    limit_seconds = SLOW_SECONDS


class FirstBytesFar(FirstBytes):
    """The same over a long link: the time is round trips."""

    name = "first-bytes-far"
    title = f"the same over a link of {FAR}"
    shape = FAR
    limit_seconds = SLOW_SECONDS


class RandomRead:
    """4 KiB at a thousand places of a layer in no cache."""

    name = "random-read"
    title = "1,000 reads of 4 KiB all over a raw layer, with an empty cache"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._places = lab.directory / "places"
        self._output = lab.directory / "touched"
        self._shares: list[float] = []
        self._link: Link | None = None

    @property
    def work(self) -> tuple[float, str]:
        """The reads."""
        return _READS, "reads"

    def prepare(self) -> None:
        """Publish the layer, and choose the places."""
        self._link = self._lab.link(Shape())
        self._far = replace(self._lab.published_model, host=self._link.host)
        chosen = random.Random(_SEED)  # noqa: S311 - repeatable, not secret
        last = max(1, self._lab.model.size // _HEAD_BYTES)
        places = [chosen.randrange(last) * _HEAD_BYTES for _ in range(_READS)]
        self._places.write_text("".join(f"{place}\n" for place in places))
        fd = os.open(self._lab.model.path, os.O_RDONLY)
        try:
            self._expected = b"".join(os.pread(fd, _HEAD_BYTES, place) for place in places)
        finally:
            os.close(fd)

    def contenders(self) -> Sequence[Contender]:
        """The mount, and a download of the whole before the first read."""
        return (
            Contender(MOUNT, self._remount, self._touch_mount, self._verify_mount),
            Contender(PULL_FIRST, self._reset, self._pull_and_touch, self._verify),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """Information: here the whole comes in a second, and a thousand requests take theirs."""
        return (Comparison(MOUNT, PULL_FIRST, Better.LOWER_TIME),)

    def gauges(self) -> Sequence[Gauge]:
        """The share of the layer that was fetched, and the daemon's memory."""
        share = max(self._shares, default=0.0)
        return (
            Gauge("fetched of the layer", 100 * share, "%", 100 * RANDOM_SHARE),
            self._session.peak(),
        )

    def finish(self) -> None:
        """Unmount, and take the link down."""
        self._session.clear()
        self._lab.fresh_directory("download")
        if self._link is not None:
            self._link.close()

    def _reset(self) -> None:
        self._session.clear()
        self._target = self._lab.fresh_directory("download")
        self._lab.warm_model()

    def _remount(self) -> None:
        self._session.clear()
        self._session.remount(self._far)
        if self._link is not None:
            self._link.take()

    def _touch(self, path: Path) -> float:
        argv: list[str | Path] = [sys.executable, "-S", _TOUCHER, path, self._places]
        with self._output.open("wb") as output:
            start = time.perf_counter()
            run([*argv, str(_HEAD_BYTES)], output=output)
            return time.perf_counter() - start

    def _touch_mount(self) -> float:
        return self._touch(self._session.path(self._far) / MODEL_TITLE)

    def _pull_and_touch(self) -> float:
        path = self._target / MODEL_TITLE
        return self._lab.pull_model(path) + self._touch(path)

    def _verify_mount(self) -> None:
        self._verify()
        self._session.unmount()
        if self._link is not None:
            self._shares.append(self._link.take().bytes_down / self._lab.model.size)

    def _verify(self) -> None:
        if self._output.read_bytes() != self._expected:
            raise VerificationFailed("other bytes")
