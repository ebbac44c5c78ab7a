"""Mountpoints, seen from outside the daemon: is it fit, does it answer, who keeps it busy.

Owns every sentence about what is wrong with a mountpoint, and the calls of fusermount3. Used by
the command, never by the daemon: touching a mount may wait for the daemon that serves it. So
whatever touches one runs in a helper process that can be given up.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orasfs.errors import MountFailed
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, mount_at, read_mounts

ANSWER_SECONDS = 10.0
FUSERMOUNT_SECONDS = 20.0
REAP_SECONDS = 1.0
_PROBE = (
    "import os, sys\n"
    "try:\n"
    "    os.statvfs(sys.argv[1])\n"
    "    os.stat(sys.argv[1])\n"
    "except OSError as error:\n"
    "    sys.exit(error.errno)\n"
)
_READ = "import sys\nsys.stdout.buffer.write(open(sys.argv[1], 'rb').read())\n"
TIMED_OUT = errno.ETIMEDOUT
DENIED = errno.EACCES  # also to root, where another user has mounted without allow_other


def canonical(text: str) -> str:
    """Return a mountpoint as the kernel will list it: absolute and without symbolic links.

    A mountpoint in use is not touched itself: it could be one that does not answer.

    Raises:
        MountFailed: the path is relative, and the working directory is gone.
    """
    try:
        absolute = Path(text).absolute()
    except FileNotFoundError as error:
        raise MountFailed(
            f"{text}: the working directory has vanished; name the mountpoint by its absolute path"
        ) from error
    if absolute.name in {"", ".", ".."}:
        return os.path.realpath(absolute)
    candidate = str(Path(os.path.realpath(absolute.parent)) / absolute.name)
    if mount_at(candidate, read_mounts()) is not None:
        return candidate
    return os.path.realpath(candidate)


def probe(path: str, timeout_seconds: float = ANSWER_SECONDS) -> int:
    """Ask statvfs(3) and stat(2) for `path` in a helper; return the errno, 0 if both answer.

    ETIMEDOUT where no answer comes in time: the helper is then left to the kernel, which lets
    nobody end a process that waits for a lookup.
    """
    command = [sys.executable, "-I", "-S", "-c", _PROBE, path]
    helper = subprocess.Popen(command)  # noqa: S603 - our own lines
    try:
        return helper.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        _give_up(helper)
        return TIMED_OUT


def _give_up(helper: "subprocess.Popen[bytes]") -> None:
    """End a helper; one that waits inside the kernel cannot be ended, and is left to it."""
    helper.kill()
    for pipe in (helper.stdout, helper.stderr):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        helper.wait(REAP_SECONDS)


def read_file(path: str, timeout_seconds: float = ANSWER_SECONDS) -> bytes:
    """Read a file of a mount in a helper.

    Raises:
        MountFailed: it cannot be read, or not in time.
    """
    command = [sys.executable, "-I", "-S", "-c", _READ, path]
    helper = subprocess.Popen(  # noqa: S603 - our own lines
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        content, complaint = helper.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        _give_up(helper)
        raise MountFailed(f"{path}: no answer within {timeout_seconds:g} seconds") from error
    if helper.returncode:
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise MountFailed(f"{path}: {last.partition(': ')[2] or last}")
    return content


def check_machine() -> None:
    """Check that this machine can mount.

    Raises:
        MountFailed: /dev/fuse or fusermount3 is missing, or not ours to use.
    """
    device = Path("/dev/fuse")
    if not device.exists():
        raise MountFailed(
            "/dev/fuse is missing: load the module (modprobe fuse), or give the container the "
            "device (docker run --device /dev/fuse --cap-add SYS_ADMIN)"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise MountFailed(
            "/dev/fuse: no permission to read and write it; as root, give it to those who mount "
            "(chmod 666 /dev/fuse, as most systems do by themselves)"
        )
    if shutil.which("fusermount3") is None:
        raise MountFailed("fusermount3 is missing: install the package fuse3")


def check_fit(mountpoint: str) -> None:
    """Check that something can be mounted at `mountpoint`.

    A directory that is not empty is fit, as it is for mount(8); its content is covered.

    Raises:
        MountFailed: it is missing, no directory, stale, holds a mount of ours already, or is the
            root of the system, over which a mount would be out of everybody's reach.
    """
    if mountpoint == "/":
        raise MountFailed("/: nothing can be mounted over the root of the system")
    number = probe(mountpoint)
    if number == errno.ENOTCONN:
        raise MountFailed(
            f"{mountpoint}: a mount whose daemon is gone (Transport endpoint is not connected); "
            f"remove it with: fusermount3 -u -z {mountpoint}"
        )
    if number == TIMED_OUT:
        raise MountFailed(
            f"{mountpoint}: does not answer; what is mounted there hangs. "
            f"Remove it with: fusermount3 -u -z {mountpoint}"
        )
    if number == errno.ENOENT:
        raise MountFailed(f"{mountpoint}: there is no such directory; make it with mkdir")
    if number:
        raise MountFailed(f"{mountpoint}: {os.strerror(number)}")
    if not Path(mountpoint).is_dir():
        raise MountFailed(f"{mountpoint}: not a directory")
    mount = mount_at(mountpoint, read_mounts())
    if mount is not None and mount.type == FILESYSTEM_TYPE:
        raise MountFailed(f"{mountpoint}: {mount.source} is mounted there already")


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Unmount by fusermount3.

    Args:
        mountpoint: where.
        lazy: detach now, although it is in use.

    Raises:
        MountFailed: fusermount3 refused; the message has what it said.
    """
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(  # noqa: S603 - the path comes behind "--"
            command, capture_output=True, text=True, timeout=FUSERMOUNT_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise MountFailed("fusermount3 is missing: install the package fuse3") from error
    except subprocess.TimeoutExpired as error:
        raise MountFailed(
            f"{mountpoint}: fusermount3 does not return; try: orasfs umount -z {mountpoint}"
        ) from error
    if done.returncode:
        said = done.stderr.strip().removeprefix("fusermount3: ")
        raise MountFailed(said or f"{mountpoint}: fusermount3 failed")


@dataclass(frozen=True, slots=True)
class User:
    """A process that keeps a mount busy, and by what."""

    pid: int
    command: str
    reason: str


def users_of(mountpoint: str, proc: Path = Path("/proc")) -> Iterator[User]:
    """Find the processes that keep a mount busy, as far as we may look at them."""
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        try:
            reason = _use(directory, mountpoint)
            if reason:
                command = (directory / "comm").read_text(errors="replace").strip()
                yield User(int(directory.name), command, reason)
        except OSError:
            continue  # it ended, or belongs to somebody else


def _use(process: Path, mountpoint: str) -> str:
    """Compare the links of a process as text: following one would touch the mount."""
    for link, reason in (("cwd", "working directory"), ("root", "root"), ("exe", "program")):
        if _is_below(os.readlink(process / link), mountpoint):  # noqa: PTH115 - text, not a Path
            return reason
    for descriptor in (process / "fd").iterdir():
        target = os.readlink(descriptor)  # noqa: PTH115 - the same
        if _is_below(target, mountpoint):
            return f"open: {target}"
    for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
        _, slash, path = line.partition("/")
        if slash and _is_below(f"/{path}", mountpoint):
            return f"mapped: /{path}"
    return ""


def _is_below(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")
