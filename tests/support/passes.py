"""Passes over layers, as the cache makes them, without a cache around them."""

import os
from collections.abc import Callable
from pathlib import Path

from orasfs.store.content.cas import ContentStore
from orasfs.store.packed.sealed import SealedLayer
from orasfs.store.packed.unpacker import Unpacker


def unpacker_of(
    blob: Path, root: Path, on_progress: Callable[[], None] = lambda: None
) -> Unpacker:
    """Return what unpacks a blob into the store at `root`."""
    return Unpacker(os.open(blob, os.O_RDONLY), ContentStore(root), "sha256", on_progress)


def finish(unpacker: Unpacker, directory: Path) -> SealedLayer:
    """Give what has passed its names in the layer's directory; the caller closes it."""
    sealed = unpacker.seal(directory)
    unpacker.close()
    os.close(sealed.unpacked.slab_fd)
    sealed.publish()
    return sealed
