import errno
import os
from pathlib import Path

import pytest

from orasfs.errors import StorageFailure, StorageFull
from orasfs.store.files import disk

CONTENT = os.urandom(100_000)


@pytest.fixture
def fd(tmp_path: Path) -> int:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return os.open(path, os.O_RDONLY)


def test_cached_pages_are_read_at_once(fd: int) -> None:
    disk.read_fully(fd, 0, len(CONTENT))
    assert disk.read_now(fd, 1000, 50_000) == CONTENT[1000:51_000]
    os.close(fd)


@pytest.mark.parametrize("size", [0, 65_536, 65_537, 100_000])
def test_reads_of_every_size_are_exact(fd: int, size: int) -> None:
    assert disk.read_now(fd, 0, size) == CONTENT[:size]
    os.close(fd)


def test_part_that_is_not_all_there_is_not_returned(fd: int) -> None:
    assert disk.read_now(fd, len(CONTENT) - 10, 20) is None
    os.close(fd)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.EAGAIN, None), (errno.EIO, None), (errno.EOPNOTSUPP, CONTENT[5:15])],
    ids=["nothing cached", "broken", "not known"],
)
def test_what_a_filesystem_answers_to_a_read_without_waiting(
    fd: int, monkeypatch: pytest.MonkeyPatch, number: int, expected: bytes | None
) -> None:
    real = os.preadv

    def preadv(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(number, "on purpose")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert disk.read_now(fd, 5, 10) == expected
    os.close(fd)


def test_file_that_ends_early_is_a_storage_failure(fd: int) -> None:
    with pytest.raises(StorageFailure, match="ends at byte 100000"):
        disk.read_fully(fd, 0, len(CONTENT) + 1)
    os.close(fd)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_and_full_quota_are_storage_full(number: int) -> None:
    with pytest.raises(StorageFull, match="write it"), disk.translated("write it"):
        raise OSError(number, "full")
