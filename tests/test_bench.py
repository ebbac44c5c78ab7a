import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scripts.benchmarks import machine, memory
from scripts.benchmarks.case import (
    Better,
    Case,
    Comparison,
    Contender,
    Gauge,
    VerificationFailed,
)
from scripts.benchmarks.data import write_model, write_tree
from scripts.benchmarks.processes import Daemon, ProgramFailed, run, wait_until
from scripts.benchmarks.reading import read, verify
from scripts.benchmarks.report import Report
from scripts.benchmarks.runner import CaseResult, Timing, compare, run_case
from tests.support.publish import digest_of

CASES = [
    *("first-bytes", "first-bytes-slow", "first-bytes-far", "random-read"),
    "far-read",
    *("cold-read", "warm-read", "find-packed", "list-many"),
    *("packed-member", "packed-parts", "packed-points", "packed-random", "packed-copy"),
    *("commit-file", "commit-tree", "second-version"),
]
BENCH = Path(__file__).parent.parent / "scripts" / "bench"


class ScriptedCase:
    """A case whose contenders take the times that a test says, and note what they do."""

    name = "scripted"
    title = "made up"
    work = (10.0, "MiB")

    def __init__(self, times: dict[str, list[float]], *, wrong: str = "") -> None:
        self.times = {name: list(seconds) for name, seconds in times.items()}
        self.wrong = wrong
        self.did: list[str] = []

    def prepare(self) -> None:
        self.did.append("prepare")

    def contenders(self) -> Sequence[Contender]:
        return [
            Contender(name, self._note("reset", name), self._run(name), self._verify(name))
            for name in self.times
        ]

    def comparisons(self) -> Sequence[Comparison]:
        return [
            Comparison("a", "b", Better.LOWER_TIME, 1.5),
            Comparison("a", "absent", Better.LOWER_TIME),
        ]

    def gauges(self) -> Sequence[Gauge]:
        return [Gauge("memory", 151.0, "MiB", 150.0)]

    def finish(self) -> None:
        self.did.append("finish")

    def _note(self, what: str, name: str) -> Callable[[], None]:
        return lambda: self.did.append(f"{what} {name}")

    def _run(self, name: str) -> Callable[[], float]:
        def run_one() -> float:
            self.did.append(f"run {name}")
            return self.times[name].pop(0)

        return run_one

    def _verify(self, name: str) -> Callable[[], None]:
        def verify_one() -> None:
            self.did.append(f"verify {name}")
            if name == self.wrong:
                raise VerificationFailed("other bytes")

        return verify_one


def silent(words: str) -> None:
    """Take progress and show none."""


def run_scripted(times: dict[str, list[float]], runs: int, *, wrong: str = "") -> CaseResult:
    case: Case = ScriptedCase(times, wrong=wrong)
    return run_case(case, runs, silent)


def test_contenders_take_turns_and_each_turn_is_verified() -> None:
    case = ScriptedCase({"a": [1.0, 1.0], "b": [1.0, 1.0]})
    run_case(case, 2, silent)
    turn = ["reset a", "run a", "verify a", "reset b", "run b", "verify b"]
    assert case.did == ["prepare", *turn, *turn, "finish"]


def test_ratios_are_of_medians_and_of_neighbouring_runs() -> None:
    result = run_scripted({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 4.0]}, 3)
    (ratio,) = result.ratios
    assert ratio.of_medians == 4.0 / 3.0
    assert ratio.median_of_pairs == 2.0
    assert ratio.met is True


def test_a_comparison_of_speeds_is_the_rivals_time_over_the_subjects() -> None:
    timings = [Timing("a", (2.0,)), Timing("b", (1.0,))]
    ratio = compare(timings, Comparison("a", "b", Better.HIGHER_SPEED, 0.9))
    assert ratio is not None
    assert (ratio.of_medians, ratio.median_of_pairs, ratio.met) == (0.5, 0.5, False)


def test_a_wrong_answer_is_a_failure_without_numbers_and_still_cleaned_up() -> None:
    case = ScriptedCase({"a": [1.0], "b": [0.1]}, wrong="b")
    result = run_case(case, 1, silent)
    assert result.failure == "b: other bytes"
    assert (result.timings, result.ratios) == ((), ())
    assert case.did[-1] == "finish"


def test_the_report_names_what_failed_and_what_missed_its_target() -> None:
    slow = run_scripted({"a": [2.0], "b": [1.0]}, 1)
    wrong = run_scripted({"a": [2.0], "b": [1.0]}, 1, wrong="a")
    report = Report({"cpu": "x"}, {"runs": 1}, [slow, wrong])
    document = json.loads(report.as_json())
    assert document["failures"] == ["scripted: a: other bytes"]
    assert document["missed"][:2] == ["scripted: a / b", "scripted: memory"]
    assert document["cases"][0]["contenders"][0]["rate"] == 5.0
    assert "MISSED" in report.as_text()
    assert "FAILED scripted: a: other bytes" in report.as_text()


def test_data_follows_from_the_seed(tmp_path: Path) -> None:
    first = write_model(tmp_path / "one", 3 << 20, seed=7)
    again = write_model(tmp_path / "two", 3 << 20, seed=7)
    other = write_model(tmp_path / "three", 3 << 20, seed=8)
    assert first.digest == again.digest == digest_of(first.path)
    assert other.digest != first.digest


def test_the_packed_tree_is_the_tree_on_disk(tmp_path: Path) -> None:
    packed = write_tree(tmp_path, "usr", 60)
    assert packed.blob.digest == digest_of(packed.blob.path)
    with tarfile.open(packed.blob.path, "r:gz") as tar:
        members = {member.name: member for member in tar}
    (tmp_path / "out").mkdir()
    unpack = ["tar", "-xzf", str(packed.blob.path), "-C", str(tmp_path / "out")]
    subprocess.run(unpack, check=True, timeout=60)
    on_disk = {"usr"} | {
        f"usr/{p.relative_to(packed.directory)}" for p in packed.directory.rglob("*")
    }
    assert set(members) == on_disk
    assert sum(member.isfile() for member in members.values()) == packed.files == 60
    assert any(member.issym() for member in members.values())
    for path in packed.directory.rglob("*"):
        if path.is_file():
            assert (
                tmp_path / "out" / path.relative_to(tmp_path)
            ).read_bytes() == path.read_bytes()


def test_reading_the_wrong_bytes_is_noticed(tmp_path: Path) -> None:
    blob = write_model(tmp_path / "model", 2_000_000)
    assert read(blob.path, blob.size, passes=2) > 0
    verify(blob.path, blob)
    with pytest.raises(VerificationFailed, match="2000000 bytes instead of 1"):
        read(blob.path, 1)
    with blob.path.open("r+b") as file:
        file.write(b"something else")
    with pytest.raises(VerificationFailed, match="instead of sha256:"):
        verify(blob.path, blob)


def test_programs_that_fail_or_hang_are_an_error() -> None:
    with pytest.raises(ProgramFailed, match="exit status 3: why"):
        run(["sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(ProgramFailed, match="no answer"):
        run(["sleep", "20"], deadline_seconds=0.05)
    with pytest.raises(ProgramFailed, match="the moon: not within"):
        wait_until(lambda: False, "the moon", deadline_seconds=0.05)


def test_a_daemon_is_ended_and_its_last_words_kept(tmp_path: Path) -> None:
    daemon = Daemon(["sh", "-c", "echo hello; exec sleep 60"], tmp_path / "log", {})
    wait_until(lambda: "hello" in daemon.last_words(), "its words")
    assert daemon.is_running()
    daemon.stop()
    assert not daemon.is_running()


def test_the_machine_is_described_without_its_name(tmp_path: Path) -> None:
    facts = machine.describe(tmp_path)
    assert {"cpu", "cores", "memory", "kernel", "filesystem", "python", "pyfuse3"} <= set(facts)
    assert all(facts.values())


def test_an_unknown_case_is_refused_with_the_names_of_all() -> None:
    done = subprocess.run(
        [sys.executable, BENCH, "teleport"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert ", ".join(CASES) in done.stderr


@pytest.mark.slow
@pytest.mark.fuse
@pytest.mark.registry
def test_a_small_run_gives_all_cases_in_json_and_leaves_nothing(tmp_path: Path) -> None:
    out, data = tmp_path / "report.json", tmp_path / "data"
    data.mkdir()
    sizes = ["--size", "8", "--files", "300", "--many", "1000", "--runs", "1"]
    done = subprocess.run(
        [sys.executable, BENCH, *sizes, "--directory", data, "--json", out],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert document["version"] == 1
    assert document["failures"] == []
    assert document["options"] == {"runs": 1, "size": 8, "files": 300, "many": 1000}
    cases = {case["name"]: case for case in document["cases"]}
    assert list(cases) == CASES
    for case in cases.values():
        assert all(len(one["seconds"]) == 1 for one in case["contenders"])
        assert case["ratios"] or case["name"] == "second-version", "bytes count there"
        peak = case["gauges"][-1]
        assert 10 < peak["value"] < 1000
    assert [ratio["target"] for ratio in cases["warm-read"]["ratios"]] == [0.9, 0.9, None, None]
    assert cases["first-bytes"]["gauges"][0]["value"] > 0
    assert cases["first-bytes"]["gauges"][1]["value"] == 4, "requests"
    passed = {gauge["name"]: gauge for gauge in cases["second-version"]["gauges"]}
    for name in ("sent, pack=files", "received, pack=files"):
        assert 0 < passed[name]["value"] < passed[name]["limit"] == 15
    assert "## find-packed" in done.stdout
    assert not list(data.iterdir())


def test_the_kernel_keeps_its_free_memory_while_something_is_measured(tmp_path: Path) -> None:
    reporting = tmp_path / "page_reporting_order"
    reporting.write_text("9\n")

    with memory.kept(reporting) as is_kept:
        during = reporting.read_text()

    assert is_kept
    assert during == "11"
    assert reporting.read_text() == "9"


def test_memory_that_the_kernel_goes_on_giving_back_is_told(tmp_path: Path) -> None:
    class Refusing(type(tmp_path)):  # type: ignore[misc]  # the class depends on the platform
        def write_text(self, *_: object, **__: object) -> int:
            raise PermissionError

    reporting = Refusing(tmp_path / "page_reporting_order")
    reporting.open("x").close()

    with memory.kept(reporting) as is_kept:
        pass

    assert not is_kept


def test_a_kernel_that_gives_no_memory_back_keeps_it(tmp_path: Path) -> None:
    with memory.kept(tmp_path / "none") as is_kept:
        assert is_kept
