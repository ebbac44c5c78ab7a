"""How content becomes the pieces of a body."""

import errno
import io
from dataclasses import replace
from typing import BinaryIO

import pytest

from orasfs.errors import Aborted, ContentMismatch, StorageFailure
from orasfs.registry.uploadjob import WholeJob
from tests.support.content import Memory, ignore, never

MIB = 1024 * 1024
BLOB = Memory(bytes(range(256)) * (5 * MIB // 512))  # 2.5 MiB


class Unreadable(Memory):
    def open(self) -> BinaryIO:
        class Broken(io.BytesIO):
            def read(self, _: int | None = -1, /) -> bytes:
                raise OSError(errno.EIO, "Input/output error")

        return Broken()


class Missing(Memory):
    def open(self) -> BinaryIO:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")


def job(content: Memory = BLOB, seen: list[int] | None = None) -> WholeJob:
    on_progress = ignore if seen is None else seen.append
    return WholeJob("a/b", "host/a/b@x", on_progress, never, content, content.descriptor)


def test_a_span_comes_in_pieces_and_progress_follows_them() -> None:
    seen: list[int] = []
    pieces = list(job(seen=seen).pieces(100, BLOB.size))
    assert b"".join(pieces) == BLOB.content[100:]
    assert max(map(len, pieces)) == MIB
    assert seen == [100 + MIB, 100 + 2 * MIB, BLOB.size]


def test_progress_is_told_once_a_piece_has_been_taken() -> None:
    seen: list[int] = []
    pieces = job(seen=seen).pieces(0, BLOB.size)
    next(pieces)
    assert seen == []
    next(pieces)
    assert seen == [MIB]


def test_an_empty_span_opens_nothing() -> None:
    content = Memory(b"")
    assert list(job(content).pieces(0, 0)) == []
    assert content.opened == 0


def test_a_disk_that_fails_is_not_taken_for_the_network() -> None:
    for content, words in ((Unreadable(b"x"), "Input/output"), (Missing(b"x"), "No such file")):
        with pytest.raises(StorageFailure, match=words):
            list(job(content).pieces(0, 1))


def test_content_that_ends_early_is_told() -> None:
    with pytest.raises(ContentMismatch, match=f"byte {BLOB.size}"):
        list(job().pieces(0, BLOB.size + 1))


def test_a_cancelled_job_gives_no_more_pieces() -> None:
    seen: list[int] = []
    cancelled = replace(job(seen=seen), is_cancelled=lambda: len(seen) > 0)
    pieces = cancelled.pieces(0, BLOB.size)
    next(pieces)
    with pytest.raises(Aborted):
        list(pieces)
