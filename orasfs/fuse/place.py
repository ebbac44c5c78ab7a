"""What is done about a mount from outside of its protocol: its device, read-ahead, its end.

Owns /sys and fusermount3's unmounting for all transports. Never touches a path below the
mountpoint, which would wait for this process itself.
"""

import logging
import subprocess
from pathlib import Path

from orasfs.fuse.mountinfo import mount_at, read_mounts

logger = logging.getLogger(__name__)

READ_AHEAD_KIB = 1024
DETACH_SECONDS = 10.0


def device_at(mountpoint: str) -> str | None:
    """Return the device of what is mounted at a path, None where nothing is, or nobody says."""
    try:
        mount = mount_at(mountpoint, read_mounts())
    except OSError:
        return None
    return mount.device if mount else None


def raise_read_ahead(mountpoint: str, *, sys: Path = Path("/sys")) -> None:
    """Let the kernel read ahead 1 MiB at a time, three times as fast as its 128 KiB.

    Does nothing where /sys is not ours to write: it is a matter of speed only.
    """
    device = device_at(mountpoint)
    if device is None:
        return
    try:
        knob = sys / "class/bdi" / device / "read_ahead_kb"
        if int(knob.read_text()) < READ_AHEAD_KIB:
            knob.write_text(f"{READ_AHEAD_KIB}\n")
    except (OSError, ValueError) as error:
        logger.debug("read-ahead stays as it is error=%s", error)


def detach_if_there(mountpoint: str, device: str | None) -> None:
    """Take the mount of a device away from its place, if it is there. Blocks.

    Detached from its place, a mount lives as long as its files are open; by now another one may be
    at that place, and is not ours to unmount.
    """
    if device is not None and device_at(mountpoint) == device:
        detach(mountpoint)


def detach(mountpoint: str) -> None:
    """Take a mount away from its place; it lives on until its files are closed. Blocks."""
    command = ("fusermount3", "-u", "-z", "-q", "--", mountpoint)
    try:
        subprocess.run(command, timeout=DETACH_SECONDS, check=True)  # noqa: S603 - no shell
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("a dead mount is left mountpoint=%s error=%s", mountpoint, error)
