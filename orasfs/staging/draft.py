"""One draft: its content, its settings, and who may change it now.

Owns `tree/` and `metadata/` of a draft's directory; a commit may keep things of its own beside.
"""

import os
import stat
from functools import partial
from pathlib import Path
from typing import Protocol

from orasfs.errors import Aborted, Busy
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest
from orasfs.staging import localdisk, settings
from orasfs.staging.capture import Captured, capture
from orasfs.staging.draftrecord import BaseReference, DraftKey, DraftRecord, write_record
from orasfs.staging.identity import Identity
from orasfs.staging.localdisk import translated
from orasfs.staging.openfile import OpenStaged
from orasfs.staging.pack import PackSettings
from orasfs.staging.packedblocks import PackedBlocks
from orasfs.staging.workspace import Workspace

TREE = "tree"
METADATA = "metadata"
ANNOTATIONS = "annotations.json"
CONFIG = "config"
COMMITTED = "committed"


class Watcher(Protocol):
    """Who is told, at once and on the event loop, of what is written into drafts."""

    def wrote(self, draft: "Draft", opened: OpenStaged) -> None:
        """Learn that something was written."""
        ...

    def closed(self, draft: "Draft", identity: Identity) -> None:
        """Learn that a file that was open for writing is closed."""
        ...

    def dropped(self, draft: "Draft") -> None:
        """Learn that a draft is gone."""
        ...


class NoWatcher:
    """Takes no notice."""

    def wrote(self, draft: "Draft", opened: OpenStaged) -> None:
        """Ignore it."""

    def closed(self, draft: "Draft", identity: Identity) -> None:
        """Ignore it."""

    def dropped(self, draft: "Draft") -> None:
        """Ignore it."""


class Draft:
    """A staged directory on its way to become an artifact.

    Attributes:
        id: its directory's name.
        directory: where it is kept; a commit may keep things of its own there.
        key: its name.
        base: what its content began from, None for nothing.
        expected: what the tag named when the draft began, None for nothing.
        created: seconds since the epoch.
        subject: the manifest to which it is to be attached, None for an artifact of its own.
        tree: its content.
        metadata: what is written into its `.oras`.
        blocks: of its packed directories, compressed ahead of a commit.
        writers: how many files are open for writing.
        is_committing: whether nobody may change it now.
        watcher: is told of what is written into it.
    """

    def __init__(
        self,
        directory: Path,
        record: "DraftRecord",
        lock: int,
        watcher: Watcher | None = None,
    ) -> None:
        self.watcher = watcher or NoWatcher()
        self.id = directory.name
        self.directory = directory
        self.key = record.key
        self.base = record.base
        self.expected = record.expected
        self.created = record.created
        self.subject = record.subject
        self.tree = Workspace(directory / TREE)
        self.metadata = Workspace(directory / METADATA)
        self.blocks = PackedBlocks(directory)
        self.writers = 0
        self.is_committing = False
        self._lock = lock

    def __repr__(self) -> str:
        return f"<Draft {self.id} {self.key}>"

    @property
    def is_copy(self) -> bool:
        """Whether it is its base as it is, and nothing of it can be changed."""
        return self.base is not None and self.base.is_whole

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return not self.is_copy and not self.tree.names(self.tree.top)

    @property
    def wants_referrers(self) -> bool:
        """Whether a copy takes along what refers to its base."""
        return self.tree.attribute(self.tree.top, settings.REFERRERS) == b"1"

    @property
    def is_forced(self) -> bool:
        """Whether a commit may replace what the tag names now, whatever it is."""
        return self.tree.attribute(self.tree.top, settings.FORCE) == b"1"

    def check_writable(self) -> None:
        """Refuse changes while a commit runs.

        Raises:
            Busy: one does.
        """
        if self.is_committing:
            raise Busy(f"{self.key} is being committed")

    def check_uncommitted(self) -> None:
        """End what is done ahead of a commit when that begins, which needs the processor.

        Raises:
            Aborted: it has begun.
        """
        if self.is_committing:
            raise Aborted(f"{self.key}: it is committed by now")

    def note_writer(self, opened: OpenStaged) -> None:
        """Count an open file as long as it is open, if it is open for writing."""
        if opened.is_writable:
            self.writers += 1
            opened.on_close = partial(self._writer_closed, opened.identity)
            opened.on_write = partial(self.watcher.wrote, self)

    def _writer_closed(self, identity: Identity) -> None:
        self.writers -= 1
        self.watcher.closed(self, identity)

    def capture(self) -> Captured:
        """Return the content as values. Blocks.

        Raises:
            LocalFailure: something in it cannot be read.
        """
        return capture(self.directory / TREE)

    def settings(
        self,
        captured: Captured,
        defaults: PackSettings | None = None,
        base: Manifest | None = None,
    ) -> PackSettings:
        """Return how it is packed. Blocks.

        Raises:
            InvalidInput: the annotation file is malformed.
        """
        entries = {path: of for path, of in captured.attributes.items() if path}
        said = settings.Said(
            captured.attributes.get("", {}),
            entries,
            self.metadata_file(ANNOTATIONS),
            self.metadata_file(CONFIG),
        )
        return settings.pack_settings(said, defaults, base)

    def metadata_file(self, name: str) -> bytes | None:
        """Return the bytes of a regular file in the draft's `.oras`, None if there is none."""
        path = self.directory / METADATA / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return None
        except FileNotFoundError:
            return None
        with translated(name):
            return path.read_bytes()

    def rebase(self, base: BaseReference | None, expected: Digest | None) -> None:
        """Say what it began from, durably.

        Raises:
            StorageFull: the disk is full; nothing has changed.
        """
        record = DraftRecord(self.key, base, expected, self.created, self.subject)
        write_record(self.directory, record)
        self.base, self.expected = base, expected

    def note_committed(self, digest: Digest) -> None:
        """Note durably that it was pushed: after a crash it is no draft any more. Blocks.

        Raises:
            StorageFull: the disk is full.
        """
        localdisk.replace_file(self.directory / COMMITTED, str(digest).encode())

    def rename(self, key: DraftKey) -> None:
        """Take another name, durably; for `DraftStore` alone."""
        record = DraftRecord(key, self.base, self.expected, self.created, self.subject)
        write_record(self.directory, record)
        self.key = key

    def close(self) -> None:
        """Let other processes have it. Harmless twice."""
        self.blocks.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
