"""Mounting in the background: start the daemon, wait until its mount answers, or say why not.

Owns the life of the daemon's process until it is ready. The parent is the command; the child is
`orasfs mount --background-child`, whose stderr is a pipe to the parent until it is ready:
what it writes there first is the reason of a failure, a NUL byte means ready.

INVARIANT: on failure no mount and no process is left.
"""

import contextlib
import os
import select
import signal
import site
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orasfs
from orasfs.daemon import mountpoint as mountpoints
from orasfs.errors import MountFailed
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, mount_at, read_mounts

READY = b"\0"
READY_SECONDS = 60.0  # mounting asks no network; a cold disk under load may take its time
END_SECONDS = 10.0


def start(arguments: Sequence[str], mountpoint: str, secrets: bytes = b"") -> str:
    """Start the daemon and return once its mount answers.

    Args:
        arguments: of `orasfs mount`, for the same working directory.
        mountpoint: absolute and canonical.
        secrets: see `MountSecrets.to_bytes`; the daemon gets them on its stdin.

    Returns:
        What the daemon had to say before it was ready: warnings, or "".

    Raises:
        MountFailed: with the daemon's reason; nothing is left mounted.
    """
    child = _spawn(arguments)
    try:
        _tell(child, secrets)
        words = _listen(child)
        _check_answer(mountpoint)
    except BaseException:
        _end(child, mountpoint)
        raise
    finally:
        assert child.stderr is not None  # noqa: S101 - Popen was given a pipe
        child.stderr.close()
    child.returncode = 0  # it lives on: Popen must not warn that nobody waits for it
    return words


def hear() -> bytes:
    """Return what the parent tells on stdin, as the child, and let go of that pipe."""
    with os.fdopen(os.dup(0), "rb") as pipe:
        told = pipe.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return told


def detach_stderr() -> None:
    """Say that we are ready, as the child, and let go of the parent's pipe."""
    with contextlib.suppress(OSError):  # the parent has given up; it ends us if it wants to
        os.write(2, READY)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)
    os.close(null)


def _spawn(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own program
        # -P: nothing is to be imported from the working directory, which may be anybody's.
        [sys.executable, "-P", "-m", "orasfs", "mount", "--background-child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )


def _tell(child: "subprocess.Popen[bytes]", secrets: bytes) -> None:
    """Write the secrets to the child's stdin, which holds them all, and close it."""
    assert child.stdin is not None  # noqa: S101 - Popen was given a pipe
    # A child that ended before it read them says why on its stderr.
    with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
        pipe.write(secrets)


def _environment() -> dict[str, str]:
    """Let the child find the package, also where ours was found by the working directory."""
    root = str(Path(orasfs.__file__).resolve().parents[1])
    if root in {*site.getsitepackages(), site.getusersitepackages()}:
        return dict(os.environ)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _listen(child: "subprocess.Popen[bytes]") -> str:
    """Read the child's stderr until it is ready, and return what else it said.

    Raises:
        MountFailed: it has ended with these words, or took too long.
    """
    assert child.stderr is not None  # noqa: S101 - Popen was given a pipe
    deadline = time.monotonic() + READY_SECONDS
    heard = b""
    while READY not in heard:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child.stderr], [], [], left)[0]:
            raise MountFailed(f"the daemon was not ready within {READY_SECONDS:g} seconds")
        chunk = os.read(child.stderr.fileno(), 65536)
        heard += chunk
        if not chunk:
            raise MountFailed(_words(heard) or _silent_end(child))
    return _words(heard)


def _words(heard: bytes) -> str:
    return heard.replace(READY, b"").decode("utf-8", "replace").strip()


def _check_answer(mountpoint: str) -> None:
    number = mountpoints.probe(mountpoint)
    if number:
        raise MountFailed(f"{mountpoint}: mounted, but it answers: {os.strerror(number)}")


def _silent_end(child: "subprocess.Popen[bytes]") -> str:
    status = child.wait(END_SECONDS)
    if status < 0:
        return f"the daemon was ended by {signal.Signals(-status).name}"
    return f"the daemon ended with status {status} and no word"


def _end(child: "subprocess.Popen[bytes]", mountpoint: str) -> None:
    """End the child, and unmount what it may have left."""
    for end in (child.terminate, child.kill):
        end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(END_SECONDS)
            break
    mount = mount_at(mountpoint, read_mounts())
    if mount is not None and mount.type == FILESYSTEM_TYPE:
        with contextlib.suppress(MountFailed):  # the first failure is the one to tell
            mountpoints.unmount(mountpoint, lazy=True)
