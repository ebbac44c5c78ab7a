"""A blob that was made here can be read before the disk has it, and has its name afterwards."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.errors import StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.adopt import adopt
from orasfs.store.content.cas import ContentStore
from orasfs.store.files.ingest import Ingest
from orasfs.store.files.pending import MAX_PENDING, Patience
from tests.conftest import ExpectLog
from tests.support.content import OnDisk

CONTENT = b"made here" * 1000
BLOB = Descriptor("text/plain", Digest.of(CONTENT), len(CONTENT))


class _SlowDisk:
    """Has nothing durable before it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go_on = threading.Event()
        publish = Ingest.publish

        def publish_slowly(incoming: Ingest) -> None:
            self.may_go_on.wait(30)
            publish(incoming)

        monkeypatch.setattr(Ingest, "publish", publish_slowly)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[_SlowDisk]:
    slow = _SlowDisk(monkeypatch)
    yield slow
    slow.may_go_on.set()


@pytest.fixture
def store(tmp_path: Path, disk: _SlowDisk) -> Iterator[ContentStore]:
    store = ContentStore(tmp_path / "cache")
    yield store
    disk.may_go_on.set()
    store.pending.close()


@pytest.fixture
def file(tmp_path: Path) -> OnDisk:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return OnDisk(path)


def test_a_blob_is_read_before_it_is_durable_and_has_no_final_name_until_then(
    store: ContentStore, disk: _SlowDisk, file: OnDisk
) -> None:
    adopt(store, BLOB, file)
    assert store.has(BLOB)
    assert store.read_bytes(BLOB) == CONTENT
    assert not store.path_of(BLOB.digest).exists()
    disk.may_go_on.set()
    store.pending.close()
    assert store.path_of(BLOB.digest).read_bytes() == CONTENT
    assert store.read_bytes(BLOB) == CONTENT
    assert list(store.places_of(BLOB.digest)) == [store.path_of(BLOB.digest)]
    assert list(store.ingest_directory.iterdir()) == []


def test_a_reader_who_saw_it_pending_finds_it_when_it_has_moved(
    store: ContentStore, disk: _SlowDisk, file: OnDisk
) -> None:
    adopt(store, BLOB, file)
    places = store.places_of(BLOB.digest)
    first = next(places)
    disk.may_go_on.set()
    store.pending.close()
    assert not first.exists()
    assert next(places).read_bytes() == CONTENT


def test_what_the_disk_refuses_late_is_not_kept_and_leaves_nothing(
    store: ContentStore,
    disk: _SlowDisk,
    file: OnDisk,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: ExpectLog,
) -> None:
    expect_log(logging.WARNING, "not kept .*no space left")

    def refuse(_incoming: Ingest) -> None:
        raise StorageFull("no space left on the disk")

    monkeypatch.setattr(Ingest, "publish", refuse)
    adopt(store, BLOB, file)
    disk.may_go_on.set()
    store.pending.close()
    assert not store.has(BLOB)
    assert list(store.ingest_directory.iterdir()) == []


def test_a_process_that_dies_meanwhile_leaves_what_the_next_removes(
    store: ContentStore, disk: _SlowDisk, file: OnDisk
) -> None:
    adopt(store, BLOB, file)
    path = store.pending.path_of(BLOB.digest)
    assert path is not None
    left = path.with_name("orasfs-0123456789abcdef01234567.tmp")
    left.write_bytes(CONTENT)  # as after a crash: nobody holds it
    again = ContentStore(store.root)
    assert not again.has(BLOB)
    assert not left.exists()
    assert path.exists()  # somebody holds it
    disk.may_go_on.set()
    store.pending.close()


def test_many_wait_for_the_disk(store: ContentStore, disk: _SlowDisk, tmp_path: Path) -> None:
    ended = threading.Event()

    def bring() -> None:
        for number in range(MAX_PENDING + 1):
            path = tmp_path / f"file-{number}"
            path.write_bytes(b"%d" % number)
            content = path.read_bytes()
            descriptor = Descriptor("text/plain", Digest.of(content), len(content))
            adopt(store, descriptor, OnDisk(path))
        ended.set()

    thread = threading.Thread(target=bring)
    thread.start()
    assert not ended.wait(0.2)
    disk.may_go_on.set()
    thread.join(30)
    assert ended.is_set()
    store.pending.close()


def test_a_closed_store_keeps_nothing_more(
    store: ContentStore, disk: _SlowDisk, file: OnDisk
) -> None:
    disk.may_go_on.set()
    store.pending.close()
    adopt(store, BLOB, file)
    assert not store.has(BLOB)
    assert list(store.ingest_directory.iterdir()) == []


@pytest.mark.parametrize(
    ("now", "used_at", "left"),
    [
        (10.0, 5.0, 2.0),  # nobody has used it since
        (11.0, 10.5, 1.5),
        (12.0, 5.0, 0.0),
        (12.5, 12.4, 1.9),
        (34.0, 33.9, 1.0),  # not longer than the most
        (60.0, 59.9, 0.0),
    ],
)
def test_what_may_wait_does_until_nobody_reads_but_not_for_ever(
    now: float, used_at: float, left: float
) -> None:
    patience = Patience(quiet_seconds=2.0, most_seconds=25.0)
    assert patience.seconds_left(now, since=10.0, used_at=used_at) == pytest.approx(left)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[ContentStore]:
    store = ContentStore(tmp_path / "cache", patience=Patience(1e6, 1e6))
    yield store
    store.pending.close()


def bring(store: ContentStore, number: int) -> Descriptor:
    """Have a store keep a blob that is worth waiting."""
    content = bytes([number]) * (5 << 20)
    descriptor = Descriptor("text/plain", Digest.of(content), len(content))
    incoming = store.begin(descriptor)
    incoming.append(content)
    incoming.verify()
    store.keep(incoming)
    return descriptor


def test_a_blob_that_is_asked_for_has_its_name_and_the_others_wait(patient: ContentStore) -> None:
    first, second = bring(patient, 1), bring(patient, 2)
    patient.pending.settle(second.digest)
    assert patient.path_of(second.digest).exists()
    assert not patient.path_of(first.digest).exists()
    assert patient.has(first)
    patient.pending.close()
    assert patient.path_of(first.digest).exists()


def test_all_have_their_names_when_it_is_told_so_and_then_there_is_nothing_to_do(
    patient: ContentStore,
) -> None:
    blobs = [bring(patient, number) for number in range(3)]
    assert patient.pending.settle_all()
    assert all(patient.path_of(each.digest).exists() for each in blobs)
    assert not patient.pending.settle_all()


def test_who_waits_for_a_blob_is_told_that_the_disk_refused_it(
    patient: ContentStore, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "not kept .*no space left")

    def refuse(_incoming: Ingest) -> None:
        raise StorageFull("no space left on the disk")

    monkeypatch.setattr(Ingest, "publish", refuse)
    blob = bring(patient, 1)
    for _ in range(2):
        with pytest.raises(StorageFull, match="no space left"):
            patient.pending.settle(blob.digest)
    assert not patient.has(blob)
    assert list(patient.ingest_directory.iterdir()) == []
    monkeypatch.undo()
    assert bring(patient, 1) == blob
    patient.pending.settle(blob.digest)
    assert patient.path_of(blob.digest).exists()


def test_many_do_not_wait_although_they_may(patient: ContentStore) -> None:
    for number in range(20):
        content = b"%d" % number
        descriptor = Descriptor("text/plain", Digest.of(content), len(content))
        incoming = patient.begin(descriptor)
        incoming.append(content)
        incoming.verify()
        patient.pending.add(incoming, may_wait=True)
    while sum(path.is_file() for path in (patient.root / "blobs").rglob("*")) < 5:
        threading.Event().wait(0.005)


def test_a_small_blob_has_its_name_at_once(patient: ContentStore) -> None:
    descriptor = Descriptor("text/plain", Digest.of(b"small"), 5)
    incoming = patient.begin(descriptor)
    incoming.append(b"small")
    incoming.verify()
    patient.keep(incoming)
    assert patient.path_of(descriptor.digest).read_bytes() == b"small"


def test_what_comes_after_the_end_is_left_to_the_next_mount_if_it_can_be_gone_on_with(
    patient: ContentStore,
) -> None:
    patient.pending.close()
    descriptor = bring(patient, 1)
    assert not patient.has(descriptor)
    assert [path.stat().st_size for path in patient.ingest_directory.iterdir()] == [5 << 20]
