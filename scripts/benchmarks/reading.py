"""The cases that read one large raw layer from its beginning to its end."""

import hashlib
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.benchmarks import pagecache
from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.data import Blob
from scripts.benchmarks.lab import MODEL_TITLE, Lab
from scripts.benchmarks.processes import run, timed
from scripts.benchmarks.session import Session
from tests.support.reference import ReferenceClient

_READER = Path(__file__).with_name("reader.py")
_WARM_PASSES = 5
COLD_TARGET = 1.5
COLD_READ_TARGET = 1.1
WARM_TARGET = 0.9
DROPPED_TARGET = 0.7

MOUNT = "mount"
MOUNT_SECOND = "mount, second read"
MOUNT_CACHED = "new mount, blob in the cache"
LOCAL = "local file, page cache"
MOUNT_COPY = "mount, second read by cp"
LOCAL_COPY = "local file by cp"
CURL = "curl to disk"
CURL_PULL = "curl to disk and sha256"
PULL_READ = "download, then read"
MOUNT_DROPPED = "new mount, page cache dropped"
LOCAL_DROPPED = "local file, page cache dropped"
CURL_NULL = "curl to /dev/null"


def pulling(client: ReferenceClient | None) -> str:
    """Return what a pull by the reference client is called."""
    return f"{client.name} pull" if client is not None else ""


def read(path: Path, size: int, passes: int = 1) -> float:
    """Read a file in a process of its own; return the seconds of one pass.

    Raises:
        VerificationFailed: it has another size.
    """
    words = run([sys.executable, "-S", _READER, path, str(passes)]).split()
    seconds, count = float(words[0]), int(words[1])
    if count != size:
        raise VerificationFailed(f"{count} bytes instead of {size}")
    return seconds


def verify(path: Path, blob: Blob) -> None:
    """Compare a file's digest; through a mount just read, these are the pages that were read."""
    with path.open("rb", buffering=0) as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if digest != blob.digest:
        raise VerificationFailed(f"digest {digest} instead of {blob.digest}")


def nothing() -> None:
    """Reset or verify where there is nothing to do."""


class ColdRead:
    """First read of a raw layer through a mount with an empty cache, against downloads."""

    name = "cold-read"
    title = "a raw layer read once through a new mount with an empty cache"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)

    @property
    def work(self) -> tuple[float, str]:
        """The layer's size."""
        return self._lab.model_mebibytes, "MiB"

    def prepare(self) -> None:
        """Publish the layer."""
        self._place = self._lab.published_model
        self._url = self._place.blob_url(self._lab.model.digest)
        self._target = self._lab.fresh_directory("download")

    def contenders(self) -> Sequence[Contender]:
        """The mount, and programs that bring the same bytes to the same disk."""
        client = self._lab.client
        pull = []
        if client is not None:
            pull = [Contender(pulling(client), self._reset, self._client, self._verify_download)]
        return (
            Contender(MOUNT, self._reset_mount, self._read, self._verify_mount),
            Contender(CURL, self._reset, self._curl, self._verify_download),
            *pull,
            *([] if self._lab.has_command else [self._pulls(CURL_PULL)]),
            Contender(PULL_READ, self._reset, self._pull_and_read, self._verify_download),
            Contender(CURL_NULL, self._reset, self._curl_null, nothing),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """The target is against the reference client; without it, against the bare download."""
        client = pulling(self._lab.client)
        targets = {client: COLD_TARGET, CURL: COLD_TARGET, PULL_READ: COLD_READ_TARGET}
        if self._lab.has_command:
            del targets[CURL]
        rivals = (client, CURL, CURL_PULL, PULL_READ, CURL_NULL)
        return tuple(
            Comparison(MOUNT, rival, Better.LOWER_TIME, targets.get(rival)) for rival in rivals
        )

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory while a layer is downloaded and read."""
        return (self._session.peak(),)

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._session.clear()
        self._lab.fresh_directory("download")

    def _reset(self) -> None:
        """Give all the same start: the blob in the registry's memory, no copy, an idle disk."""
        self._session.clear()
        run(["curl", "-sSf", "-o", self._target / "first", self._url])
        self._lab.fresh_directory("download")
        os.sync()

    def _reset_mount(self) -> None:
        self._reset()
        self._session.remount(self._place)

    def _read(self) -> float:
        return read(self._session.path(self._place) / MODEL_TITLE, self._lab.model.size)

    def _verify_mount(self) -> None:
        verify(self._session.path(self._place) / MODEL_TITLE, self._lab.model)

    def _curl(self) -> float:
        return timed(["curl", "-sSf", "-o", self._target / MODEL_TITLE, self._url])

    def _curl_null(self) -> float:
        return timed(["curl", "-sSf", "-o", "/dev/null", self._url])

    def _pulls(self, name: str) -> Contender:
        return Contender(name, self._reset, self._pull, self._verify_download)

    def _client(self) -> float:
        return self._lab.pull(self._place, self._target)

    def _pull(self) -> float:
        return self._lab.pull_model(self._target / MODEL_TITLE)

    def _pull_and_read(self) -> float:
        seconds = self._pull()
        return seconds + read(self._target / MODEL_TITLE, self._lab.model.size)

    def _verify_download(self) -> None:
        verify(self._target / MODEL_TITLE, self._lab.model)


class WarmRead:
    """Later reads of a raw layer: from the page cache, and by a new mount from the blob cache."""

    name = "warm-read"
    title = "the same layer read again"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._dropped: list[float] = []
        self._local_dropped: list[float] = []

    @property
    def work(self) -> tuple[float, str]:
        """The layer's size."""
        return self._lab.model_mebibytes, "MiB"

    def prepare(self) -> None:
        """Publish the layer and fill the cache."""
        self._place = self._lab.published_model
        self._session.clear()
        self._session.remount(self._place)
        read(self._file(), self._lab.model.size)

    def contenders(self) -> Sequence[Contender]:
        """Each reset makes the state: the page cache filled, or only the blob cache's file."""
        return (
            Contender(MOUNT_DROPPED, self._reset_dropped, self._read_dropped, self._verify),
            Contender(LOCAL_DROPPED, self._drop_local, self._read_local_once, nothing),
            Contender(MOUNT_CACHED, self._reset_cached, self._read_once, self._verify),
            Contender(MOUNT_SECOND, self._reset_second, self._read_often, self._verify),
            Contender(LOCAL, self._reset_local, self._read_local, nothing),
            Contender(MOUNT_COPY, self._reset_second, self._copy_second, self._verify_copy),
            Contender(LOCAL_COPY, self._reset_local, self._copy_local, self._verify_copy),
        )

    def comparisons(self) -> Sequence[Comparison]:
        """As fast as a local file is, within noise: the reading alone, and for a use of it."""
        return (
            Comparison(MOUNT_SECOND, LOCAL, Better.HIGHER_SPEED, WARM_TARGET),
            Comparison(MOUNT_COPY, LOCAL_COPY, Better.HIGHER_SPEED, WARM_TARGET),
            Comparison(MOUNT_DROPPED, LOCAL_DROPPED, Better.HIGHER_SPEED),
            Comparison(MOUNT_CACHED, LOCAL, Better.HIGHER_SPEED),
        )

    def gauges(self) -> Sequence[Gauge]:
        """Reading from disk, which need not outrun it, and the daemon's memory."""
        mounted = statistics.median(self._dropped or [0.0])
        local = statistics.median(self._local_dropped or [1.0])
        share = min(mounted / (self._lab.model.size / 1e9), DROPPED_TARGET * mounted / local)
        words = f"page cache dropped, of what 1 GB/s or {DROPPED_TARGET:g} of the disk take"
        return (Gauge(words, 100 * share, "%", 100), self._session.peak())

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._session.clear()
        self._lab.fresh_directory("copy")

    def _file(self) -> Path:
        return self._session.path(self._place) / MODEL_TITLE

    def _reset_cached(self) -> None:
        algorithm, encoded = self._lab.model.digest.split(":")
        self._session.remount(self._place)
        pagecache.warm(self._session.cache / "blobs" / algorithm / encoded)

    def _reset_dropped(self) -> None:
        self._session.remount(self._place)
        pagecache.drop(self._session.cache)

    def _read_dropped(self) -> float:
        self._dropped.append(self._read_once())
        return self._dropped[-1]

    def _drop_local(self) -> None:
        pagecache.drop(self._lab.model.path)

    def _read_local_once(self) -> float:
        self._local_dropped.append(read(self._lab.model.path, self._lab.model.size))
        return self._local_dropped[-1]

    def _reset_second(self) -> None:
        pagecache.warm(self._file())

    def _reset_local(self) -> None:
        pagecache.warm(self._lab.model.path)

    def _read_once(self) -> float:
        return read(self._file(), self._lab.model.size)

    def _read_often(self) -> float:
        return read(self._file(), self._lab.model.size, _WARM_PASSES)

    def _read_local(self) -> float:
        return read(self._lab.model.path, self._lab.model.size, _WARM_PASSES)

    def _copy_second(self) -> float:
        return self._copy(self._file())

    def _copy_local(self) -> float:
        return self._copy(self._lab.model.path)

    def _copy(self, source: Path) -> float:
        return timed(["cp", source, self._lab.fresh_directory("copy") / MODEL_TITLE])

    def _verify_copy(self) -> None:
        verify(self._lab.directory / "copy" / MODEL_TITLE, self._lab.model)
        self._lab.fresh_directory("copy")  # before it is written to disk under the next contender

    def _verify(self) -> None:
        verify(self._file(), self._lab.model)
