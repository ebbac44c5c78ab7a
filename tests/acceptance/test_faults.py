"""A registry fails at each request of a commit: the cause is told, the draft is whole, and the
next commit sends what is missing.

ORASFS_FAULT_KINDS names the ways, ORASFS_FAULT_STEP that only each so-manieth request is tried (by
default all, but for those that stall).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import impatient
from tests.support.docker_registry import DockerRegistry
from tests.support.failing import KINDS, STALLED, FailingFront, Fault, RefusingFront
from tests.support.gestures import RemoteOne, commit, orasfs, refused, reports
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

TRIED = os.environ.get("ORASFS_FAULT_KINDS", " ".join((*KINDS, STALLED))).split()
STEP = os.environ.get("ORASFS_FAULT_STEP", "")
STALLED_STEP = 5  # each of those takes its time
ERRNOS = {
    "reset": {"EIO", "ECONNRESET"},
    "401": {"EACCES"},
    "429": {"EBUSY"},
    "500": {"EIO"},
    "503": {"EIO"},
    "stalled": {"ETIMEDOUT"},
}
UNREACHABLE = 5
MANY_SECONDS = 1200.0  # for those that stall, and wait for each other


@dataclass(frozen=True)
class Trial:
    """One draft, in a repository of its own, and its fault."""

    repository: RemoteOne
    draft: Path
    fault: Fault
    content: dict[str, bytes]

    def found(self) -> dict[str, bytes]:
        return _content(self.draft)


def _content(top: Path) -> dict[str, bytes]:
    files = [path for path in top.rglob("*") if path.is_file()]
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


def _begin(registry: DockerRegistry, mount: Path, host: str, fault: Fault) -> Trial:
    repository = RemoteOne(registry, host, f"team/{fault.kind}-{fault.first}")
    draft = repository.draft(mount, "v1")
    (draft / "docs").mkdir(parents=True)
    (draft / "docs/page").write_text(f"page {fault}")
    for name in ("one", "two"):
        (draft / name).write_bytes(os.urandom(200_000))
    return Trial(repository, draft, fault, _content(draft))


def _is_complete(registry: DockerRegistry, repository: RemoteOne) -> bool:
    manifest = json.loads(repository.manifest("v1"))
    blobs = [each["digest"] for each in (manifest["config"], *manifest["layers"])]
    paths = [f"/v2/{repository.name}/blobs/{digest}" for digest in blobs]
    return all(registry.request("HEAD", path)[0] == 200 for path in paths)


@pytest.mark.parametrize("kind", TRIED)
def test_each_request_of_a_commit_fails(kind: str, tmp_path: Path) -> None:
    with (
        DockerRegistry() as registry,
        FailingFront(registry.port) as front,
        Mounted(front.host, tmp_path, "tag_ttl=0", program=impatient.PROGRAM) as mounted,
    ):
        first = _begin(registry, mounted.path, front.host, Fault(0, "none"))
        front.counts.clear()
        commit(first.draft)
        requests = front.counts[first.repository.name]
        assert requests > 8
        step = int(STEP or (STALLED_STEP if kind == STALLED else 1))
        faults = [Fault(number, kind) for number in range(0, requests, step)]
        trials = [_begin(registry, mounted.path, front.host, fault) for fault in faults]
        front.counts.clear()
        front.uploads.clear()
        front.faults = {trial.repository.name: trial.fault for trial in trials}
        orasfs("commit", "-q", *(trial.draft for trial in trials), check=False,
               timeout=MANY_SECONDS)  # fmt: skip
        front.heal()
        by_name = {report["name"]: report for report in reports(mounted.path)}
        failed = [trial for trial in trials if _has_failed(trial, by_name)]
        assert len(failed) >= len(trials) * 2 // 3  # small blobs may be at hand by mounting
        for trial in trials:
            assert trial.found() == trial.content
            if "v1" in _tags(registry, trial.repository):
                assert _is_complete(registry, trial.repository)
        commit(*(trial.draft for trial in failed), timeout=MANY_SECONDS)
        for trial in trials:
            assert _is_complete(registry, trial.repository)
            assert trial.found() == trial.content
        assert not [each for each, times in front.uploads.items() if times > 1]


def test_each_connection_of_a_commit_is_refused(tmp_path: Path) -> None:
    """From each request on in turn nothing listens: no connection that is open helps."""
    with (
        DockerRegistry() as registry,
        RefusingFront(registry.port) as front,
        Mounted(front.host, tmp_path, "tag_ttl=0", program=impatient.PROGRAM) as mounted,
    ):
        first = _begin(registry, mounted.path, front.host, Fault(0, "none"))
        front.refuse_from(None)
        run(["sync", first.draft])
        requests = front.number
        assert requests > 8
        for number in range(0, requests, int(STEP or 1)):
            trial = _begin(registry, mounted.path, front.host, Fault(number, "refused"))
            front.refuse_from(number)
            done = run(["sync", trial.draft], check=False)
            assert trial.found() == trial.content
            if "v1" in _tags(registry, trial.repository):
                assert _is_complete(registry, trial.repository)
            else:
                assert "Connection refused" in done.stderr, number
                assert "refused" in (trial.draft / ".oras/error").read_text()
            front.refuse_from(None)
            front.start()
            run(["sync", trial.draft])
            assert _is_complete(registry, trial.repository)
            assert trial.found() == trial.content


def _has_failed(trial: Trial, by_name: dict[object, dict[str, object]]) -> bool:
    report = by_name[str(f"{trial.repository.source}/{trial.repository.name}:v1")]
    error = report["error"]
    if error is None:
        assert report["phase"] == "done"
        return False
    assert isinstance(error, dict)
    assert error["errno"] in ERRNOS[trial.fault.kind], error
    assert error["message"]
    return True


def _tags(registry: DockerRegistry, repository: RemoteOne) -> list[str]:
    _, _, body = registry.request("GET", f"/v2/{repository.name}/tags/list")
    return json.loads(body).get("tags") or []


def test_a_registry_that_is_away_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with DockerRegistry() as registry, Mounted(registry.host, tmp_path) as mounted:
        trial = _begin(registry, mounted.path, registry.host, Fault(0, "none"))
        registry.stop()
        status, said = refused(trial.draft)
        assert status == UNREACHABLE, said
        assert trial.found() == trial.content
        registry.start()
        commit(trial.draft)
        assert _is_complete(registry, trial.repository)
