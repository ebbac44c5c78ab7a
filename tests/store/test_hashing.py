import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.errors import ContentMismatch, StorageFailure
from orasfs.oci.digest import Digest, Verifier
from orasfs.store.files.hashing import FollowingVerifier

CONTENT = os.urandom(3 * 1024 * 1024 + 17)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    number = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield number
    os.close(number)


def test_bytes_pass_the_verifier_as_they_are_written(fd: int) -> None:
    verifier = Verifier(Digest.of(CONTENT), len(CONTENT))
    follower = FollowingVerifier(fd, verifier, 0)
    for offset in range(0, len(CONTENT), 100_000):
        written = os.pwrite(fd, CONTENT[offset : offset + 100_000], offset)
        follower.advance(offset + written)
    follower.finish()
    verifier.finish()


def test_it_goes_on_where_the_verifier_is(fd: int) -> None:
    verifier = Verifier(Digest.of(CONTENT), len(CONTENT))
    verifier.update(CONTENT[:1000])
    os.pwrite(fd, CONTENT, 0)
    follower = FollowingVerifier(fd, verifier, 1000)
    follower.advance(len(CONTENT))
    follower.finish()
    verifier.finish()


def test_what_is_hashed_is_what_is_in_the_file(fd: int) -> None:
    verifier = Verifier(Digest.of(CONTENT), len(CONTENT))
    os.pwrite(fd, CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), 0)
    follower = FollowingVerifier(fd, verifier, 0)
    follower.advance(len(CONTENT))
    follower.finish()
    with pytest.raises(ContentMismatch):
        verifier.finish()


def test_a_file_that_lost_bytes_is_a_storage_failure(fd: int) -> None:
    os.pwrite(fd, CONTENT[:10], 0)
    follower = FollowingVerifier(fd, Verifier(Digest.of(CONTENT), len(CONTENT)), 0)
    follower.advance(20)
    with pytest.raises(StorageFailure, match="ends at byte 10"):
        follower.finish()


def test_more_than_expected_is_a_mismatch(fd: int) -> None:
    os.pwrite(fd, CONTENT, 0)
    follower = FollowingVerifier(fd, Verifier(Digest.of(b"x"), 1), 0)
    follower.advance(len(CONTENT))
    with pytest.raises(ContentMismatch, match="more than the 1 bytes"):
        follower.finish()


@pytest.mark.parametrize("finished", [False, True])
def test_no_thread_is_left(fd: int, *, finished: bool) -> None:
    before = set(threading.enumerate())
    follower = FollowingVerifier(fd, Verifier(Digest.of(b""), 0), 0)
    if finished:
        follower.finish()
    follower.abandon()
    follower.abandon()
    assert set(threading.enumerate()) == before
