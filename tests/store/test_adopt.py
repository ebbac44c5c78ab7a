"""Blobs that were made here enter the store verified, by a link where that can be."""

import os
from pathlib import Path

import pytest

from orasfs.errors import ContentMismatch
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.filestate import FileState
from orasfs.store.adopt import adopt
from orasfs.store.content.cas import ContentStore
from tests.support.content import Memory, OnDisk

CONTENT = b"made here" * 1000


def _descriptor(content: bytes = CONTENT) -> Descriptor:
    return Descriptor("text/plain", Digest.of(content), len(content))


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def _is_clean(store: ContentStore) -> bool:
    store.pending.close()
    return list(store.ingest_directory.iterdir()) == []


def test_a_file_on_the_same_disk_becomes_the_blob_itself(store: ContentStore, file: Path) -> None:
    adopt(store, _descriptor(), OnDisk(file))
    store.pending.close()
    blob = store.path_of(_descriptor().digest)
    assert blob.samefile(file)
    assert store.read_bytes(_descriptor()) == CONTENT
    assert _is_clean(store)


def test_a_file_that_cannot_be_linked_is_copied(
    store: ContentStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    adopt(store, _descriptor(), OnDisk(file))
    store.pending.close()
    assert not store.path_of(_descriptor().digest).samefile(file)
    assert store.read_bytes(_descriptor()) == CONTENT
    assert _is_clean(store)


def test_bytes_in_memory_are_written(store: ContentStore) -> None:
    adopt(store, _descriptor(), Memory(CONTENT))
    assert store.read_bytes(_descriptor()) == CONTENT
    assert _is_clean(store)


def test_what_is_not_what_it_should_be_is_not_kept(store: ContentStore, file: Path) -> None:
    wrong = Descriptor("text/plain", Digest.of(b"other"), len(CONTENT))
    with pytest.raises(ContentMismatch):
        adopt(store, wrong, OnDisk(file))
    with pytest.raises(ContentMismatch):
        adopt(store, _descriptor(b"short"), OnDisk(file))
    assert not store.has(wrong)
    assert _is_clean(store)
    assert file.read_bytes() == CONTENT


def test_what_is_there_is_left_alone(store: ContentStore, file: Path) -> None:
    store.ingest_bytes(_descriptor(), CONTENT)
    before = store.path_of(_descriptor().digest).stat().st_ino
    adopt(store, _descriptor(), OnDisk(file))
    assert store.path_of(_descriptor().digest).stat().st_ino == before


def test_a_file_that_is_as_it_was_when_it_was_hashed_is_not_read_again(
    store: ContentStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("orasfs.store.files.ingest.Ingest.resume", refuse)
    adopt(store, _descriptor(), OnDisk(file), FileState.of(file.stat()))
    store.pending.close()
    assert store.path_of(_descriptor().digest).samefile(file)


def test_a_file_that_was_written_into_since_it_was_hashed_is_not_kept(
    store: ContentStore, file: Path
) -> None:
    state = FileState.of(file.stat())
    with file.open("r+b") as opened:
        opened.write(b"X")
    os.utime(file, ns=(state.mtime_ns, state.mtime_ns))
    with pytest.raises(ContentMismatch):
        adopt(store, _descriptor(), OnDisk(file), state)
    assert _is_clean(store)
