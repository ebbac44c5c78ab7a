"""The drafts of a mount, in a directory of a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orasfs.staging.drafts import DraftStore
from orasfs.staging.namespaces import LocalNamespaces
from orasfs.vfs.drafts import DraftCommitter, Drafts


@contextmanager
def drafts_at(path: Path, committer: DraftCommitter | None = None) -> Iterator[Drafts]:
    """Have the drafts of a directory, and let go of them as the end of a mount does."""
    store = DraftStore(path / "drafts")
    try:
        yield Drafts(store, LocalNamespaces(path / "namespaces.json"), committer)
    finally:
        store.close()
