"""Layers that are shown by the tables of contents that others put into them."""

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orasfs.errors import ConnectionRefused, ContentMismatch, OrasfsError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.options import Verify
from orasfs.tree.layers import Layer
from orasfs.tree.node import PackedLayer
from orasfs.tree.toc import TocForm, estargz_start, find_toc
from tests.conftest import ExpectLog
from tests.fakes.source import MemorySource
from tests.support.caches import lazy_at
from tests.support.seekable import (
    FIRST_FILE,
    LARGE_FILE,
    described,
    expected,
    image_layer,
    read_member,
)

SEEKABLE = ["image-estargz", "image-zstd-chunked"]
OLD, NEW = "io.containers.", "io.github.containers."


async def content(layer: Layer, path: str) -> bytes:
    ordinal = layer.index.locate(path)
    assert ordinal is not None
    return await read_member(layer, ordinal)


def flip(source: MemorySource, descriptor: Descriptor, place: int) -> None:
    """Serve the blob with one bit that is another."""
    wrong = bytearray(source.blobs[descriptor.digest])
    wrong[place] ^= 1
    source.served[descriptor.digest] = bytes(wrong)


def damage(root: Path) -> None:
    """Write something else into the middle of what was fetched of a layer."""
    (parts,) = root.glob("orasfs/layers/*/*/parts")
    with parts.open("r+b") as file:
        file.seek(parts.stat().st_size // 2)
        file.write(os.urandom(1000))


@pytest.mark.parametrize("verify", list(Verify))
@pytest.mark.parametrize("tag", SEEKABLE)
async def test_layer_shows_what_is_expected_and_is_read_by_ranges(
    tmp_path: Path, tag: str, verify: Verify
) -> None:
    source = MemorySource()
    layer = image_layer(source, tag)
    async with lazy_at(tmp_path, source, verify=verify) as (repository, _):
        opened = await repository.open_layer(layer)
        assert await described(opened) == expected()
        assert all(request.stop is not None for request in source.streams)
    assert len(source.streams) < 25
    assert source.bytes_sent < 1.3 * layer.descriptor.size


@pytest.mark.parametrize("tag", SEEKABLE)
async def test_first_file_takes_two_requests_and_little_else(tmp_path: Path, tag: str) -> None:
    source = MemorySource()
    layer = image_layer(source, tag)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.begin_layer(layer)
        assert await content(opened, FIRST_FILE) == b"#!/bin/sh\necho hi\n"  # type: ignore[arg-type]
    assert len(source.streams) == 2
    assert source.bytes_sent < 40_000


@pytest.mark.parametrize("tag", SEEKABLE)
async def test_what_was_read_is_there_without_the_network(tmp_path: Path, tag: str) -> None:
    source = MemorySource()
    layer = image_layer(source, tag)
    async with lazy_at(tmp_path, source) as (repository, _):
        whole = await content(await repository.open_layer(layer), LARGE_FILE)
    source.open_error = ConnectionRefused("down")
    source.is_trusted = False  # as one that is never asked
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        assert await content(opened, LARGE_FILE) == whole
        with pytest.raises(ConnectionRefused):
            await content(opened, FIRST_FILE)


@pytest.mark.parametrize("tag", SEEKABLE)
async def test_source_that_is_not_trusted_is_asked_for_no_parts(tmp_path: Path, tag: str) -> None:
    source = MemorySource()
    source.is_trusted = False
    layer = image_layer(source, tag)
    async with lazy_at(tmp_path, source) as (repository, _):
        assert await described(await repository.open_layer(layer)) == expected()
    assert [request.stop for request in source.streams] == [None]


@pytest.mark.parametrize("tag", SEEKABLE)
async def test_damage_on_the_disk_is_mended_from_the_network(tmp_path: Path, tag: str) -> None:
    source = MemorySource()
    layer = image_layer(source, tag)
    async with lazy_at(tmp_path, source) as (repository, _):
        whole = await content(await repository.open_layer(layer), LARGE_FILE)
    damage(tmp_path)
    before = len(source.streams)
    async with lazy_at(tmp_path, source) as (repository, _):
        assert await content(await repository.open_layer(layer), LARGE_FILE) == whole
    assert len(source.streams) == before + 1


@pytest.mark.parametrize("tag", SEEKABLE)
async def test_wrong_bit_in_a_chunk_fails_that_chunk_only(tmp_path: Path, tag: str) -> None:
    source = MemorySource()
    layer = image_layer(source, tag)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        flip(source, layer.descriptor, 1000)
        for _ in range(2):
            with pytest.raises(ContentMismatch):
                await content(opened, LARGE_FILE)
        assert await content(opened, FIRST_FILE)
        source.served.clear()
        assert len(await content(opened, LARGE_FILE)) == 5_900_000


def footer(descriptor: Descriptor) -> int:
    return descriptor.size - 20


def table(descriptor: Descriptor) -> int:
    place = find_toc(descriptor)
    assert place is not None
    return descriptor.size - 1000 if place.form is TocForm.ESTARGZ else place.start + 1000


@pytest.mark.parametrize("place", [footer, table])
@pytest.mark.parametrize("tag", SEEKABLE)
async def test_wrong_bit_in_the_table_or_its_footer_shows_nothing_wrong(
    tmp_path: Path, tag: str, place: Callable[[Descriptor], int], expect_log: ExpectLog
) -> None:
    source = MemorySource()
    layer = image_layer(source, tag)
    flip(source, layer.descriptor, place(layer.descriptor))
    if (tag, place) == ("image-zstd-chunked", footer):  # the manifest tells all that is in it
        async with lazy_at(tmp_path, source) as (repository, _):
            assert await described(await repository.open_layer(layer)) == expected()
        return
    expect_log(logging.WARNING, "layer is read whole")
    async with lazy_at(tmp_path, source, lazy_bytes=1 << 30) as (repository, _):
        with pytest.raises(OrasfsError):  # the whole layer is not what its digest says, either
            await repository.open_layer(layer)
    source.served.clear()
    async with lazy_at(tmp_path, source) as (repository, _):
        assert await described(await repository.open_layer(layer)) == expected()


@pytest.mark.parametrize("reason", ["digest", "no ranges"])
@pytest.mark.parametrize("tag", SEEKABLE)
async def test_layer_with_a_table_of_no_use_is_read_whole(
    tmp_path: Path, tag: str, reason: str, expect_log: ExpectLog
) -> None:
    source = MemorySource()
    layer = image_layer(source, tag)
    if reason == "no ranges":
        source.ignores_ranges = True
    else:
        annotations = dict(layer.descriptor.annotations)
        key = next(key for key in annotations if key.endswith(("toc.digest", "checksum")))
        annotations[key] = str(Digest.of(b"another"))
        descriptor = dataclasses.replace(layer.descriptor, annotations=annotations)
        layer = dataclasses.replace(layer, descriptor=descriptor)
    expect_log(logging.WARNING, "layer is read whole")
    async with lazy_at(tmp_path, source) as (repository, _):
        for _ in range(2):
            assert await described(await repository.open_layer(layer)) == expected()
    assert len(source.streams) == 2


async def test_annotations_of_today_are_known_too(tmp_path: Path) -> None:
    source = MemorySource()
    layer = image_layer(source, "image-zstd-chunked")
    renamed = {key.replace(OLD, NEW): value for key, value in layer.descriptor.annotations.items()}
    assert NEW in next(iter(renamed))
    descriptor = dataclasses.replace(layer.descriptor, annotations=renamed)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(PackedLayer(descriptor, "", has_whiteouts=True))
        assert await content(opened, FIRST_FILE)
    assert source.bytes_sent < 40_000


async def test_layer_without_annotations_is_read_whole(tmp_path: Path) -> None:
    """A footer alone vouches for nothing."""
    source = MemorySource()
    layer = image_layer(source, "image-estargz")
    bare = dataclasses.replace(layer.descriptor, annotations={})
    assert estargz_start(source.blobs[bare.digest][-51:], bare.size)
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(PackedLayer(bare, "", has_whiteouts=True))
        assert await described(opened) == expected()
    assert [request.stop for request in source.streams] == [None]


async def test_chunks_are_served_where_the_disk_cannot_be_written(tmp_path: Path) -> None:
    source = MemorySource()
    layer = image_layer(source, "image-estargz")
    async with lazy_at(tmp_path, source) as (repository, _):
        opened = await repository.open_layer(layer)
        parts = tmp_path / "orasfs" / "layers" / "sha256" / layer.descriptor.digest.hex / "parts"
        parts.mkdir(parents=True)
        assert await described(opened) == expected()
    assert len(source.streams) < 25
