"""The partial file that comes in pieces: what it keeps, believes and leaves behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orasfs.errors import ContentMismatch, StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.files import chunkmapfile, disk
from orasfs.store.files.chunkfile import ChunkFile
from orasfs.store.files.chunks import CHUNK_BYTES

CONTENT = os.urandom(6 * CHUNK_BYTES + 12345)
DESCRIPTOR = Descriptor("x/y", Digest.of(CONTENT), len(CONTENT))
NAME = f"sha256-{DESCRIPTOR.digest.hex}"


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path)


@pytest.fixture
def open_file(store: ContentStore) -> Callable[[], ChunkFile]:
    return lambda: store.open_chunks(DESCRIPTOR)


def put(file: ChunkFile, start: int, stop: int) -> None:
    writer = file.open_writer(hashes_along=True)
    writer.write(memoryview(CONTENT)[start:stop], start)
    writer.close()


def names(store: ContentStore) -> set[str]:
    return {path.name for path in store.ingest_directory.iterdir()}


def never() -> None:
    """Check nothing."""


OpenFile = Callable[[], ChunkFile]


def test_pieces_in_any_order_become_the_blob(store: ContentStore, open_file: OpenFile) -> None:
    file = open_file()
    put(file, 3 * CHUNK_BYTES, len(CONTENT))
    put(file, 0, 3 * CHUNK_BYTES)
    assert file.chunks.is_complete
    file.verify(never)
    file.publish()
    file.close(keep=True)
    assert store.read_bytes(DESCRIPTOR) == CONTENT
    assert names(store) == set()


def test_a_wrong_byte_anywhere_is_found(store: ContentStore, open_file: OpenFile) -> None:
    for at in (0, 3 * CHUNK_BYTES, len(CONTENT) - 1):
        file = open_file()
        writer = file.open_writer(hashes_along=at > 0)
        wrong = bytearray(CONTENT)
        wrong[at] ^= 1
        writer.write(memoryview(wrong), 0)
        writer.close()
        with pytest.raises(ContentMismatch):
            file.verify(never)
        file.close(keep=False)
        assert names(store) == set()


def test_a_piece_is_not_written_over_what_is_there(open_file: OpenFile) -> None:
    file = open_file()
    put(file, CHUNK_BYTES, 2 * CHUNK_BYTES)
    writer = file.open_writer(hashes_along=False)
    writer.write(memoryview(bytes(3 * CHUNK_BYTES)), 0)
    writer.close()
    fd = file.open_reader()
    assert os.pread(fd, CHUNK_BYTES, CHUNK_BYTES) == CONTENT[CHUNK_BYTES : 2 * CHUNK_BYTES]
    assert os.pread(fd, 10, 2 * CHUNK_BYTES) == bytes(10)
    os.close(fd)
    file.close(keep=False)


def kill(file: ChunkFile) -> None:
    """Let go of the files as a killed process does."""
    os.close(file._fd)
    os.close(file._map_fd)


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_was_fetched_is_there_again(open_file: OpenFile, *, is_killed: bool) -> None:
    file = open_file()
    put(file, 0, 100)
    put(file, 2 * CHUNK_BYTES, 4 * CHUNK_BYTES + 7)
    if is_killed:
        kill(file)
    else:
        file.close(keep=True, flush=True)
    file = open_file()
    assert file.resumed == 100 + 2 * CHUNK_BYTES + 7
    assert file.chunks.has(0, 100)
    assert file.chunks.has(2 * CHUNK_BYTES, 4 * CHUNK_BYTES + 7)
    put(file, 100, 2 * CHUNK_BYTES)
    put(file, 4 * CHUNK_BYTES + 7, len(CONTENT))
    file.verify(never)
    file.close(keep=False)


@pytest.mark.parametrize(("is_flushed", "believed"), [(True, CHUNK_BYTES), (False, 0)])
def test_after_a_reboot_only_what_was_flushed_is_believed(
    open_file: OpenFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_flushed: bool,  # noqa: FBT001 - a parameter of the test
    believed: int,
) -> None:
    file = open_file()
    put(file, 0, CHUNK_BYTES)
    file.close(keep=True, flush=is_flushed)
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    monkeypatch.setattr(chunkmapfile, "_BOOT_ID", boot)
    file = open_file()
    assert file.resumed == believed
    file.close(keep=True)


def test_a_map_without_its_bytes_is_not_believed(store: ContentStore, open_file: OpenFile) -> None:
    file = open_file()
    put(file, 3 * CHUNK_BYTES, 4 * CHUNK_BYTES)
    file.close(keep=True)
    os.truncate(store.ingest_directory / f"{NAME}.partial", CHUNK_BYTES)
    file = open_file()
    assert file.resumed == 0
    file.close(keep=True)


@pytest.mark.parametrize("damage", [b"", b"garbage", b"x" * 4096])
def test_a_damaged_map_is_not_believed(
    store: ContentStore, open_file: OpenFile, damage: bytes
) -> None:
    file = open_file()
    put(file, 3 * CHUNK_BYTES, 4 * CHUNK_BYTES)
    file.close(keep=True)
    (store.ingest_directory / f"{NAME}.chunks").write_bytes(damage)
    file = open_file()
    assert file.resumed == 0
    put(file, 0, 10)
    file.close(keep=True)
    assert open_file().resumed == 10


def test_partial_that_came_in_order_is_gone_on_with(
    store: ContentStore, open_file: OpenFile
) -> None:
    (store.ingest_directory / f"{NAME}.partial").write_bytes(CONTENT[: 2 * CHUNK_BYTES + 9])
    file = open_file()
    assert file.resumed == 2 * CHUNK_BYTES + 9
    file.close(keep=True)


def test_partial_in_pieces_is_gone_on_with_in_order(
    store: ContentStore, open_file: OpenFile
) -> None:
    file = open_file()
    put(file, 0, CHUNK_BYTES + 5)
    put(file, 3 * CHUNK_BYTES, len(CONTENT))
    file.close(keep=True)
    ingest = store.begin(DESCRIPTOR)
    ingest.resume(lambda _: None)
    assert ingest.offset == CHUNK_BYTES + 5
    ingest.append(CONTENT[ingest.offset :])
    ingest.verify()
    ingest.publish()
    ingest.close(keep=True)
    assert names(store) == set()


def test_nothing_is_left_of_a_file_without_bytes(store: ContentStore, open_file: OpenFile) -> None:
    open_file().close(keep=True, flush=True)
    assert names(store) == set()


def test_second_process_works_on_a_private_file(store: ContentStore, open_file: OpenFile) -> None:
    first, second = open_file(), open_file()
    put(first, 0, 10)
    put(second, 0, len(CONTENT))
    second.verify(never)
    second.publish()
    second.close(keep=True)
    assert store.read_bytes(DESCRIPTOR) == CONTENT
    third = open_file()
    third.close(keep=True)
    first.close(keep=True)
    assert names(store) == {f"{NAME}.partial", f"{NAME}.chunks"}


def test_full_disk_is_told(open_file: OpenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_file()

    def full(fd: int, content: bytes, offset: int) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_fully", full)
        with pytest.raises(StorageFull):
            put(file, 0, 10)
    assert not file.chunks.has(0, 1)
    file.close(keep=False)


def test_writer_left_behind_harms_nothing(open_file: OpenFile) -> None:
    file = open_file()
    writer = file.open_writer(hashes_along=True)
    file.close(keep=True)
    writer.write(memoryview(CONTENT), 0)
    writer.close()
    file.close(keep=True)
