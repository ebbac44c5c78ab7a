"""Mounts a source with the program under test, and tells how much memory its daemon took."""

import subprocess
import sys
from pathlib import Path

from scripts.benchmarks.processes import Daemon, ProgramFailed, run, wait_until

LOG_NAME = "daemon.log"
_ANSWER_SECONDS = 30.0


class Mount:
    """A mount by `orasfs mount -f` in a process of its own, with a cache of the caller's.

    The user's own cache and credentials are out of reach: they would make runs differ.
    """

    def __init__(self, source: str, directory: Path, cache: Path, *options: str) -> None:
        """Mount below `directory` with `-o options`, and return once the mount answers."""
        self.path = directory / "mnt"
        self.path.mkdir(parents=True, exist_ok=True)
        home = directory / "home"
        home.mkdir(exist_ok=True)
        argv: list[str | Path] = [sys.executable, "-m", "orasfs", "mount", "-f", source, self.path]
        argv += [word for option in options for word in ("-o", option)]
        env = {"HOME": str(home), "ORAS_CACHE": str(cache), "DOCKER_CONFIG": str(home)}
        env |= {"XDG_CONFIG_HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
        env |= {"XDG_STATE_HOME": str(home)}
        self._daemon = Daemon(argv, directory / LOG_NAME, env)
        self.peak_mebibytes = 0.0
        try:
            wait_until(self._is_mounted_or_gone, f"mount of {source}", _ANSWER_SECONDS)
            self._check_answer()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._daemon.pid

    def _check_answer(self) -> None:
        if not self._daemon.is_running():
            raise ProgramFailed(f"orasfs mount ended: {self._daemon.last_words()}")
        run(["stat", self.path], deadline_seconds=_ANSWER_SECONDS)

    def _is_mounted(self) -> bool:
        return self.path in mount_points()

    def _is_mounted_or_gone(self) -> bool:
        return not self._daemon.is_running() or self._is_mounted()

    def stop(self) -> None:
        """Note the daemon's peak memory, unmount (lazily if it must be), and end the daemon.

        Harmless twice.
        """
        self.peak_mebibytes = max(self.peak_mebibytes, _peak_mebibytes(self.pid))
        for flags in (["-u"], ["-u", "-z"]):
            if not self._is_mounted():
                break
            argv = ["fusermount3", *flags, str(self.path)]
            subprocess.run(argv, capture_output=True, check=False, timeout=_ANSWER_SECONDS)
        if not self._is_mounted() and self._daemon.has_ended():
            return
        self._daemon.stop()
        if self._is_mounted():
            raise ProgramFailed(f"{self.path} is still mounted")


def mount_points() -> set[Path]:
    """Return where anything is mounted (proc_pid_mountinfo(5), field 5)."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {Path(line.split(" ")[4].replace("\\040", " ")) for line in lines}


def _peak_mebibytes(pid: int) -> float:
    """Return the highest resident set size of a process so far (VmHWM); 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kibibytes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kibibytes[0]) / 1024 if kibibytes else 0.0
