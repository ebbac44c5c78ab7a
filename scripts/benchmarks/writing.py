"""The cases that push: a large file, and a directory of many small ones.

A run copies into a draft (for rivals: to local disk), which ends with the last close, and commits.
It is timed twice, from its beginning and from the last close; both times come from one run.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.benchmarks.case import Better, Comparison, Contender, Gauge, VerificationFailed
from scripts.benchmarks.data import Blob
from scripts.benchmarks.finding import PRINT
from scripts.benchmarks.lab import Lab
from scripts.benchmarks.processes import ProgramFailed, run
from scripts.benchmarks.publish import TITLE, Published
from scripts.benchmarks.reading import nothing, verify
from scripts.benchmarks.rivals import Rival, rivals
from scripts.benchmarks.session import Session
from tests.support.publish import OCI_MANIFEST

COMMIT_TARGET = 1.2
EAGER_TARGET = 0.5  # of a file: a directory cannot be packed before it is complete
ORASFS = "orasfs commit"
EAGER = "orasfs commit, -o eager"
FROM_CLOSE = "from the last close"
IN_ALL = "in all"


def named(program: str, part: str) -> str:
    """Return the name of a contender."""
    return f"{program}, {part}"


class _Commit:
    """What both cases have in common; they say what is copied and when it has arrived."""

    name: str
    source: Path
    eager_target: float | None = None

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = Session(lab, self.name)
        self._pushes = 0
        self._place = Published(lab.registry.host, "bench/none", "v1")
        self._seconds: dict[str, float] = {}

    def _check(self, layer: Path, *, attributes: bool) -> None:
        """Compare a layer as it was downloaded, of which the digest is right, with the source."""
        raise NotImplementedError

    def contenders(self) -> Sequence[Contender]:
        """The mount, and programs that push the same to the same registry, each timed twice."""
        found = self._twice(ORASFS, self._remount, self._copy_into_draft, self._commit)
        found += self._twice(EAGER, self._remount_eager, self._copy_into_draft, self._commit)
        for rival in self._rivals:
            found += self._twice(
                rival.name,
                self._renew,
                self._copy_to_disk,
                self._pusher(rival),
                attributes=rival.keeps_attributes,
            )
        return found

    def comparisons(self) -> Sequence[Comparison]:
        """The target is against the reference client, and what does its steps with curl."""
        return tuple(
            Comparison(
                named(ours, part),
                named(rival.name, part),
                Better.LOWER_TIME,
                self._target(ours, rival) if part == FROM_CLOSE else None,
            )
            for ours in (ORASFS, EAGER)
            for rival in self._rivals
            for part in (FROM_CLOSE, IN_ALL)
        )

    def _target(self, ours: str, rival: Rival) -> float | None:
        if not rival.is_reference:
            return None
        if ours == ORASFS:
            return COMMIT_TARGET
        return EAGER_TARGET if rival.is_client else self.eager_target

    def gauges(self) -> Sequence[Gauge]:
        """The daemon's memory while it takes what is written, and pushes it."""
        return (self._session.peak(),)

    def finish(self) -> None:
        """Unmount and drop the copies."""
        self._session.clear()
        for name in ("work", "pulled", "spool"):
            self._lab.fresh_directory(name)

    @property
    def _rivals(self) -> Sequence[Rival]:
        return rivals(self._lab.registry, self._lab.directory / "spool", self._lab.client)

    def _twice(
        self,
        program: str,
        reset: Callable[[], None],
        copy: Callable[[], None],
        push: Callable[[], None],
        *,
        attributes: bool = True,
    ) -> list[Contender]:
        """Return two contenders, the second of which states the other time of the same run."""

        def run_both() -> float:
            begin = time.perf_counter()
            copy()
            closed = time.perf_counter()
            push()
            end = time.perf_counter()
            self._seconds[program] = end - begin
            return end - closed

        def verify_all() -> None:
            self._verify(attributes=attributes)

        return [
            Contender(named(program, FROM_CLOSE), reset, run_both, verify_all),
            Contender(named(program, IN_ALL), nothing, lambda: self._seconds[program], nothing),
        ]

    def _renew(self) -> None:
        """Give all the same start: a repository without blobs, no copies, an idle disk."""
        self._session.clear()
        for name in ("work", "pulled", "spool"):
            self._lab.fresh_directory(name)
        self._pushes += 1
        self._place = Published(self._lab.registry.host, f"bench/{self.name}-{self._pushes}", "v1")
        run(["sync"])

    def _remount(self) -> None:
        self._renew()
        self._session.remount(self._place)

    def _remount_eager(self) -> None:
        self._renew()
        self._session.remount(self._place, "eager")

    @property
    def _draft(self) -> Path:
        path = self._session.path(self._place)
        return path.parent.with_name(f"{path.parent.name}:{path.name}")

    def _copy_into_draft(self) -> None:
        self._draft.mkdir()
        run(["cp", "-a", self.source, self._draft])

    def _commit(self) -> None:
        run([sys.executable, "-m", "orasfs", "commit", "-q", self._draft])

    def _copy_to_disk(self) -> None:
        run(["cp", "-a", self.source, self._lab.directory / "work"])

    def _pusher(self, rival: Rival) -> Callable[[], None]:
        return lambda: rival.push(self._lab.directory / "work" / self.source.name, self._place)

    def _verify(self, *, attributes: bool) -> None:
        """Look at what the registry has, as anybody who pulls it."""
        path = f"/v2/{self._place.repository}/manifests/{self._place.tag}"
        status, _, raw = self._lab.registry.request("GET", path, headers={"Accept": OCI_MANIFEST})
        if status != 200:
            raise VerificationFailed(f"the registry has no {self._place.reference}: {status}")
        (layer,) = json.loads(raw)["layers"]
        if layer["annotations"][TITLE] != self.source.name:
            raise VerificationFailed(f"the layer is titled {layer['annotations'][TITLE]!r}")
        target = self._lab.fresh_directory("pulled") / "layer"
        run(["curl", "-sSf", "-o", target, self._place.blob_url(layer["digest"])])
        verify(target, Blob(target, layer["digest"], layer["size"]))
        self._check(target, attributes=attributes)
        self._lab.fresh_directory("pulled")


class CommitFile(_Commit):
    """A large file that becomes a raw layer."""

    name = "commit-file"
    title = "a file copied into a draft and committed"
    eager_target = EAGER_TARGET

    @property
    def work(self) -> tuple[float, str]:
        """The file's size."""
        return self._lab.model_mebibytes, "MiB"

    def prepare(self) -> None:
        """Let the registry have the blob, in another repository: keeping it costs all the same."""
        self.source = self._lab.model.path
        self._place = self._lab.published_model

    def _check(self, layer: Path, *, attributes: bool) -> None:
        del attributes  # a raw layer has none
        verify(layer, self._lab.model)


class CommitTree(_Commit):
    """A directory of many files that becomes a packed layer."""

    name = "commit-tree"
    title = "a directory copied into a draft and committed"

    @property
    def work(self) -> tuple[float, str]:
        """The number of files; directories and links come on top."""
        return self._lab.tree_files, "files"

    def prepare(self) -> None:
        """Make the tree, and learn what a right listing is."""
        self.source = self._lab.tree.directory
        self._expected = _listed(self.source)

    def _check(self, layer: Path, *, attributes: bool) -> None:
        """Restore the tree, and compare it: names, kinds, modes, times, links, then bytes."""
        parent = layer.parent
        run(["tar", "-xzpf", layer, "-C", parent])
        restored = parent / self.source.name
        if attributes and _listed(restored) != self._expected:
            raise VerificationFailed("the listing of what was restored is another one")
        try:
            run(["diff", "-r", "--no-dereference", self.source, restored])
        except ProgramFailed as error:
            raise VerificationFailed(f"what was restored differs: {error}") from error


def _listed(root: Path) -> list[str]:
    return sorted(run(["find", root, *PRINT]).splitlines())
