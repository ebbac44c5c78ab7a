"""Earlier layers that are unpacked here, for `orasfs.store.packed.sharedfiles`.

Owns how they are found without a fetch: those that are open, and those that are whole on the disk.
One of which the slab was evicted is left out.
"""

import os
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.packed import unpack
from orasfs.store.packed.memberfiles import open_blob
from orasfs.store.packed.openlayers import OpenLayers
from orasfs.store.packed.sharedfiles import Donor
from orasfs.tree.layerindex import LayerIndex


class UnpackedFiles:
    """An unpacked layer whose files are read, and never brought back; implements `Donor`."""

    def __init__(self, unpacked: unpack.Unpacked, store: ContentStore) -> None:
        self._unpacked = unpacked
        self._store = store
        if unpacked.slab_fd >= 0:
            weakref.finalize(self, os.close, unpacked.slab_fd)

    def __repr__(self) -> str:
        return f"<UnpackedFiles {self.index!r}>"

    @property
    def index(self) -> LayerIndex:
        """The layer's members."""
        return self._unpacked.index

    @property
    def slab_fd(self) -> int:
        """The open slab, -1 if it is gone; valid as long as this object lives."""
        return self._unpacked.slab_fd

    def open_blob(self, number: int) -> int | None:
        """Open a member that is a blob of its own; None if it is gone. The caller closes it."""
        return open_blob(self._store, self.index.blob(number))


async def find_donors(
    digests: Sequence[Digest],
    opened: OpenLayers,
    store: ContentStore,
    limiter: trio.CapacityLimiter,
) -> Sequence[Donor]:
    """Return those of the layers that are unpacked, in the same order."""
    found: list[Donor] = []
    for digest in digests:
        directory = unpack.directory_of(store.root, digest)
        donor: Donor | None = opened.get(digest)
        if donor is None:
            work = partial(_open, directory, store)
            donor = await trio.to_thread.run_sync(work, limiter=limiter)
        if donor is not None and donor.slab_fd >= 0:
            store.touch(directory / unpack.SLAB_NAME)
            found.append(donor)
    return found


def _open(directory: Path, store: ContentStore) -> UnpackedFiles | None:
    unpacked = unpack.open_unpacked(directory)
    return None if unpacked is None else UnpackedFiles(unpacked, store)
