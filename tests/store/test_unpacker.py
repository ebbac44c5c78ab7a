"""A pass over a layer: what it writes, whatever the steps, and what memory it takes."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.oci.digest import Digest
from orasfs.store.content.cas import ContentStore
from orasfs.store.packed import unpack
from orasfs.store.packed import unpacker as unpacker_module
from orasfs.store.packed.unpacker import Unpacker
from orasfs.tree import indexsections
from orasfs.tree.partialindex import PartialIndex
from tests.support.archives import files, tar_of
from tests.support.layers import packed_layer
from tests.support.passes import finish, unpacker_of

MEMBERS = int(os.environ.get("ORASFS_LAYER_MEMBERS", "20000"))
_FIXED_MEBIBYTES = 16
_BYTES_PER_MEMBER = 125


def begin(directory: Path, blob: bytes) -> Unpacker:
    path = directory / "blob"
    path.write_bytes(blob)
    return unpacker_of(path, directory)


def content(directory: Path, opened: unpack.Unpacked, path: str) -> bytes:
    ordinal = opened.index.locate(path)
    assert ordinal is not None
    size, place = opened.index.member(ordinal).size, opened.index.place(ordinal)
    if place.blob is None:
        return os.pread(opened.slab_fd, size, place.offset)
    store = ContentStore(directory)
    return store.path_of(opened.index.blob(place.blob)).read_bytes()


_CONTENTS = st.lists(st.integers(0, 12_000).map(lambda size: b"ab\0\0" * size), max_size=8)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(contents=_CONTENTS, step=st.integers(100, 100_000), is_ahead=st.booleans())
def test_files_are_what_was_packed_whatever_the_steps(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    contents: list[bytes],
    step: int,
    *,
    is_ahead: bool,
) -> None:
    monkeypatch.setattr(indexsections, "OWN_BLOB_BYTES", 20_000)
    monkeypatch.setattr(unpacker_module, "_ALONE_BYTES", 0 if is_ahead else 1 << 20)
    directory = tmp_path_factory.mktemp("unpacker")
    packed = {f"d/{number}": each for number, each in enumerate(contents)}
    blob = tar_of(*files(packed))
    unpacker = begin(directory, blob)
    for stop in (*range(step, len(blob), step), len(blob)):
        unpacker.feed(stop)
        assert unpacker.position == stop
    finish(unpacker, directory / "layer").close(keep=False)
    opened = unpack.open_unpacked(directory / "layer")
    assert opened is not None
    assert opened.tar_digests == (Digest.of(blob),)
    assert {path: content(directory, opened, path) for path in packed} == packed
    assert opened.index.slab_size == sum(len(each) for each in contents if len(each) < 20_000)
    assert opened.index.blobs == sum(len(each) >= 20_000 for each in contents)
    os.close(opened.slab_fd)


def test_half_a_pass_leaves_no_name_behind(tmp_path: Path) -> None:
    blob = tar_of(*files({"a": b"1", "large": bytes(3 << 20), "b": b"2"}))
    unpacker = begin(tmp_path, blob)
    unpacker.feed(1 << 20)
    unpacker.close()
    assert not (tmp_path / "layer").exists()
    assert list((tmp_path / "ingest").iterdir()) == []


def test_truncated_layer_is_not_finished(tmp_path: Path) -> None:
    unpacker = begin(tmp_path, tar_of(*files({"a": bytes(5000)}))[:3000])
    unpacker.feed(3000)
    with pytest.raises(InvalidContent, match="truncated"):
        unpacker.seal(tmp_path / "layer")
    unpacker.close()
    assert not (tmp_path / "layer").exists()


@pytest.mark.parametrize("alone", [0, 1 << 30], ids=["thread", "alone"])
@pytest.mark.parametrize("parts", [1, 1 << 30])
@pytest.mark.parametrize("damaged", ["gzip", "tar"])
def test_what_is_before_damage_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str, parts: int, alone: int
) -> None:
    """Its readers may be waiting for no more than that, until the blob is verified."""
    monkeypatch.setattr(unpacker_module, "_ALONE_BYTES", alone)
    monkeypatch.setattr(unpacker_module, "_PART_BYTES", parts)
    first = tar_of(*files({"a": os.urandom(600 * 512)}))[: 601 * 512]  # without its end
    second = b"x" * 512 if damaged == "tar" else b""
    blob = bytearray(gzip.compress(first) + gzip.compress(second + bytes(1 << 20)))
    if damaged == "gzip":
        blob[-8] ^= 1
    unpacker = begin(tmp_path, bytes(blob))
    with pytest.raises(InvalidContent, match=damaged):
        unpacker.feed(len(blob))
    assert unpacker.position >= len(first)
    index = PartialIndex(unpacker.builder, packed_layer("a"))
    ordinal = index.locate("a")
    size, place = index.member(ordinal).size, index.place(ordinal)
    assert os.pread(unpacker.slab_fd, size, place.offset) == first[512:]
    unpacker.close()


def test_ordinals_are_the_same_before_and_after_the_end(tmp_path: Path) -> None:
    packed = {f"d{number % 7}/{number * 7919 % 100}": b"x" for number in range(100)}
    unpacker = begin(tmp_path, tar_of(*files(packed)))
    unpacker.feed((tmp_path / "blob").stat().st_size)
    partial = PartialIndex(unpacker.builder, packed_layer("a"))
    before = {path: partial.locate(path) for path in packed}
    members = {path: partial.member(ordinal) for path, ordinal in before.items()}
    finish(unpacker, tmp_path / "layer").close(keep=False)
    opened = unpack.open_unpacked(tmp_path / "layer")
    assert opened is not None
    assert {path: opened.index.locate(path) for path in packed} == before
    assert {path: opened.index.member(each) for path, each in before.items()} == members
    os.close(opened.slab_fd)


def test_memory_is_bounded_by_the_number_of_members(tmp_path: Path) -> None:
    """A million files (scripts/soak) take 120 MB to unpack, and nothing when they are opened."""
    program = [sys.executable, "-m", "tests.support.layerscale", str(tmp_path), str(MEMBERS)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    unpacking, opening = map(float, done.stdout.split())
    assert unpacking < _FIXED_MEBIBYTES + _BYTES_PER_MEMBER * MEMBERS / (1 << 20)
    assert opening < 4
