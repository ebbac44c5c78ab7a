"""Layers that are shown by the index that is published beside them, and when they are not."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from orasfs.errors import (
    ConnectionRefused,
    ContentMismatch,
    NotFound,
    Offline,
    OrasfsError,
    RegistryFailure,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.layerblob import Compression
from orasfs.store.options import Verify
from orasfs.store.packed import publishedindexes
from orasfs.store.packed.publishedlayer import PublishedLayer
from orasfs.tree.node import PackedLayer
from orasfs.tree.publishedindex import ARTIFACT_TYPE
from tests.conftest import ExpectLog
from tests.support.archives import directory, file, tar_of
from tests.support.caches import lazy_at
from tests.support.published import (
    FILES,
    MIB,
    TAR,
    Parts,
    assembled,
    changed,
    indexed,
    published,
)
from tests.support.referred import BLOB, BLOBS, check, publish, refer


@pytest.mark.parametrize("compression", list(Compression))
async def test_one_file_is_read_by_a_new_machine_without_the_rest(
    tmp_path: Path, compression: Compression
) -> None:
    made = publish(BLOBS[compression])
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/sub/05")
        assert made.source.count("list_referrers") == made.source.count("fetch_manifest") == 1
        wanted = 8.5 * MIB if compression is Compression.ZSTD else 2.1 * MIB
        assert 0 < made.bytes_of_layer < wanted
        assert len(made.source.streams) == 2, "the index, and a part of the layer"
        assert repository.layer_now(made.layer) is not None
        before = made.bytes_of_layer
        await check(repository, made.layer, "docs/sub/05")
        assert made.bytes_of_layer == before


async def test_all_is_read_right_and_counts_as_not_verified(tmp_path: Path) -> None:
    made = publish()
    async with lazy_at(tmp_path, made.source) as (repository, told):
        opened = await repository.open_layer(made.layer)
        assert isinstance(opened, PublishedLayer)
        assert not opened.is_verified
        await check(repository, made.layer)
        assert all(each.stop is not None for each in made.source.streams)
        assert made.bytes_of_layer <= 1.1 * len(BLOB)
        assert not told


async def test_what_was_read_is_there_for_the_next_mount_without_a_request(
    tmp_path: Path,
) -> None:
    made = publish()
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/large")
    made.source.streams.clear()
    made.source.calls.clear()
    made.source.open_error = Offline("nothing is asked")
    made.source.failure = Offline("nothing is asked")
    made.source.is_trusted = False
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/large")
        assert not made.source.calls
        with pytest.raises(Offline):
            await check(repository, made.layer, "docs/sub/00")


async def test_index_that_was_kept_is_checked_again(tmp_path: Path) -> None:
    made = publish()
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/small")
    path = tmp_path / "blobs" / "sha256" / made.index.digest.hex
    path.write_bytes(bytes(len(path.read_bytes())))
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/large")
    assert made.source.count("list_referrers") == 2


@pytest.mark.parametrize(
    "changes",
    [{"verify": Verify.STRICT}, {"uses_published": False}, {"lazy_bytes": 64 * MIB}],
    ids=["strict", "ignore", "small"],
)
async def test_published_index_is_not_asked_for(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    made = publish()
    async with lazy_at(tmp_path, made.source, **changes) as (repository, _):
        await check(repository, made.layer)
    assert not made.source.calls
    assert [each.stop for each in made.source.streams] == [None]


async def test_kept_index_is_not_used_by_who_wants_all_verified(tmp_path: Path) -> None:
    made = publish()
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/small")
    made.source.streams.clear()
    async with lazy_at(tmp_path, made.source, verify=Verify.STRICT) as (repository, _):
        opened = await repository.open_layer(made.layer)
        assert opened.is_verified
        assert [each.stop for each in made.source.streams] == [None]


async def test_source_that_may_be_mirrors_is_not_asked(tmp_path: Path) -> None:
    made = publish()
    made.source.is_trusted = False
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)
    assert not made.source.calls


async def test_mirrors_are_asked_for_no_parts_with_an_index_that_was_kept(tmp_path: Path) -> None:
    made = publish()
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/small")
    made.source.is_trusted = False
    made.source.streams.clear()
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)
    assert [each.stop for each in made.source.streams] == [None]


async def test_layer_without_an_index_is_asked_for_once(tmp_path: Path) -> None:
    made = publish()
    made.source.manifests.clear()
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)
        await check(repository, made.layer)
    assert made.source.count("list_referrers") == 1
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)
    assert made.source.count("list_referrers") == 1, "it is unpacked"


async def test_layers_of_one_manifest_ask_for_its_referrers_once(tmp_path: Path) -> None:
    made = publish()
    others = [
        PackedLayer(
            made.source.add_blob(blob), "docs", Digest.of(TAR), manifest=made.layer.manifest
        )
        for blob in (BLOBS[Compression.NONE], BLOBS[Compression.ZSTD])
    ]
    async with lazy_at(tmp_path, made.source) as (repository, _), trio.open_nursery() as each:
        for layer in (made.layer, *others):
            each.start_soon(check, repository, layer, "docs/small")
    assert made.source.count("list_referrers") == made.source.count("fetch_manifest") == 1


async def test_answer_that_came_too_late_for_one_layer_serves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish()
    blob = made.source.add_blob(BLOBS[Compression.NONE])
    other = PackedLayer(blob, "docs", Digest.of(TAR), manifest=made.layer.manifest)
    list_referrers, gate = made.source.list_referrers, trio.Event()

    async def late(subject: Digest) -> tuple[Descriptor, ...]:
        await gate.wait()
        return await list_referrers(subject)

    monkeypatch.setattr(made.source, "list_referrers", late)
    async with lazy_at(tmp_path, made.source) as (repository, _):
        with monkeypatch.context() as patch:
            patch.setattr(publishedindexes, "PATIENCE_SECONDS", 0.01)
            await check(repository, made.layer, "docs/small")
        gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert made.source.count("list_referrers") == 1
        await check(repository, other, "docs/small")
    assert made.source.count("list_referrers") == 1


async def test_referrers_of_other_kinds_are_not_fetched(tmp_path: Path) -> None:
    made = publish()
    for digest in list(made.source.manifests):
        raw = made.source.blobs[digest].replace(ARTIFACT_TYPE.encode(), b"application/other")
        if raw != made.source.blobs.pop(digest):
            del made.source.manifests[digest]
            made.source.add_manifest(raw)
        else:
            made.source.blobs[digest] = raw
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)
    assert made.source.count("fetch_manifest") == 0


@pytest.mark.parametrize(
    "error", [RegistryFailure("broken", status=500), NotFound("no"), ConnectionRefused("down")]
)
async def test_failing_to_find_an_index_fails_nothing(tmp_path: Path, error: OrasfsError) -> None:
    made = publish()
    made.source.failure = error
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)


async def test_registry_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish()
    monkeypatch.setattr(publishedindexes, "PATIENCE_SECONDS", 0.01)

    async def never(_subject: Digest) -> tuple[Descriptor, ...]:
        await trio.Event().wait()
        return ()

    monkeypatch.setattr(made.source, "list_referrers", never)
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)


OTHER = tar_of(directory("docs"), file("docs/other", bytes(3 * MIB)))

USELESS: dict[str, Callable[[], bytes]] = {
    "of another layer": lambda: published(BLOBS[Compression.NONE]),
    "truncated": lambda: published(BLOB)[:-10],
    "empty": lambda: b"\0",
    "of another version": lambda: changed(BLOB, head=lambda made: made.__setitem__(8, 9)),
    "a name that leads out": lambda: changed(
        BLOB, lambda parts: parts.rename(len(parts.entries) - 1, b"..")
    ),
}


@pytest.mark.parametrize("how", USELESS)
async def test_index_that_cannot_be_the_layers_is_as_none(tmp_path: Path, how: str) -> None:
    made = publish(index=USELESS[how]())
    async with lazy_at(tmp_path, made.source) as (repository, told):
        await check(repository, made.layer)
        opened = await repository.open_layer(made.layer)
        assert opened.is_verified
        assert not told
    assert [each.stop for each in made.source.streams][-1] is None


async def test_second_index_is_tried_where_the_first_is_of_no_use(tmp_path: Path) -> None:
    made = publish(index=b"\0")
    (subject,) = (
        each for each in made.source.manifests.values() if each.digest == made.layer.manifest
    )
    refer(made.source, subject, made.layer.descriptor, published(BLOB))
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer, "docs/small")
        assert isinstance(await repository.open_layer(made.layer), PublishedLayer)


async def test_index_blob_that_is_served_wrong_is_as_none(tmp_path: Path) -> None:
    made = publish()
    made.source.served[made.index.digest] = bytes(made.index.size)
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)


def _wrong_digests(table: bytearray) -> None:
    table[-32 * 9 :] = bytes(32 * 9)  # all but the first


async def test_chunk_that_does_not_fit_has_the_layer_passed(tmp_path: Path) -> None:
    made = publish(index=changed(BLOB, chunks=_wrong_digests))
    async with lazy_at(tmp_path, made.source) as (repository, told):
        opened = await repository.open_layer(made.layer)
        reader = opened.open_member(opened.index.locate("docs/large") or 0)
        assert await reader.read(0, 3 * MIB) == FILES["docs/large"]
        assert reader.is_verified
        await check(repository, made.layer)
        whole = await repository.open_layer(made.layer)
        assert not isinstance(whole, PublishedLayer)
        assert whole.is_verified
        assert not told
    assert made.source.streams[-1].stop is None
    async with lazy_at(tmp_path, made.source) as (repository, _):
        before = len(made.source.streams)
        await check(repository, made.layer)
        assert len(made.source.streams) == before, "what the pass found is what is kept"


async def test_registry_that_gives_no_parts_has_the_layer_passed(tmp_path: Path) -> None:
    made = publish()
    made.source.ignores_ranges = True
    async with lazy_at(tmp_path, made.source) as (repository, _):
        await check(repository, made.layer)
    assert made.source.streams[-1].stop is None


def _swapped(blob: bytes) -> bytes:
    """Return an index of which two files have each other's bytes."""
    index, table = indexed(blob)
    parts = Parts.of(index)
    parts.blobs = bytearray(len(parts.blobs))
    first, second = (parts.ordinal(name) for name in (b"01", b"02"))
    names = {parts.name(number): row for number, row in enumerate(parts.entries)}
    names[b"01"][1], names[b"02"][1] = second, first
    made = Descriptor("x", Digest.of(blob), len(blob))
    return assembled(parts.to_bytes(), table, made)


async def test_layer_that_is_not_as_it_was_shown_is_shown_no_more(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    """Nobody reads one file by the name of another once the layer itself has told."""
    expect_log(logging.ERROR, "layer was shown wrongly by a published index")
    made = publish(index=_swapped(BLOB))
    digest = made.layer.descriptor.digest
    async with lazy_at(tmp_path, made.source) as (repository, told):
        opened = await repository.open_layer(made.layer)
        assert isinstance(opened, PublishedLayer)
        reader = opened.open_member(opened.index.locate("docs/small") or 0)
        with pytest.raises(ContentMismatch, match="published beside it"):
            await repository.complete_layer(made.layer)
        assert told == [digest]
        assert repository.layer_now(made.layer) is None
        assert reader.read_now(0, 5) is None
        for attempt in (repository.open_layer, repository.begin_layer):
            with pytest.raises(ContentMismatch):
                await attempt(made.layer)
        with pytest.raises(ContentMismatch):
            await reader.read(0, 5)
    async with lazy_at(tmp_path, made.source) as (repository, told):
        await check(repository, made.layer)
        assert not told


async def test_layer_that_another_process_passed_is_compared_first(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.ERROR, "layer was shown wrongly by a published index")
    made = publish(index=_swapped(BLOB))
    async with lazy_at(tmp_path, made.source) as (repository, told):
        assert isinstance(await repository.open_layer(made.layer), PublishedLayer)
        async with lazy_at(tmp_path, made.source, uses_published=False) as (other, _):
            await check(other, made.layer)
        repository._shared.layers.relax()  # as if nobody used it
        assert repository.layer_now(made.layer) is None
        with pytest.raises(ContentMismatch):
            await repository.open_layer(made.layer)
        assert told


async def test_fetching_ahead_has_the_layer_itself(tmp_path: Path) -> None:
    made = publish()
    async with lazy_at(tmp_path, made.source) as (repository, _):
        opened = await repository.open_layer(made.layer)
        assert isinstance(opened, PublishedLayer)
        whole = await repository.complete_layer(made.layer)
        assert whole.is_verified
        assert not isinstance(repository.layer_now(made.layer), PublishedLayer)
        await check(repository, made.layer)


async def test_layer_with_a_content_digest_that_is_wrong_is_refused_when_it_is_whole(
    tmp_path: Path,
) -> None:
    made = publish()
    wrong = PackedLayer(
        made.layer.descriptor, "docs", Digest.of(b"other"), manifest=made.layer.manifest
    )
    async with lazy_at(tmp_path, made.source) as (repository, told):
        await check(repository, wrong, "docs/small")
        with pytest.raises(ContentMismatch):
            await repository.complete_layer(wrong)
        assert told == [wrong.descriptor.digest]
