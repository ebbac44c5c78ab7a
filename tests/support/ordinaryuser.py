"""A machine as an ordinary user has it, for tests that run as root.

Owns a mount namespace for one script: in it /dev/fuse is everybody's, as it is wherever udev sets
it up; and the interpreter, the project and the test's directory can be reached, though they may be
below a directory of root's. Nothing outside of it changes, and whatever is mounted in it ends with
the script, as its processes do.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.mounted import PROJECT, environment, run

USER = 65534  # nobody: a user without any right of his own
SCRIPT_SECONDS = 60.0
_TOOLS = ("unshare", "setpriv", "mount", "mknod")
_NAMESPACE = (
    *("unshare", "--mount", "--propagation", "private"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
_AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")


def missing() -> str:
    """Return what this process lacks to become an ordinary user, "" if nothing."""
    if os.getuid() != 0:
        return "only root can become another user; all other tests run as an ordinary one here"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)}"
    done = run([*_NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], check=False)
    return f"no mount namespace: {done.stderr.strip()}" if done.returncode else ""


def run_as_user(
    script: str,
    home: Path,
    *,
    device_mode: str = "666",
    files: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a shell script in such a machine.

    In it `user COMMAND…` runs a command as the user, `orasfs …` the command as the user, and all
    else is root's. It begins in the root directory, and ends at the first failure.

    Args:
        script: of sh(1).
        home: the user's home, a directory of his.
        device_mode: the mode of /dev/fuse.
        files: contents of files of the system that are others there, by path.
    """
    home.mkdir(parents=True, exist_ok=True)
    for path in (home, *home.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as hold:  # which everybody reaches
        lines = [
            "set -e",
            # Those of other tests: held here they would outlive their unmounting there.
            "umount --all --types fuse.orasfs --lazy --internal-only --no-canonicalize",
            *_reachable((PROJECT, Path(sys.prefix), Path(sys.base_prefix), home), Path(hold)),
            f"mount -t tmpfs -o mode=755 none {hold}",
            f"mknod -m {device_mode} {hold}/fuse c 10 229",
            f"mount --bind {hold}/fuse /dev/fuse",
            *_replaced(files or {}, Path(hold)),
            f'user() {{ {shlex.join(_AS_USER)} "$@"; }}',
            f'orasfs() {{ user {shlex.quote(sys.executable)} -m orasfs "$@"; }}',
            "cd /",
            script,
        ]
        return subprocess.run(
            [*_NAMESPACE, "sh", "-c", "\n".join(lines)],
            capture_output=True, text=True, timeout=SCRIPT_SECONDS, check=False,
            env={**environment(home), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip


def _reachable(paths: tuple[Path, ...], hold: Path) -> list[str]:
    """Return commands that make paths reachable by putting empty directories over root's."""
    wanted = {path.resolve() for path in paths}
    tops = sorted(path for path in wanted if not wanted & set(path.parents))
    kept = {path: hold / str(number) for number, path in enumerate(tops)}
    covers = {cover for path in tops if (cover := _closed_above(path)) is not None}
    moved = {path: place for path, place in kept.items() if covers & set(path.parents)}
    lines = []
    for path, place in moved.items():
        lines += [f"mkdir {place}", f"mount --bind {shlex.quote(str(path))} {place}"]
    lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(path))}" for path in covers]
    for path, place in moved.items():
        quoted = shlex.quote(str(path))
        lines += [f"mkdir -p {quoted}", f"mount --move {place} {quoted}"]
    return lines


def _closed_above(path: Path) -> Path | None:
    """Return the topmost directory above a path that is not open to everybody."""
    above = reversed(path.parents)
    return next((each for each in above if not each.stat().st_mode & 0o001), None)


def _replaced(files: Mapping[str, str], hold: Path) -> list[str]:
    lines = []
    for number, (path, content) in enumerate(files.items()):
        place = hold / f"file{number}"
        lines += [f"printf %s {shlex.quote(content)} > {place}", f"mount --bind {place} {path}"]
    return lines
