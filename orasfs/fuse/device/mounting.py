"""Mounting by fusermount3, which hands over the open device: as root and as anyone else.

Owns the hand-over (libfuse's util/fusermount.c). Blocks.
"""

import os
import socket
import subprocess

from orasfs.errors import MountFailed
from orasfs.fuse.options import SessionOptions, mount_options
from orasfs.fuse.place import detach

MOUNT_SECONDS = 20.0


def mount(mountpoint: str, options: SessionOptions) -> int:
    """Mount, and return the descriptor of the device; what is asked there is not answered yet.

    Raises:
        MountFailed: fusermount3 is not there, or refused, with what it said.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = ("-o", ",".join(sorted(mount_options(options))), "--", mountpoint)
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                ("fusermount3", *words),  # noqa: S607 - that of whoever mounts
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                stderr=subprocess.PIPE,
                timeout=MOUNT_SECONDS,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise MountFailed(f"{mountpoint}: cannot mount: {error}") from error
        if done.returncode:
            said = os.fsdecode(done.stderr).strip().removeprefix("fusermount3: ")
            raise MountFailed(f"{mountpoint}: cannot mount: {said or 'fusermount3 failed'}")
        ours.setblocking(False)  # it was sent before fusermount3 ended
        try:
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            return descriptors[0]
        except (OSError, IndexError) as error:
            detach(mountpoint)
            raise MountFailed(f"{mountpoint}: fusermount3 gave no device") from error
