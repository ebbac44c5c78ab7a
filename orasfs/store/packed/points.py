"""The making of seek points, for layers of gzip that have none: in the background, one at a time.

Owns when that is done, and the process that does it (`orasfs.store.packed.pointmaker`). It begins
a moment after a layer was opened whose blob is in the cache, when that is not in use, and only
where there is room for it without evicting anything. What fails is tried again by the next mount.

INVARIANT: nothing has the name of a layer's points before it is complete; no process outlives the
mount, however that ends.
"""

import logging
import os
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

import orasfs
from orasfs.errors import OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore, open_regular
from orasfs.store.files import disk, ingest
from orasfs.store.files.claims import Claim
from orasfs.store.options import PointOptions
from orasfs.store.packed import pointfile
from orasfs.store.packed.openlayer import OpenLayer
from orasfs.store.packed.parts import Parts
from orasfs.store.packed.rangedlayer import RangedLayer, Ranging
from orasfs.tree.chunktable import ChunkTable

logger = logging.getLogger(__name__)

_GZIP_MAGIC = b"\x1f\x8b"
_SHARE = 50  # of the blob that its points may take: one part in so many
_SCRATCH_SHARE = 8  # while they are made
_END_SECONDS = 1.0
_BYTES_PER_SECOND = 1024 * 1024  # less than the slowest machine does
_LEAST_SECONDS = 60.0
_PROGRAM = (
    sys.executable,
    "-P",
    "-c",
    "import sys; sys.path.append(sys.argv[1])\n"  # noqa: ISC004 - one program
    "from orasfs.store.packed.pointmaker import main; main(sys.argv[2:])",
    # The package is where ours is, also where that was found by the working directory.
    str(Path(orasfs.__file__).resolve().parents[1]),
)


@dataclass(frozen=True, slots=True)
class _Wish:
    """Points that are to be made, and the layer that is to use them if it is open then."""

    descriptor: Descriptor
    directory: Path
    tar_digest: Digest
    opened: "weakref.ref[OpenLayer]"


@dataclass(slots=True)
class _Work:
    """Files of a process: the blob, and what it writes."""

    blob_fd: int
    fd: int
    path: Path
    claim: Claim | None

    def close(self) -> None:
        """Let go of them; what has no final name is removed."""
        ingest.unlink_if_same(self.fd, self.path)
        os.close(self.fd)
        os.close(self.blob_fd)
        if self.claim is not None:
            self.claim.settle()


class SeekPoints:
    """Makes the points of layers.

    Args:
        store: where layers are.
        ranging: what reads layers that have points; in its nursery they are made.
        options: of which layers, and when.
    """

    def __init__(self, store: ContentStore, ranging: Ranging, options: PointOptions) -> None:
        self._store = store
        self._ranging = ranging
        self._options = options
        self._turn = trio.CapacityLimiter(1)
        self._wanted: dict[Digest, _Wish | None] = {}  # what is wanted after that, if anything
        self._under_way: dict[trio.CancelScope, trio.Event] = {}
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<SeekPoints {len(self._wanted)} wanted>"

    def consider(self, opened: OpenLayer, directory: Path) -> None:
        """Have the points of a layer made, if it has no table of chunks and is worth it.

        Args:
            opened: the layer.
            directory: where it is.
        """
        descriptor = opened.layer.descriptor
        tar_digest = opened.tar_digests.get("sha256")
        is_small = descriptor.size < self._options.least_bytes
        if opened.ranged is not None or is_small or tar_digest is None or self._is_stopped:
            return
        self._want(_Wish(descriptor, directory, tar_digest, weakref.ref(opened)))

    def stop(self) -> None:
        """End what is under way; returns at once."""
        self._is_stopped = True
        for scope in self._under_way:
            scope.cancel()

    async def wait_stopped(self) -> None:
        """Wait until nothing that was stopped uses the store any more."""
        for ended in list(self._under_way.values()):
            await ended.wait()

    def _want(self, wish: _Wish) -> None:
        digest = wish.descriptor.digest
        if digest in self._wanted:
            self._wanted[digest] = wish  # what is under way may have come too early
        else:
            self._wanted[digest] = None
            self._ranging.nursery.start_soon(self._fulfil, wish)

    async def _fulfil(self, wish: _Wish) -> None:
        with trio.CancelScope() as scope:
            ended = self._under_way[scope] = trio.Event()
            if self._is_stopped:
                scope.cancel()
            try:
                await trio.sleep(self._options.pause_seconds)
                since = time.monotonic()
                in_use = partial(self._store.pending.seconds_in_use, since)
                while (seconds := in_use()) > 0:  # noqa: ASYNC110 - no one tells the end of it
                    await trio.sleep(seconds)
                async with self._turn:
                    await self._make(wish)
            except (OrasfsError, OSError) as error:
                digest = wish.descriptor.digest
                logger.info("no seek points made: digest=%s reason=%s", digest, error)
            finally:
                del self._under_way[scope]
                following = self._wanted.pop(wish.descriptor.digest)
                if following is not None and not self._is_stopped:
                    self._want(following)
                ended.set()

    async def _make(self, wish: _Wish) -> None:
        digest = wish.descriptor.digest
        work = await trio.to_thread.run_sync(partial(self._begin, wish))
        if work is None:
            return
        try:
            status = await self._run(wish, work)
            if status:
                logger.info("no seek points made: digest=%s status=%s", digest, status)
                return
            table = await trio.to_thread.run_sync(partial(_publish, wish.directory, work))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _END_SECONDS):
                await trio.to_thread.run_sync(work.close, abandon_on_cancel=True)
        opened = wish.opened()
        if table is not None and opened is not None and opened.ranged is None:
            parts = Parts(table, wish.descriptor, wish.directory, self._store)
            opened.ranged = RangedLayer(parts, self._ranging)
        logger.debug("seek points made: digest=%s table=%s", digest, table)

    def _begin(self, wish: _Wish) -> _Work | None:
        """Open the files; None if there is nothing to do, or no room. Blocks."""
        store, descriptor = self._store, wish.descriptor
        if pointfile.size_of(wish.directory) == 0:
            return None  # it was found to have none
        if pointfile.open_points(wish.directory) is not None:
            return None  # they are not used, since the source gives no parts
        if not store.has_room(descriptor.size // _SCRATCH_SHARE):
            return None
        places = store.places_of(descriptor.digest)
        # Not leased: whoever needs the room has it.
        found = (open_regular(path, descriptor.size) for path in places)
        blob_fd = next((fd for fd in found if fd is not None), None)
        if blob_fd is None:
            return None
        try:
            if os.pread(blob_fd, len(_GZIP_MAGIC), 0) == _GZIP_MAGIC:
                fd, path = ingest.open_private(store.ingest_directory)
                most = descriptor.size // _SHARE
                work = _Work(blob_fd, fd, path, None)
                blob_fd = -1
                try:
                    work.claim = store.claim(path, most, wish.directory / pointfile.NAME)
                except BaseException:
                    work.close()
                    raise
                return work
        finally:
            if blob_fd >= 0:
                os.close(blob_fd)
        return None

    async def _run(self, wish: _Wish, work: _Work) -> int:
        """Run the process to its end; return its status."""
        size = wish.descriptor.size
        deadline = trio.current_time() + _LEAST_SECONDS + size / _BYTES_PER_SECOND
        argv = [*_PROGRAM, str(work.blob_fd), str(work.fd)]
        argv += [str(self._store.ingest_directory), wish.tar_digest.hex, str(size // _SHARE)]
        process = await trio.lowlevel.open_process(
            argv,
            stdin=subprocess.PIPE,  # whose end it watches
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(work.blob_fd, work.fd),
            start_new_session=True,
        )
        try:
            with trio.CancelScope(deadline=deadline):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _END_SECONDS):
                    await process.wait()
            if process.stdin is not None:
                await trio.aclose_forcefully(process.stdin)
        return -1 if process.returncode is None else process.returncode


def _publish(directory: Path, work: _Work) -> ChunkTable | None:
    """Give the file its name, and open it. Blocks."""
    with disk.translated(f"keep {directory / pointfile.NAME}"):
        os.fsync(work.fd)
        directory.mkdir(parents=True, exist_ok=True)
        work.path.rename(directory / pointfile.NAME)
        disk.sync_directory(directory)
    return pointfile.open_points(directory)
