"""Which unpacked layers are open: as long as somebody uses them, and some for longer.

Owns the tables of them. Runs on the trio thread; only `_forget` may be called in others.

INVARIANT: what a pass has made is open at least until it has its final names, since until then
it cannot be opened anew.
"""

import contextlib
import weakref
from functools import partial

import trio
from cachetools import LRUCache

from orasfs.oci.digest import Digest
from orasfs.store.packed.openlayer import OpenLayer
from orasfs.store.packed.sealed import SealedLayer

_RECENT = 128


class OpenLayers:
    """The open layers of one mount, by the digest of their blob."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._recent: LRUCache[Digest, OpenLayer] = LRUCache(_RECENT)
        self._unnamed: dict[Digest, OpenLayer] = {}
        self._alive: weakref.WeakValueDictionary[Digest, OpenLayer] = weakref.WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<OpenLayers {len(self._alive)}>"

    def __len__(self) -> int:
        return len(self._alive)

    def get(self, digest: Digest) -> OpenLayer | None:
        """Return a layer if it is open."""
        return self._alive.get(digest)

    def use(self, digest: Digest, opened: OpenLayer) -> None:
        """Have a layer open, for longer than those that were not used since."""
        self._alive[digest] = self._recent[digest] = opened

    def hold(self, digest: Digest, sealed: SealedLayer) -> None:
        """Have a layer that is open stay so until the files of its pass have their names."""
        opened = self._alive.get(digest)
        if opened is not None:
            self._unnamed[digest] = opened
            sealed.on_closed.append(partial(self._forget, digest))

    def relax(self) -> None:
        """Let go of what is open only because it may be of use again."""
        self._recent.clear()

    def _forget(self, digest: Digest) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # the loop has ended with the mount
            self._token.run_sync_soon(self._unnamed.pop, digest, None)
