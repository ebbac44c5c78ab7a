"""A layer that was unpacked whole, in files that have no final names yet.

Owns these files from the end of a pass (`orasfs.store.packed.unpacker`) until they are durable and
have their names. It can be read meanwhile: `unpacked` says what is in it. Blocking; knows no trio.

INVARIANT: the index gets its name last, so what it names is on the disk before it.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from orasfs.oci.digest import Digest
from orasfs.store.files import disk
from orasfs.store.packed.memberfiles import MemberFiles
from orasfs.store.packed.unpack import Draft, Unpacked


class SealedLayer:
    """Implements `orasfs.store.files.pending.Unnamed`.

    Args:
        directory: of the layer.
        files: what the pass has written; closed by `close`.
        draft: the index; closed by `close`.

    Attributes:
        unpacked: the layer; who opens it takes over its slab.
        on_closed: called in the end, in the thread that closes it.
    """

    def __init__(self, directory: Path, files: MemberFiles, draft: Draft) -> None:
        self._directory = directory
        self._files = files
        self._draft = draft
        self.unpacked: Unpacked = draft.open(os.dup(files.slab_fd))
        self.on_closed: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<SealedLayer {self._directory.name}>"

    @property
    def size(self) -> int:
        """How many bytes the disk is to write."""
        return self._files.size

    @property
    def paths(self) -> Mapping[Digest, Path]:
        """Where the large files are."""
        return self._files.paths

    def share(self) -> None:
        """Let others have the files open, too."""
        self._files.share()

    def publish(self) -> None:
        """Make all durable and give it its final names.

        Raises:
            StorageFull: the disk is full.
        """
        with disk.translated(f"unpack into {self._directory}"):
            self._files.settle()
            self._draft.publish(self._directory, self._files.slab_path)

    def close(self, *, keep: bool) -> None:  # noqa: ARG002 - nobody can go on with them
        """Let go of the files; what has no final name is removed."""
        with ExitStack() as stack:  # all of it, whatever fails
            for tell in self.on_closed:
                stack.callback(tell)
            stack.enter_context(disk.translated(f"unpack into {self._directory}"))
            stack.callback(self._files.close)
            stack.callback(self._draft.close)
