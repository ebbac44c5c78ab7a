"""Takes blobs over that were made on this machine, without copying them where that can be.

Owns the ways in: a file on the cache's disk becomes a blob by a hard link, any other by a copy,
bytes in memory as they are. All are verified, unless a file is as it was when it was hashed.
They can be read at once, and are made durable later: nobody waits for the disk.
Whoever offers a file must not write into it again.
Knows no network and no trio; blocks.
"""

import fcntl
import os
import secrets
from typing import BinaryIO

from orasfs.errors import ContentMismatch
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.filestate import FileState
from orasfs.oci.storage import BlobContent
from orasfs.store.content.cas import ContentStore
from orasfs.store.files import disk, ingest

COPY_BYTES = 1024 * 1024


def adopt(
    store: ContentStore,
    descriptor: Descriptor,
    content: BlobContent,
    state: FileState | None = None,
) -> None:
    """Keep `content` as a blob; nothing is done if the store has it.

    Args:
        store: keeps it.
        descriptor: what it is.
        content: the bytes.
        state: the state of the content's file when its digest was found to be the descriptor's:
            a file that still is in that state is not read again.

    Raises:
        ContentMismatch: it is not what the descriptor says; nothing is kept.
        StorageFull: the disk is full.
        StorageFailure: it failed otherwise.
    """
    if store.has(descriptor):
        return
    store.pending.wait_for_room()
    if content.size != descriptor.size:
        raise ContentMismatch(f"{descriptor.digest}: {content.size} bytes offered")
    with disk.translated(f"keep {descriptor.digest}"), content.open() as source:
        if not _link(store, descriptor, source, state):
            _copy(store, descriptor, source)


def _link(
    store: ContentStore, descriptor: Descriptor, source: BinaryIO, state: FileState | None
) -> bool:
    """Make the file itself the blob; False where it cannot be linked."""
    path = store.ingest_directory / f"orasfs-{secrets.token_hex(12)}.tmp"
    try:
        fd = os.dup(source.fileno())
    except OSError:  # not a file
        return False
    is_verified = state == FileState.of(os.fstat(fd))  # a link changes the change time
    try:
        # With src_dir_fd, though an absolute path needs none: else Python's link follows nothing.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another disk, or one without links
        os.close(fd)
        path.unlink(missing_ok=True)
        return False
    incoming = store.begin_in(fd, path, descriptor)
    try:
        if not is_verified:
            incoming.resume(lambda _offset: None)  # hashes what is there
            incoming.verify()
    except BaseException:
        incoming.close(keep=False)
        raise
    store.pending.add(incoming)
    return True


def _copy(store: ContentStore, descriptor: Descriptor, source: BinaryIO) -> None:
    fd, path = ingest.open_private(store.ingest_directory)
    incoming = store.begin_in(fd, path, descriptor)
    try:
        while piece := source.read(COPY_BYTES):
            incoming.append(piece)
        incoming.verify()
    except BaseException:
        incoming.close(keep=False)
        raise
    store.pending.add(incoming)
