"""The command line of the benchmark: chooses cases, runs them, reports, and cleans up."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

from scripts.benchmarks import archive, machine, memory, pagecache, plot
from scripts.benchmarks.archive import PackedRandom
from scripts.benchmarks.case import Case
from scripts.benchmarks.distance import FarRead
from scripts.benchmarks.finding import FindPacked
from scripts.benchmarks.lab import Lab, daemon_log
from scripts.benchmarks.many import ListMany
from scripts.benchmarks.mount import mount_points
from scripts.benchmarks.parts import PackedParts
from scripts.benchmarks.points import PackedPoints
from scripts.benchmarks.processes import ProgramFailed
from scripts.benchmarks.reading import ColdRead, WarmRead
from scripts.benchmarks.report import Report
from scripts.benchmarks.runner import CaseResult, run_case
from scripts.benchmarks.touching import (
    FirstBytesFar,
    FirstBytesSlow,
    FirstBytesWhole,
    RandomRead,
)
from scripts.benchmarks.unpacking import PackedCopy, PackedMember
from scripts.benchmarks.versions import SecondVersion
from scripts.benchmarks.writing import CommitFile, CommitTree


class Kind(Protocol):
    """A class of cases."""

    title: str

    def __call__(self, lab: Lab) -> Case:
        """Make the case."""
        ...


CASES: Mapping[str, Kind] = {
    FirstBytesWhole.name: FirstBytesWhole,
    FirstBytesSlow.name: FirstBytesSlow,
    FirstBytesFar.name: FirstBytesFar,
    RandomRead.name: RandomRead,
    FarRead.name: FarRead,
    ColdRead.name: ColdRead,
    WarmRead.name: WarmRead,
    FindPacked.name: FindPacked,
    ListMany.name: ListMany,
    PackedMember.name: PackedMember,
    PackedParts.name: PackedParts,
    PackedPoints.name: PackedPoints,
    PackedRandom.name: PackedRandom,
    PackedCopy.name: PackedCopy,
    CommitFile.name: CommitFile,
    CommitTree.name: CommitTree,
    SecondVersion.name: SecondVersion,
}
_RUNS = 3
# They are about memory and bytes, which hardly vary, and take minutes.
_FEWER_RUNS = {ListMany.name: 1, SecondVersion.name: 1}
_PROGRAMS = ("docker-registry", "curl", "diff", "find", "gzip", "tar", "fusermount3")
_COPIES_IN_MEMORY = 3  # of the large file: two in the kernel, and some room
_COPIES_OF_MODEL = 6  # the file, the registry's, an upload, the draft, the rival's, the check's
_DIRECTORY = Path("/var/tmp")  # noqa: S108 - on disk; a private directory is made in it
_LOG_SHOWN = 4000  # characters
_BYTES_PER_TREE_FILE = 200_000
_BYTES_PER_SMALL_FILE = 1_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 is a success, 1 wrong or missed results, 2 that it could not."""
    options = _parse(arguments)
    if options.list:
        print("\n".join(f"{name}: {case.title}" for name, case in CASES.items()))
        return 0
    lacking = _lacking(options)
    if lacking:
        print("\n".join(f"bench: {words}" for words in lacking), file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    directory = Path(tempfile.mkdtemp(prefix="orasfs-bench-", dir=options.directory))
    try:
        report = _measure(directory, options)
    except ProgramFailed as error:
        print(f"bench: {error}\n{daemon_log(directory)[-_LOG_SHOWN:]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        _remove(directory, keep=options.keep)
    print(report.as_text(), end="")
    if options.json:
        options.json.write_text(report.as_json())
    if options.text:
        options.text.write_text(report.as_text())
    if options.plot:
        plot.draw(report.results, options.plot)
    return 1 if report.failures or (options.check and report.missed) else 0


def _measure(directory: Path, options: argparse.Namespace) -> Report:
    described = machine.describe(directory)
    results: list[CaseResult] = []
    sizes = options.size, options.files
    with memory.kept() as is_kept, Lab(directory, *sizes, options.option, options.many) as lab:
        for name in options.cases or CASES:
            started = time.monotonic()
            runs = options.runs or _FEWER_RUNS.get(name, _RUNS)
            memory_bytes = _COPIES_IN_MEMORY * (options.size << 20)
            case = CASES[name](lab)
            results.append(run_case(case, runs, _progress, memory_bytes=memory_bytes))
            _progress(f"{name}: took {time.monotonic() - started:.0f} s")
            if results[-1].failure is not None:
                _progress(daemon_log(directory)[-_LOG_SHOWN:])
    facts: dict[str, int | str] = {"runs": options.runs or _RUNS, "size": options.size}
    facts |= {"files": options.files, "many": options.many}
    return Report(described, facts, results, _notes(is_memory_kept=is_kept))


def _remove(directory: Path, *, keep: bool) -> None:
    """Remove all data, but never through a mount that could not be ended."""
    if keep or any(point.is_relative_to(directory) for point in mount_points()):
        print(f"bench: data kept in {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory, ignore_errors=True)


def _notes(*, is_memory_kept: bool) -> tuple[str, ...]:
    notes = []
    if shutil.which("oras") is None:
        notes.append("oras is not on PATH; its Go library, where it is, and curl take its place")
    if archive.program() is None:
        notes.append("ratarmount is not installed: packed-random has no rival")
    if not pagecache.can_drop_all():
        notes.append("not root: cold reads of trees on disk find their directories in memory")
    if not is_memory_kept:
        notes.append("not root: who uses free memory waits for the host, which has it back")
    return tuple(notes)


def _lacking(options: argparse.Namespace) -> list[str]:
    """Say what keeps the benchmark from running."""
    lacking = [f"{name} is not installed" for name in _PROGRAMS if shutil.which(name) is None]
    if options.plot and not plot.can_draw():
        lacking.append("--plot needs matplotlib: pip install 'orasfs[bench]'")
    if not Path("/dev/fuse").exists():
        lacking.append("/dev/fuse is missing: the kernel module fuse is not loaded")
    needed = _COPIES_OF_MODEL * (options.size << 20) + options.files * _BYTES_PER_TREE_FILE
    needed += options.many * _BYTES_PER_SMALL_FILE
    free = shutil.disk_usage(options.directory).free
    if free < needed:
        lacking.append(
            f"{options.directory}: {free >> 20} MiB free, {needed >> 20} needed"
            " (--size, --files and --directory change that)"
        )
    return lacking


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure orasfs against its rivals, in one run."
    )
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} (default: all)")
    fewer = ", ".join(f"{count} of {name}" for name, count in _FEWER_RUNS.items())
    add("--runs", type=_positive, metavar="N", help=f"rounds (default: {_RUNS}; {fewer})")
    add("--size", type=_positive, default=1024, metavar="MIB", help="the large file's size")
    add("--files", type=_positive, default=20_000, metavar="N", help="files in the tree")
    add("--many", type=_positive, default=1_000_000, metavar="N", help="files of list-many")
    add("--directory", type=Path, default=_DIRECTORY, help="holds the data (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the report as JSON too")
    add("--text", type=Path, metavar="FILE", help="write the report as text too")
    add("-o", "--option", action="append", default=[], help="an option of each mount")
    add("--plot", type=Path, metavar="FILE", help="draw it as PNG too (needs matplotlib)")
    add("--list", action="store_true", help="say what is measured, and measure nothing")
    add("--keep", action="store_true", help="keep data, caches and logs")
    add("--check", action="store_true", help="make a missed target an error")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"no case is named {', '.join(unknown)}; there are {', '.join(CASES)}")
    return options


def _positive(words: str) -> int:
    number = int(words)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that everything is cleaned up."""
    del frame
    sys.exit(128 + number)
