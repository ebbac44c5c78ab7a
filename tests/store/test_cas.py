import json
import os
from pathlib import Path

import pytest

from orasfs.errors import ContentMismatch, StorageFailure, StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.files import disk

CONTENT = b"some content" * 1000


def descriptor_of(content: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(content), len(content))


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "ingest").iterdir())


def test_new_store_is_a_valid_empty_layout(tmp_path: Path) -> None:
    ContentStore(tmp_path / "cache")
    assert json.loads((tmp_path / "cache/oci-layout").read_bytes()) == {
        "imageLayoutVersion": "1.0.0"
    }
    assert json.loads((tmp_path / "cache/index.json").read_bytes())["manifests"] == []
    assert leftovers(tmp_path / "cache") == []


def test_index_of_another_client_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[{"x":1}]}')
    before = (tmp_path / "index.json").stat()
    store = ContentStore(tmp_path)
    store.ingest_bytes(descriptor_of(CONTENT), CONTENT)
    after = (tmp_path / "index.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_ingested_bytes_are_a_read_only_blob(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    assert not store.has(descriptor)
    store.ingest_bytes(descriptor, CONTENT)
    path = tmp_path / "blobs/sha256" / descriptor.digest.hex
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o444
    assert store.read_bytes(descriptor) == CONTENT
    assert leftovers(tmp_path) == []


def test_wrong_bytes_are_never_kept(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    with pytest.raises(ContentMismatch):
        store.ingest_bytes(descriptor, CONTENT[:-1] + b"x")
    assert not store.has(descriptor)
    assert leftovers(tmp_path) == []


def test_damaged_blob_is_dropped_when_read(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    store.ingest_bytes(descriptor, CONTENT)
    path = store.path_of(descriptor.digest)
    path.chmod(0o644)
    path.write_bytes(b"x" * len(CONTENT))
    assert store.read_bytes(descriptor) is None
    assert not path.exists()


def test_blob_of_another_size_is_not_it(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    store.path_of(descriptor.digest).parent.mkdir(parents=True)
    store.path_of(descriptor.digest).write_bytes(b"short")
    assert not store.has(descriptor)
    assert store.open(descriptor) is None


def test_stream_is_invisible_until_published(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    ingest = store.begin(descriptor)
    ingest.append(CONTENT[:5000])
    ingest.append(memoryview(CONTENT)[5000:])
    ingest.verify()
    assert not store.has(descriptor)
    ingest.publish()
    ingest.close(keep=True)
    assert store.read_bytes(descriptor) == CONTENT
    assert leftovers(tmp_path) == []


def test_too_many_bytes_are_a_mismatch(tmp_path: Path) -> None:
    ingest = ContentStore(tmp_path).begin(descriptor_of(CONTENT))
    with pytest.raises(ContentMismatch):
        ingest.append(CONTENT + b"x")
    ingest.close(keep=False)
    assert leftovers(tmp_path) == []


def test_interrupted_ingest_is_resumed(tmp_path: Path) -> None:
    descriptor = descriptor_of(CONTENT)
    first = ContentStore(tmp_path).begin(descriptor)
    first.append(CONTENT[:5000])
    first.close(keep=True)
    store = ContentStore(tmp_path)
    second = store.begin(descriptor)
    offsets: list[int] = []
    second.resume(offsets.append)
    assert (second.offset, second.resumed, offsets) == (5000, 5000, [5000])
    second.append(CONTENT[5000:])
    second.verify()
    second.publish()
    second.close(keep=True)
    assert store.read_bytes(descriptor) == CONTENT


def test_partial_that_is_longer_than_the_blob_starts_over(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    name = f"sha256-{descriptor.digest.hex}.partial"
    (tmp_path / "ingest" / name).write_bytes(CONTENT + b"more")
    ingest = store.begin(descriptor)
    ingest.resume(lambda _: None)
    assert ingest.offset == 0
    ingest.close(keep=False)


def test_second_ingest_of_a_digest_does_not_touch_the_first_ones_file(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    first = store.begin(descriptor)
    first.append(CONTENT[:100])
    second = ContentStore(tmp_path).begin(descriptor)  # and its sweep removes nothing in use
    second.resume(lambda _: None)
    assert second.offset == 0
    for ingest, rest in ((second, CONTENT), (first, CONTENT[100:])):
        ingest.append(rest)
        ingest.verify()
        ingest.publish()
        ingest.close(keep=True)
    assert store.read_bytes(descriptor) == CONTENT
    assert leftovers(tmp_path) == []


def test_private_file_of_a_dead_process_is_swept_and_of_a_living_one_kept(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    (tmp_path / "ingest/orasfs-dead.tmp").write_bytes(b"left over")
    (tmp_path / "ingest/0123_456").write_bytes(b"another client's")
    first, second = store.begin(descriptor), store.begin(descriptor)
    ContentStore(tmp_path)
    names = leftovers(tmp_path)
    assert "orasfs-dead.tmp" not in names
    assert "0123_456" in names
    assert len(names) == 3
    first.close(keep=False)
    second.close(keep=False)


def test_reader_of_a_kept_partial_does_not_hold_its_lock(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)
    first = store.begin(descriptor)
    first.append(CONTENT[:100])
    reader = first.open_reader()
    first.close(keep=True)
    second = store.begin(descriptor)
    second.resume(lambda _: None)
    assert second.offset == 100
    second.close(keep=False)
    assert os.pread(reader, 200, 0) == CONTENT[:100]
    os.close(reader)


@pytest.mark.parametrize("failing", ["write_fully", "sync_directory"])
def test_failure_at_any_step_leaves_no_half_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store = ContentStore(tmp_path)
    descriptor = descriptor_of(CONTENT)

    def fail(*arguments: object) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(disk, failing, fail)
    with pytest.raises(StorageFailure):
        store.ingest_bytes(descriptor, CONTENT)
    assert leftovers(tmp_path) == []
    assert store.read_bytes(descriptor) in (None, CONTENT)


def test_full_disk_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ContentStore(tmp_path)

    def full(*arguments: object) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFull):
        store.ingest_bytes(descriptor_of(CONTENT), CONTENT)
    assert leftovers(tmp_path) == []


def test_root_that_cannot_be_made_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailure):
        ContentStore(tmp_path / "file" / "cache")
