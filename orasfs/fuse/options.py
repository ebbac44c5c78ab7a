"""How to mount: the values of a session, and the choice of a transport.

Owns the mount options that every transport gives, and what lets the kernel read files by itself.
Knows no transport.
"""

import enum
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CAP_SYS_ADMIN = 21
_PASSTHROUGH_KERNEL = (6, 9)
_ALL_USERS = 0xFFFFFFFF


class Transport(enum.Enum):
    """Who speaks with the kernel.

    AUTO is DEVICE where the kernel may read files by itself, else PYFUSE3.
    """

    AUTO = "auto"
    PYFUSE3 = "pyfuse3"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to mount.

    Attributes:
        source: what /proc/mounts shows as the device.
        allow_other: whether other users than the mounting one may look in.
        read_only: whether the kernel itself refuses to write.
        flags: further options for the kernel, for example "noexec".
        transport: who speaks with the kernel; not AUTO.
    """

    source: str
    allow_other: bool = False
    read_only: bool = False
    flags: tuple[str, ...] = ()
    transport: Transport = Transport.PYFUSE3


def mount_options(options: SessionOptions) -> set[str]:
    """Return the mount options as libfuse and fusermount3 take them.

    `max_read` must not be among them: pyfuse3 cannot set the connection's value, which libfuse
    then compares with it.
    """
    chosen = {
        "default_permissions",  # the kernel checks the mode bits
        f"fsname={_escaped(options.source)}",
        "subtype=orasfs",
        "nosuid",
        "nodev",
        *options.flags,
    }
    if options.allow_other:
        chosen.add("allow_other")
    if options.read_only:
        chosen.add("ro")
    return chosen


def _escaped(source: str) -> str:
    """Escape what the parsers of options split at; pyfuse3 passes ASCII only."""
    ascii_only = os.fsencode(source).decode("ascii", "replace").replace("\ufffd", "?")
    printable = re.sub(r"[\x00-\x1f\x7f]", "?", ascii_only)
    return printable.replace("\\", "\\\\").replace(",", "\\,")


def chosen_transport(wanted: Transport, may_pass_through: Callable[[], bool]) -> Transport:
    """Return the transport to use: what is wanted, or for AUTO what fits the process."""
    if wanted is not Transport.AUTO:
        return wanted
    return Transport.DEVICE if may_pass_through() else Transport.PYFUSE3


def may_pass_through(proc: Path = Path("/proc")) -> bool:
    """Tell whether this process may ask the kernel to read files by itself.

    That takes Linux 6.9 and CAP_SYS_ADMIN outside of any user namespace (the kernel's
    Documentation/filesystems/fuse-passthrough.rst). Whether the kernel was built with it shows
    when it is mounted.
    """
    try:
        release = (proc / "sys/kernel/osrelease").read_text()
        status = (proc / "self/status").read_text()
        users = (proc / "self/uid_map").read_text()
    except OSError:
        return False
    return _is_new(release) and _is_privileged(status) and _is_initial(users)


def _is_new(release: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _PASSTHROUGH_KERNEL


def _is_privileged(status: str) -> bool:
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> _CAP_SYS_ADMIN & 1)


def _is_initial(users: str) -> bool:
    """Tell whether a uid_map is that of the initial user namespace: everyone is who he is."""
    return users.split() == ["0", "0", str(_ALL_USERS)]
