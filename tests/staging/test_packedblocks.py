"""Blocks that were compressed ahead: what is found is right, or nothing is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.errors import LocalFailure, StorageFull
from orasfs.staging import packedblocks
from orasfs.staging.layerblob import compress_block
from orasfs.staging.packedblocks import PackedBlocks

CONTENTS = [b"a" * 100_000, os.urandom(50_000), b"", b"x"]


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[PackedBlocks]:
    made = PackedBlocks(tmp_path)
    yield made
    made.clear()


def test_what_was_compressed_is_found_and_nothing_else(blocks: PackedBlocks) -> None:
    assert blocks.find(b"x") is None
    for content in [*CONTENTS, *CONTENTS]:
        blocks.add(content)
    for content in CONTENTS:
        assert blocks.find(content) == compress_block(content)
    assert blocks.find(b"y") is None


def test_it_leaves_nothing_on_the_disk(blocks: PackedBlocks, tmp_path: Path) -> None:
    blocks.add(CONTENTS[1])
    assert list(tmp_path.iterdir()) == []
    assert blocks._file is not None
    fd = blocks._file.fileno()
    blocks.clear()
    assert blocks.find(CONTENTS[1]) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_damaged_block_is_none(blocks: PackedBlocks) -> None:
    for content in CONTENTS:
        blocks.add(content)
    assert blocks._file is not None
    os.pwrite(blocks._file.fileno(), b"\xff", 20)
    assert blocks.find(CONTENTS[0]) is None
    assert blocks.find(CONTENTS[1]) == compress_block(CONTENTS[1])
    os.ftruncate(blocks._file.fileno(), 1000)
    assert blocks.find(CONTENTS[1]) is None


def test_a_full_disk_is_told_and_takes_nothing(
    blocks: PackedBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.add(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 3)
        with pytest.raises(StorageFull):
            blocks.add(b"y" * 1000)
    assert blocks.find(b"y" * 1000) is None
    blocks.add(b"z" * 1000)
    assert blocks.find(b"z" * 1000) == compress_block(b"z" * 1000)
    assert blocks.find(b"x") == compress_block(b"x")


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalFailure):
        PackedBlocks(tmp_path / "gone").add(b"x")


def test_no_more_are_taken_than_memory_is_meant_for(
    blocks: PackedBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packedblocks, "MOST_BLOCKS", 1)
    blocks.add(b"x")
    blocks.add(b"y")
    assert blocks.is_full
    assert blocks.find(b"y") is None
