"""Starts programs with deadlines, and ends only what it started.

INVARIANT: nothing here waits for ever. A process that waits in a mount that does not answer cannot
be killed before the daemon is: so on a deadline it is signalled and left, and the mount is ended.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

DEADLINE_SECONDS = 300.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02


class ProgramFailed(Exception):
    """A program ended with an error, or did not end in time; the message has its last words."""


def run(
    argv: Sequence[str | Path],
    *,
    output: IO[bytes] | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> str:
    """Run a program and return its output ("" if that goes to a file).

    Raises:
        ProgramFailed: it failed or took too long.
    """
    started = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"LC_ALL": "C"},
    )
    try:
        out, err = started.communicate(timeout=deadline_seconds)
    except subprocess.TimeoutExpired:
        _abandon(started)
        raise ProgramFailed(f"{argv[0]}: no answer in {deadline_seconds:.0f} s") from None
    if started.returncode != 0:
        words = err.decode(errors="replace").strip()[-500:]
        raise ProgramFailed(f"{argv[0]}: exit status {started.returncode}: {words}")
    return (out or b"").decode(errors="replace")


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kill a process without waiting longer than a moment for its end."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def timed(argv: Sequence[str | Path], *, output: IO[bytes] | None = None) -> float:
    """Run a program and return how many seconds it took, its start and end included."""
    start = time.perf_counter()
    run(argv, output=output)
    return time.perf_counter() - start


def wait_until(condition: Callable[[], bool], what: str, deadline_seconds: float = 30.0) -> None:
    """Poll until the condition holds.

    Raises:
        ProgramFailed: it did not within the deadline.
    """
    pause = threading.Event()
    end = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() > end:
            raise ProgramFailed(f"{what}: not within {deadline_seconds:.0f} s")
        pause.wait(_POLL_SECONDS)


class Daemon:
    """A process that runs in the background, with its output in a log file."""

    def __init__(self, argv: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> None:
        """Start it in a session of its own, so that a Ctrl-C is ours to pass on in order."""
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | dict(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-2000:].strip()

    def has_ended(self, within_seconds: float = _STOP_SECONDS) -> bool:
        """Wait for the end, but not longer than that; tell whether it came."""
        try:
            self._process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if that does not do."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.is_running():
                self._process.send_signal(number)
                self.has_ended()
