"""What every test gets: strict logs, no leftovers, golden paths, hypothesis profiles.

A test that logs at WARNING or above fails unless it announced the line with `expect_log`; one that
announces a line which never comes fails too. A test must leave no thread behind, and a module of
tests no mount.
"""

import logging
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.golden import GOLDEN

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: whatever the tests start would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time: whether a change is accepted must not be chance. Others are looked
# for with --hypothesis-profile=fuzz.
settings.register_profile(
    "default",
    max_examples=100,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz", settings.get_profile("default"), max_examples=20_000, derandomize=False
)
settings.load_profile("default")

ExpectLog = Callable[[int, str], None]


@dataclass(slots=True)
class _LogWatch:
    """The loud records of one test, and what it announced of them."""

    expected: list[tuple[int, re.Pattern[str]]] = field(default_factory=list)
    records: list[logging.LogRecord] = field(default_factory=list)

    def complaints(self) -> list[str]:
        texts = [(record.levelno, record.getMessage()) for record in self.records]
        unexpected = [
            f"logged: {logging.getLevelName(level)} {text}"
            for level, text in texts
            if not any(level == wanted and rx.search(text) for wanted, rx in self.expected)
        ]
        missing = [
            f"never logged: {logging.getLevelName(wanted)} {rx.pattern}"
            for wanted, rx in self.expected
            if not any(level == wanted and rx.search(text) for level, text in texts)
        ]
        return unexpected + missing


class _Recorder(logging.Handler):
    """Keeps the records of WARNING and above."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


_WATCH = pytest.StashKey[_LogWatch]()
_BASE = pytest.StashKey[Path]()


@pytest.fixture
def expect_log(request: pytest.FixtureRequest) -> ExpectLog:
    """Announce that the test logs, at exactly `level`, a message that `pattern` is found in."""
    watch = request.node.stash.setdefault(_WATCH, _LogWatch())

    def expect(level: int, pattern: str) -> None:
        watch.expected.append((level, re.compile(pattern)))

    return expect


def _own_threads() -> set[threading.Thread]:
    """Return the threads that would keep the process alive."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed, but logged loudly or left threads running."""
    watch = item.stash.setdefault(_WATCH, _LogWatch())
    recorder = _Recorder(watch.records)
    threads_before = _own_threads()
    logging.getLogger().addHandler(recorder)
    try:
        result = yield
    finally:
        logging.getLogger().removeHandler(recorder)
    complaints = watch.complaints()
    complaints += [f"thread left: {thread.name}" for thread in _own_threads() - threads_before]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
    return result


def _mounts_below(directory: Path) -> set[str]:
    """Return the mount points below `directory` (proc_pid_mountinfo(5), field 5)."""
    mountinfo = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    points = {line.split(" ")[4].replace("\\040", " ") for line in mountinfo.splitlines()}
    return {point for point in points if point.startswith(f"{directory}/")}


@pytest.fixture(autouse=True, scope="session")
def _one_temporary_directory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Let `tempfile` work below pytest's directory, where leftover mounts are looked for."""
    before = tempfile.tempdir
    request.config.stash[_BASE] = tmp_path_factory.getbasetemp()
    tempfile.tempdir = str(request.config.stash[_BASE])
    yield
    tempfile.tempdir = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Fail the last test of a module that leaves a mount (its tests may share one)."""
    result = yield
    base = item.config.stash.get(_BASE, None)
    if base and (nextitem is None or nextitem.path != item.path):
        left = _mounts_below(base)
        if left:
            pytest.fail(f"mounts left: {sorted(left)}", pytrace=False)
    return result


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the directory of the golden artifacts (see its README.md)."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden_layout() -> Path:
    """Return the golden image layout."""
    return GOLDEN / "layout"


def _missing_for(marker: str) -> str:
    """Return what this machine lacks for tests with that marker, "" if nothing."""
    if marker == "fuse":
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "no usable /dev/fuse"
        return "" if shutil.which("fusermount3") else "no fusermount3"
    if marker == "registry":
        path = f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin"
        return "" if shutil.which("docker-registry", path=path) else "no docker-registry"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run.

    With ORASFS_TEST_ALL=1 nothing is skipped, so that a machine that should have everything
    (`scripts/test` installs it) cannot pass by skipping.
    """
    if os.environ.get("ORASFS_TEST_ALL") == "1":
        return
    missing = {marker: _missing_for(marker) for marker in ("fuse", "registry")}
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
