"""Layers that are shown while they pass: what is readable when, and what is taken back."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing

from orasfs.errors import ConnectionRefused, ContentMismatch, ContentRefused, InvalidContent
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobReader, BlobStreamer
from orasfs.store.options import Verify
from orasfs.store.packed.members import MemberReader
from orasfs.store.packed.openlayer import OpenLayer
from orasfs.store.packed.rangedlayer import RangedLayer
from orasfs.tree.layers import PassingLayer
from orasfs.tree.node import PackedLayer
from orasfs.tree.partialindex import NotKnownYet
from tests.conftest import ExpectLog
from tests.fakes.source import MemorySource
from tests.support.archives import directory, file, link, tar_of
from tests.support.caches import content, forget_bytes, lazy_at, locate
from tests.support.stored import FIRST, GATE, LARGE, SECOND, TAR, packed


async def test_member_of_an_earlier_pass_is_opened_when_it_passes_again(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    async with lazy_at(tmp_path, source) as (repository, _):
        ordinal = (await repository.open_layer(layer)).index.locate("docs/large")
        assert ordinal is not None
    shutil.rmtree(tmp_path)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        with pytest.raises(NotKnownYet):
            passing.open_member(ordinal)
        source.gate.set()
        reader = await open_when_passed(passing, ordinal)
        assert await reader.read(0, len(LARGE)) == LARGE
        reader.close()


async def open_when_passed(layer: PassingLayer, ordinal: int) -> BlobReader:
    while True:
        try:
            return layer.open_member(ordinal)
        except NotKnownYet:
            await layer.wait_for_more()


async def test_member_is_read_before_the_layer_has_ended(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        assert repository.layer_now(layer) is None
        assert await content(passing, "docs/first") == FIRST
        ordinal = await locate(passing, "docs/second")
        assert ordinal is not None
        reader = passing.open_member(ordinal)
        assert await reader.read(0, 100_000) == SECOND[:100_000], "a part that has passed"
        again = (await repository.begin_layer(layer)).open_member(ordinal)
        assert await again.read(0, 10) == SECOND[:10], "by a number from an earlier lookup"
        again.close()
        was_verified = reader.is_verified
        source.gate.set()
        assert await reader.read(0, len(SECOND)) == SECOND
        assert await content(passing, "docs/large") == LARGE
        opened = await repository.open_layer(layer)
        assert await reader.read(5, 10) == SECOND[5:15], "a reader outlives the pass"
        assert (was_verified, reader.is_verified) == (False, True)
        reader.close()
        assert opened.index.locate("docs/second") == ordinal
        await passing.wait_for_more()
        assert passing.index is opened.index, "who looks in it uses the whole index now"
        assert repository._shared.layers._layers._counters.layers_unpacked == 1
        assert not repository._shared.layers._layers._passes
    assert len(source.streams) == 1


async def test_name_that_is_missing_is_known_at_the_end_only(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        found: list[int | None] = []

        async def look() -> None:
            found.append(await locate(passing, "docs/none"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            assert await content(passing, "docs/first") == FIRST
            assert found == []
            source.gate.set()
        assert found == [None]


async def test_listing_waits_for_the_end(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        with pytest.raises(NotKnownYet):
            passing.index.children(0)


async def test_symlink_that_goes_up_is_not_shown_before_the_layer_is_judged(
    tmp_path: Path,
) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        assert await content(passing, "docs/first") == FIRST
        assert await locate(passing, "docs/near") is not None
        with pytest.raises(NotKnownYet):
            passing.index.locate("docs/sub/far")
        source.gate.set()
        assert await locate(passing, "docs/sub/far") is not None


async def test_harmful_member_ends_the_view_as_soon_as_it_passes(tmp_path: Path) -> None:
    source = MemorySource()
    harmful = tar_of(
        directory("docs"),
        file("docs/first", FIRST),
        link("docs/out", "first"),
        file("docs/out/x", b"through a symlink"),
        file("docs/second", SECOND),
    )
    layer = packed(source, harmful)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        with pytest.raises(ContentRefused, match="no symbolic link allowed"):
            await locate(passing, "docs/second")
        source.gate.set()
        with pytest.raises(ContentRefused, match="no symbolic link allowed"):
            await repository.open_layer(layer)


async def test_layer_that_is_refused_at_its_end_takes_back_what_was_shown(tmp_path: Path) -> None:
    source = MemorySource()
    refused = tar_of(
        directory("docs"),
        file("docs/first", FIRST),
        file("docs/second", SECOND),
        file("beside", b""),
    )
    layer = packed(source, refused)
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, told):
        passing = await repository.begin_layer(layer)
        ordinal = await locate(passing, "docs/first")
        assert ordinal is not None
        reader = passing.open_member(ordinal)
        assert await reader.read(0, 5) == FIRST[:5]
        source.gate.set()
        with pytest.raises(ContentRefused, match="outside"):
            await repository.open_layer(layer)
        assert reader.read_now(0, 5) is None
        with pytest.raises(ContentRefused, match="outside"):
            await reader.read(0, 5)
        with pytest.raises(ContentRefused, match="outside"):
            await repository.begin_layer(layer)
        assert told == [layer.descriptor.digest]


async def test_wrong_bytes_that_were_shown_are_taken_back(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.ERROR, "wrong bytes were served")
    source = MemorySource()
    layer = packed(source, TAR)
    right = source.blobs[layer.descriptor.digest]
    source.served[layer.descriptor.digest] = right[:-1] + bytes([right[-1] ^ 1])
    source.gate_at = GATE
    async with lazy_at(tmp_path, source) as (repository, told):
        passing = await repository.begin_layer(layer)
        ordinal = await locate(passing, "docs/first")
        assert ordinal is not None
        reader = passing.open_member(ordinal)
        assert await reader.read(0, 5) == FIRST[:5]
        source.gate.set()
        with pytest.raises(ContentMismatch):
            await content(passing, "docs/hard")
        assert reader.read_now(0, 5) is None
        with pytest.raises(ContentMismatch):
            await reader.read(0, 5)
        assert told == [layer.descriptor.digest]
    assert not list((tmp_path / "orasfs").glob("layers/*/*/index"))
    assert list((tmp_path / "ingest").glob("*.tmp")) == []


@pytest.mark.parametrize("reason", ["strict", "untrusted", "small"])
async def test_nothing_is_shown_before_it_is_verified_where_that_is_the_rule(
    tmp_path: Path, reason: str
) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    source.is_trusted = reason != "untrusted"
    source.gate_at = len(source.blobs[layer.descriptor.digest]) - 1
    verify = Verify.STRICT if reason == "strict" else Verify.LAZY
    most = 64 << 20 if reason == "small" else 1000
    async with lazy_at(tmp_path, source, verify=verify, lazy_bytes=most) as (repository, _):
        begun: list[PassingLayer] = []

        async def begin() -> None:
            begun.append(await repository.begin_layer(layer))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await trio.to_thread.run_sync(source.at_gate.wait)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert begun == []
            source.gate.set()
        assert await content(begun[0], "docs/second") == SECOND


async def test_pass_begins_anew_when_what_an_earlier_run_left_was_wrong(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    right = source.blobs[layer.descriptor.digest]
    digest = layer.descriptor.digest
    (tmp_path / "ingest").mkdir(parents=True)
    left = tmp_path / "ingest" / f"sha256-{digest.hex}.partial"
    left.write_bytes(right[:1000] + b"wrong" + right[1005:250_000])
    async with lazy_at(tmp_path, source, lazy_bytes=64 << 20) as (repository, told):
        opened = await repository.open_layer(layer)
        assert await content(opened, "docs/second") == SECOND
        assert told == []


async def test_large_members_are_blobs_that_versions_of_a_layer_share(tmp_path: Path) -> None:
    source = MemorySource()
    first = packed(source, tar_of(directory("docs"), file("docs/a", LARGE), file("docs/b", b"1")))
    second = packed(source, tar_of(directory("docs"), file("docs/b", b"2"), file("docs/c", LARGE)))
    async with lazy_at(tmp_path, source) as (repository, _):
        for layer, path in ((first, "docs/a"), (second, "docs/c")):
            opened = await repository.open_layer(layer)
            assert opened.index.blobs == 1
            assert opened.index.slab_size == 1
            assert await content(opened, path) == LARGE
    blobs = [path.name for path in (tmp_path / "blobs/sha256").iterdir()]
    assert blobs.count(Digest.of(LARGE).hex) == 1
    assert (tmp_path / "blobs/sha256" / Digest.of(LARGE).hex).read_bytes() == LARGE


async def test_large_member_is_a_file_that_may_be_handed_on_once_its_layer_is_good(
    tmp_path: Path,
) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    source.gate_at = len(source.blobs[layer.descriptor.digest]) - 1
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        ordinal = await locate(passing, "docs/large")
        assert ordinal is not None
        reader = passing.open_member(ordinal)
        assert isinstance(reader, MemberReader)
        assert await reader.read(0, len(LARGE)) == LARGE
        assert reader.backing_fd() is None
        source.gate.set()
        opened = await repository.open_layer(layer)
        assert await reader.read(0, 5) == LARGE[:5]
        for path, wanted in (("docs/large", LARGE), ("docs/first", None)):
            number = opened.index.locate(path)
            assert number is not None
            other = opened.open_member(number)
            assert isinstance(other, MemberReader)
            fd = other.backing_fd()
            assert (None if fd is None else os.pread(fd, len(LARGE) + 1, 0)) == wanted
            other.close()
            assert other.backing_fd() is None
        reader.close()


async def test_bytes_that_are_gone_are_passed_again_and_the_index_is_kept(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        ordinal = opened.index.locate("docs/large")
    forget_bytes(tmp_path)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        assert len(source.streams) == 1, "names need no bytes"
        assert opened.index.locate("docs/large") == ordinal
        async with trio.open_nursery() as nursery:
            for path, wanted in (("docs/large", LARGE), ("docs/first", FIRST)) * 3:

                async def read(path: str = path, wanted: bytes = wanted) -> None:
                    assert await content(opened, path) == wanted

                nursery.start_soon(read)
        assert len(source.streams) == 2


async def test_bytes_that_are_gone_and_cannot_be_had_are_the_failure_of_the_source(
    tmp_path: Path,
) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    async with lazy_at(tmp_path, source) as (repository, _):
        await repository.open_layer(layer)
    forget_bytes(tmp_path)
    source.open_error = ConnectionRefused("down")
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        for _ in range(2):
            with pytest.raises(ConnectionRefused):
                await content(opened, "docs/first")
        source.open_error = None
        await trio.sleep(0.06)  # the failure is remembered for so long
        assert await content(opened, "docs/first") == FIRST


async def test_random_access_is_used_where_bytes_are_gone(tmp_path: Path) -> None:
    """The port of layers that are seekable: bytes [start, stop) of the uncompressed tar."""

    class InMemory(RangedLayer):
        def __init__(self) -> None:
            pass

        def read_now(self, _start: int, _stop: int) -> None:
            return None

        async def read(self, _source: BlobStreamer, start: int, stop: int, _gap: int) -> bytes:
            await trio.lowlevel.checkpoint()
            return TAR[start:stop]

    source = MemorySource()
    layer = packed(source, TAR)
    async with lazy_at(tmp_path, source) as (repository, _):
        await repository.open_layer(layer)
    forget_bytes(tmp_path)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        assert isinstance(opened, OpenLayer)
        opened.ranged = InMemory()
        assert await content(opened, "docs/second") == SECOND
        assert await content(opened, "docs/large") == LARGE
    assert len(source.streams) == 1


async def test_head_of_a_large_layer_tells_its_top_directory(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, tar_of(directory("docs", 0o711), file("docs/a", os.urandom(5 << 20))))
    async with lazy_at(tmp_path, source) as (repository, _):
        top = await repository.peek_layer(layer)
        assert top is not None
        assert (top.mode, top.mtime_ns) == (0o711, 7 * 10**9)
        assert await repository.peek_layer(layer) == top
    assert source.bytes_sent < 3 << 20
    assert len(source.streams) == 1


@pytest.mark.parametrize("reason", ["strict", "damaged", "headless"])
async def test_head_that_tells_nothing_is_none(tmp_path: Path, reason: str) -> None:
    source = MemorySource()
    members = [file("docs/a", os.urandom(1 << 20))]
    layer = packed(source, tar_of(*members))
    if reason == "damaged":
        layer = PackedLayer(source.add_blob(b"\x1f\x8b" + os.urandom(1 << 20)), "docs")
    verify = Verify.STRICT if reason == "strict" else Verify.LAZY
    async with lazy_at(tmp_path, source, verify=verify) as (repository, _):
        assert await repository.peek_layer(layer) is None
    assert (source.bytes_sent == 0) == (reason == "strict")


async def test_broken_stream_that_was_shown_fails_its_readers_and_is_tried_again(
    tmp_path: Path,
) -> None:
    source = MemorySource()
    layer = packed(source, TAR)
    source.fail_at = GATE
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        assert await content(passing, "docs/first") == FIRST
        with pytest.raises(type(source.stream_error)):
            await content(passing, "docs/large")
        source.fail_at = None
        await trio.sleep(0.06)  # the failure is remembered for so long
        again = await repository.begin_layer(layer)
        assert await content(again, "docs/large") == LARGE


async def test_damage_inside_a_verified_layer_is_invalid(tmp_path: Path) -> None:
    source = MemorySource()
    layer = packed(source, TAR[:100_000])
    async with lazy_at(tmp_path, source) as (repository, _):
        passing = await repository.begin_layer(layer)
        with pytest.raises(InvalidContent, match="truncated"):
            await content(passing, "docs/large")
