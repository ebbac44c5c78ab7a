"""What the command asks of a mount that is up: by extended attributes and control files.

Owns how a path is found to be in a mount, and the calls that touch it. Whatever may wait for the
network is done by a helper process, which can be given up: the kernel lets nobody interrupt a
process that waits for a lookup. Control files are answered from memory and are read at once.
"""

import contextlib
import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orasfs.errors import LocalFailure, MountFailed, TimedOut
from orasfs.fuse.mountinfo import FILESYSTEM_TYPE, Mount, read_mounts

ANSWER_SECONDS = 45.0  # longer than a mount waits by default before it gives up itself
MAX_ERROR_BYTES = 64 * 1024
_CALL = (
    "import os, sys\n"
    "what, path, name, value = sys.argv[1:]\n"
    "path = os.fsencode(path)\n"
    "try:\n"
    "    if what == 'set':\n"
    "        os.setxattr(path, name, os.fsencode(value))\n"
    "    elif what == 'get':\n"
    "        sys.stdout.buffer.write(os.getxattr(path, name))\n"
    "    elif what == 'link':\n"
    "        os.symlink(os.fsencode(value), path)\n"
    "    elif what == 'rename':\n"
    "        os.rename(path, os.fsencode(value))\n"
    "    else:\n"
    "        sys.stdout.buffer.write(open(path, 'rb').read(65536))\n"
    "except OSError as error:\n"
    "    sys.exit(error.errno)\n"
)


@dataclass(frozen=True, slots=True)
class Spot:
    """A path inside a mount of ours."""

    mount: Mount
    path: str

    @property
    def control(self) -> Path:
        """The directory of the mount's control files."""
        return Path(self.mount.path) / ".orasfs"


def locate(text: str) -> Spot:
    """Find the mount that a path is in, touching nothing where the text says it.

    Raises:
        MountFailed: it is in no mount of ours.
    """
    mounts = [mount for mount in read_mounts() if mount.type == FILESYSTEM_TYPE]
    absolute = os.path.normpath(Path(text).absolute())
    for path in (absolute, os.path.realpath(absolute)):
        within = [mount for mount in mounts if _is_within(path, mount.path)]
        if within:
            return Spot(max(within, key=lambda mount: len(mount.path)), path)
    raise MountFailed(f"{text}: not in a mount of orasfs")


def _is_within(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")


def set_attribute(spot: Spot, name: str, value: str) -> None:
    """Set an extended attribute, which is how a mount is told to do something.

    Raises:
        LocalFailure: it was refused; the message has the mount's own words where it has any.
        TimedOut: no answer came.
    """
    _order("set", spot, name, value)


def make_link(spot: Spot, text: str) -> None:
    """Make a symbolic link, which is how a mount is told what to copy; raises as above."""
    _order("link", spot, "", text)


def rename(spot: Spot, path: str) -> None:
    """Rename, which is how a draft without a name is published; raises as above."""
    _order("rename", spot, "", path)


def _order(what: str, spot: Spot, name: str, value: str) -> None:
    began = datetime.now(UTC)
    number, _ = _call(what, spot.path, name, value)
    if number:
        words = last_error(spot, name, began) or os.strerror(number)
        raise LocalFailure(f"{spot.path}: {words}", number)


def get_attribute(spot: Spot, name: str) -> str | None:
    """Return an extended attribute, None if the path has none of that name.

    Raises:
        LocalFailure: it cannot be had; the message has the mount's own words, or says where an
            earlier failure (to begin a draft there) left some.
        TimedOut: no answer came.
    """
    began = datetime.now(UTC)
    number, value = _call("get", spot.path, name, "")
    if number in (errno.ENODATA, errno.EOPNOTSUPP):
        return None
    if number:
        place = f"{os.path.dirname(spot.path)}/.oras/error"  # noqa: PTH120 - a string
        words = last_error(spot, name, began)
        words = words or f"{os.strerror(number)} (what failed there before is told by {place})"
        raise LocalFailure(f"{spot.path}: {words}", number)
    return value.decode("utf-8", "replace")


def last_error(spot: Spot, attribute: str, since: datetime) -> str:
    """Return what an artifact, or its repository, says of a failure of ours, "" if nothing.

    Args:
        spot: where something was asked for.
        attribute: what was to be set, if anything.
        since: when it was asked for; what failed before is of no interest.
    """
    above, name = os.path.split(spot.path)
    for place in (spot.path, above):
        with contextlib.suppress(TimedOut):
            number, text = _call("read", f"{place}/.oras/error", "", "")
            line = text.decode("utf-8", "replace").strip().rpartition("\n")[2]
            if not number and (words := _words_of(line, {attribute, name}, since)):
                return words
    return ""


def _words_of(line: str, subjects: set[str], since: datetime) -> str:
    """Return the words of a line `MOMENT OPERATION SUBJECT…: KIND: WORDS`, "" if it is of another.

    Moments are whole seconds.
    """
    head, _, tail = line.partition(": ")
    moment, _, operation = head.partition(" ")
    try:
        is_old = datetime.fromisoformat(moment) < since.replace(microsecond=0)
    except (ValueError, TypeError):
        return ""
    is_ours = operation.partition(" ")[2].partition(" ")[0] in subjects
    return tail.partition(": ")[2] if is_ours and not is_old else ""


def read_control(spot: Spot, name: str) -> Any:  # noqa: ANN401 - a document of JSON
    """Return a JSON document among the control files.

    Raises:
        MountFailed: the mount has gone, or does not have it.
    """
    path = spot.control / name
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise MountFailed(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise MountFailed(f"{path}: not JSON: {error}") from error


def _call(what: str, path: str, name: str, value: str) -> tuple[int, bytes]:
    """Do it in a helper; return the errno, 0 for none, and what came."""
    command = [sys.executable, "-I", "-S", "-c", _CALL, what, path, name, value]
    # In a session of its own: ^C is for the command, which decides what becomes of the helper.
    helper = subprocess.Popen(  # noqa: S603 - our own lines
        command, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        output, _ = helper.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"{path}: no answer within {ANSWER_SECONDS:g} seconds") from error
    finally:
        if helper.returncode is None:
            _abandon(helper)
    return helper.returncode, output


def _abandon(helper: "subprocess.Popen[bytes]") -> None:
    """End a helper, without waiting long for one that the kernel does not let go."""
    helper.kill()
    if helper.stdout is not None:
        helper.stdout.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        helper.wait(1.0)
