"""A real mount for tests: the real command in a process of its own, and its certain end.

The test's own process may touch the mount, since another one serves it; but never without a
deadline: use `run` for commands, which ends what hangs.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from orasfs.fuse.mountinfo import mount_at, read_mounts

PROJECT = Path(__file__).resolve().parents[2]
READY_SECONDS = 30.0
END_SECONDS = 20.0
POLL_SECONDS = 0.02
TRANSPORT_VARIABLE = "ORASFS_TEST_TRANSPORT"  # which one to use where a test does not say
_STAT = "import os, sys; os.statvfs(sys.argv[1]); os.stat(sys.argv[1])"
_OWN = ("ORAS_CACHE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")


def run(
    command: Sequence[str | Path],
    timeout: float = 30.0,
    *,
    check: bool = True,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command with a deadline and return its output; by default its failure is one."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environ or {})},
    )
    if check and done.returncode:
        raise AssertionError(f"{command}: status {done.returncode}: {done.stderr}{done.stdout}")
    return done


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which orasfs keeps everything below `home`."""
    kept = {name: value for name, value in os.environ.items() if name not in _OWN}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PYTHONPATH": str(PROJECT),
        "LC_ALL": "C.UTF-8",
    }


def is_mounted(path: Path) -> bool:
    """Tell whether something is mounted at the path, without touching it."""
    return mount_at(str(path), read_mounts()) is not None


def unmount(path: Path) -> None:
    """Unmount whatever it takes; harmless where nothing is mounted."""
    for flags in (["-u"], ["-u", "-z"]):
        if is_mounted(path):
            run(["fusermount3", *flags, "--", path], check=False)


class Mounted:
    """A mount that lives as long as the `with` block; enter it again to mount again.

    Args:
        source: SOURCE, None for the embedded repositories.
        home: what belongs to the daemon: cache, data, log and mountpoint are below it. Two mounts
            one after the other with one home share the cache.
        options: values of `-o`.
        environ: more of the environment.
        program: another command than `orasfs mount -f`, which gets the same arguments.
        may_trace: whether the daemon may log a traceback; by default that fails the test.
    """

    def __init__(
        self,
        source: str | None,
        home: Path,
        *options: str,
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = ("orasfs", "mount", "-f"),
        may_trace: bool = False,
    ) -> None:
        self._may_trace = may_trace
        self.home = home.resolve()
        self.path = self.home / "mnt"
        self.cache = self.home / "cache/orasfs"
        self.log_path = self.home / "daemon.log"
        self.error_path = self.home / "daemon.stderr"
        self._environ = {**environment(self.home), **(environ or {})}
        transport = os.environ.get(TRANSPORT_VARIABLE)
        if transport and not any(word.startswith("transport=") for word in options):
            options = (*options, f"transport={transport}")
        words = ("log_level=DEBUG", f"log_file={self.log_path}", *options)
        self._command = [
            *(sys.executable, "-m", *program),
            *(f"-o{word}" for word in words),
            *([source] if source is not None else []),
            str(self.path),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        self.stop()
        if kind is None and not self._may_trace:
            assert "Traceback" not in self.errors(), self.errors()

    def start(self) -> None:
        """Mount, and wait until the mount answers."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.error_path.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                env=self._environ, cwd="/",
            )  # fmt: skip
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    @contextlib.contextmanager
    def in_background(self, *flags: str, stdin: str = "") -> Iterator[None]:
        """Mount in the background instead, with more flags and something on stdin."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.error_path.touch()
        command = [word for word in self._command if word != "-f"]
        try:
            done = subprocess.run(
                [*command[:-2], *flags, *command[-2:]], input=stdin, text=True, timeout=60,
                capture_output=True, env=self._environ, cwd="/", check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            yield
        finally:
            unmount(self.path)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_mounted(self.path):
            self._fail_if_ended()
            if time.monotonic() > deadline:
                raise AssertionError(f"not mounted in time: {self.errors()}")
        run([sys.executable, "-I", "-S", "-c", _STAT, self.path], timeout=READY_SECONDS)

    def _fail_if_ended(self) -> None:
        """Let a moment pass, and fail if the daemon has ended by then."""
        try:
            status = self.process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"the daemon ended with status {status}: {self.errors()}")

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The daemon's process."""
        assert self._process is not None, "not started"
        return self._process

    def log(self) -> str:
        """Return what the daemon has logged, through all its lives."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def errors(self) -> str:
        """Return what the daemon has written to stderr, through all its lives."""
        return self.error_path.read_text(errors="replace") + self.log()

    def wait(self, timeout: float = END_SECONDS) -> int:
        """Wait until the daemon has ended, and return its exit status."""
        return self.process.wait(timeout)

    def kill9(self) -> None:
        """Kill the daemon; the mountpoint stays behind, stale."""
        self.process.kill()
        self.process.wait(END_SECONDS)

    def stop(self) -> int:
        """End the daemon by SIGTERM, unmount what it may have left, and return its status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(END_SECONDS)
        finally:
            unmount(self.path)
