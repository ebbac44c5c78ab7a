"""Indexes of packed layers, published beside what is committed: which, how often, at no cost."""

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from orasfs.errors import LocalFailure, TooLarge
from orasfs.oci.descriptor import ANNOTATION_INDEX, Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import BlobContent
from orasfs.staging import indexpublish
from orasfs.staging.commit import Uploaded
from orasfs.staging.committer import Committer
from orasfs.staging.contents import BytesContent, StreamContent, small_blob
from orasfs.staging.copying import Origin
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import BaseReference, DraftKey
from orasfs.staging.drafts import DraftStore
from orasfs.staging.indexpublish import IndexPublisher, MadeIndex, index_of
from orasfs.staging.layerblob import Compression
from orasfs.staging.order import Order, make_order
from orasfs.staging.pack import PackSettings
from orasfs.staging.progress import Progress
from orasfs.tree.publishedindex import ANNOTATION_LAYER, ARTIFACT_TYPE, decode
from tests.fakes.keeper import MemoryKeeper
from tests.fakes.source import MemorySource
from tests.fakes.target import MemoryTarget
from tests.support.walking import HOST

EPOCH = 1_700_000_000
CONTENT = {f"sub/{number}": os.urandom(600_000) for number in range(5)}
LEAST = 1_000_000


class World:
    """Drafts, one target, and a committer that publishes."""

    def __init__(self, root: Path, *, compression: Compression = Compression.GZIP) -> None:
        self.settings = PackSettings(epoch_seconds=EPOCH, compression=compression)
        self.store = DraftStore(root / "drafts")
        self.repository = MemoryTarget()
        self.known: dict[Digest, MadeIndex] = {}
        self.keeper = MemoryKeeper()
        self.publisher: IndexPublisher | None = IndexPublisher(self.find, LEAST)
        self.committer = self.new_committer()

    def new_committer(self) -> Committer:
        return Committer(
            lambda *_: self.repository,
            self.prepare,
            self.keeper,
            lambda: EPOCH,
            publisher=self.publisher,
        )

    def find(self, layer: Descriptor) -> MadeIndex | None:
        return self.known.get(layer.digest)

    async def prepare(self, draft: Draft) -> Order:
        await trio.lowlevel.checkpoint()
        return make_order(draft, self.settings)

    def draft(self, name: str = "v1") -> Draft:
        draft = self.store.create(DraftKey(HOST, "team/site", name, colon=True))
        docs = draft.directory / "tree/docs"
        (docs / "sub").mkdir(parents=True)
        (draft.directory / "tree/small").mkdir()
        (draft.directory / "tree/small/a").write_bytes(b"a")
        for path, content in CONTENT.items():
            (docs / path).write_bytes(content)
        with (docs / "zeros").open("wb") as file:
            file.truncate(9_000_000)  # more than one frame of zstd
        for made in sorted((draft.directory / "tree").rglob("*"), reverse=True):
            os.utime(made, (0, 0))
        return draft

    def referrers(self) -> list[Manifest]:
        """Return what refers to something, with indexes."""
        found = [parse_document(*each) for each in self.repository.manifests.values()]
        return [
            each
            for each in found
            if isinstance(each, Manifest) and each.artifact_type == ARTIFACT_TYPE
        ]

    def warnings(self) -> tuple[str, ...]:
        return self.committer.reports()[-1].progress.warnings


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.mark.parametrize("compression", list(Compression))
async def test_commit_publishes_the_index_of_each_large_directory(
    tmp_path: Path, compression: Compression
) -> None:
    world = World(tmp_path, compression=compression)
    descriptor = await world.committer.commit(world.draft())
    assert descriptor is not None
    (referrer,) = world.referrers()
    assert referrer.subject == descriptor
    (index,) = referrer.layers
    artifact = parse_document(world.repository.manifests[descriptor.digest][0])
    assert isinstance(artifact, Manifest)
    docs, small = artifact.layers
    assert index.annotations == {ANNOTATION_LAYER: str(docs.digest)}
    assert small.size < LEAST < docs.size
    assert docs.annotations[ANNOTATION_INDEX] == str(index.digest)
    assert ANNOTATION_INDEX not in small.annotations
    found = decode(world.repository.blobs[index.digest], docs, "docs")
    assert found.digests is not None
    for path, content in CONTENT.items():
        ordinal = found.index.locate(f"docs/{path}")
        assert ordinal is not None
        assert found.index.member(ordinal).size == len(content)
        assert found.digests.find(ordinal) == hashlib.sha256(content).digest()
    assert [warning for warning in world.warnings() if "index" in warning] == []
    world.store.close()


async def _artifact(root: Path, *, is_published: bool) -> tuple[Manifest, World]:
    world = World(root)
    if not is_published:
        world.publisher = None
    committed = await world.new_committer().commit(world.draft())
    world.store.close()
    assert committed is not None
    artifact = parse_document(world.repository.manifests[committed.digest][0])
    assert isinstance(artifact, Manifest)
    return artifact, world


async def test_artifact_differs_only_in_that_it_names_the_index(tmp_path: Path) -> None:
    without, bare = await _artifact(tmp_path / "without", is_published=False)
    assert not bare.referrers()
    assert all(ANNOTATION_INDEX not in layer.annotations for layer in without.layers)
    published, _ = await _artifact(tmp_path / "with", is_published=True)
    again, world = await _artifact(tmp_path / "again", is_published=True)
    assert published.raw == again.raw, "the same tree, the same manifest"
    named = published.layers[0].annotations[ANNOTATION_INDEX]
    assert [index.digest for index in world.referrers()[0].layers] == [Digest.parse(named)]
    text = published.raw.replace(f'"{ANNOTATION_INDEX}":"{named}",'.encode(), b"")
    assert text == without.raw


async def test_index_is_made_once_and_before_the_manifest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(content: BlobContent) -> MadeIndex | None:
        made.append(content.size)
        return index_of(content)

    monkeypatch.setattr(indexpublish, "index_of", make)
    await world.committer.commit(world.draft())
    assert len(made) == 1


async def test_blob_that_cannot_be_read_again_has_no_index(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_content: object) -> None:
        raise LocalFailure("damaged", errno.EIO)

    monkeypatch.setattr(indexpublish, "index_of", fail)
    descriptor = await world.committer.commit(world.draft())
    assert descriptor is not None
    artifact = parse_document(world.repository.manifests[descriptor.digest][0])
    assert isinstance(artifact, Manifest)
    assert all(ANNOTATION_INDEX not in layer.annotations for layer in artifact.layers)
    assert "docs: no index of it can be published" in world.warnings()


async def test_committing_the_same_again_sends_nothing(world: World) -> None:
    draft = world.draft()
    await world.committer.commit(draft)
    draft.is_committing = False
    before = dict(world.repository.blobs), dict(world.repository.manifests)
    world.repository.counts.clear()
    await world.committer.commit(draft)
    assert (world.repository.blobs, world.repository.manifests) == before
    assert world.repository.counts["push_blob"] == 0
    assert world.repository.counts["push_manifest"] == 1, "the artifact's own"


class Listing(MemoryTarget):
    """A target that tells referrers, of which it forgot one."""

    listed: tuple[Descriptor, ...] = ()

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        await trio.lowlevel.checkpoint()
        self._called("list_referrers")
        assert subject in self.manifests
        return self.listed


async def test_referrer_that_was_put_and_is_not_listed_is_put_again(world: World) -> None:
    world.repository = Listing()
    draft = world.draft()
    for count in (2, 4):
        await world.committer.commit(draft)
        draft.is_committing = False
        assert world.repository.counts["push_manifest"] == count
    (raw, media_type), *_ = [
        each for each in world.repository.manifests.values() if ARTIFACT_TYPE.encode() in each[0]
    ]
    world.repository.listed = (Descriptor(media_type, Digest.of(raw), len(raw)),)
    await world.committer.commit(draft)
    assert world.repository.counts["push_manifest"] == 5


async def test_no_failure_to_publish_fails_the_commit(tmp_path: Path) -> None:
    """Each request after the artifact is put fails once."""
    plain = World(tmp_path / "plain")
    plain.publisher = None
    await plain.new_committer().commit(plain.draft())
    first = len(plain.repository.calls)
    plain.store.close()
    error = TooLarge("too large")
    requests = 0
    while True:
        world = World(tmp_path / str(requests))
        world.repository.fail_at = first + requests
        world.repository.error = error
        descriptor = await world.committer.commit(world.draft())
        world.store.close()
        assert world.repository.tags == {"v1": descriptor.digest if descriptor else None}
        (report,) = world.committer.reports()
        assert (report.progress.phase.value, report.error) == ("done", None)
        if len(world.repository.calls) <= first + requests:
            break  # it has made no such request
        (warning,) = [each for each in world.warnings() if "index" in each]
        assert "is not published" in warning
        assert str(error) in warning
        requests += 1
    assert requests == 5, "for the index, the empty config, and the referrer"


class Stuck(IndexPublisher):
    """Never has an index ready."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = trio.Event()

    async def prepare(self, *_: object) -> None:
        self.begun.set()
        await trio.sleep_forever()


async def test_cancelling_then_ends_only_the_publishing(world: World) -> None:
    draft = world.draft()
    stuck = world.publisher = Stuck()
    world.committer = world.new_committer()
    committed: list[Descriptor | None] = []

    async def run() -> None:
        committed.append(await world.committer.commit(draft))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await stuck.begun.wait()
            (report,) = world.committer.reports()
            assert report.progress.phase.value == "indexing"
            assert world.repository.tags
            world.committer.cancel(draft)
    assert committed[0] is not None
    assert report.progress.phase.value == "done"
    assert world.warnings()[-1] == "the index of its packed directories is not published"


async def test_draft_without_a_tag_has_its_index_put_when_it_gets_one(world: World) -> None:
    draft = world.draft(".new")
    assert await world.committer.commit(draft) is None
    assert not world.repository.manifests
    world.repository.counts.clear()
    descriptor = await world.committer.publish(draft, "v1")
    assert descriptor is not None
    (referrer,) = world.referrers()
    assert referrer.subject == descriptor
    assert world.repository.counts == {"push_manifest": 2, "resolve": 1}


async def test_index_that_is_known_is_published_of_a_layer_that_is_not_at_hand(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = await world.committer.commit(world.draft())
    assert committed is not None
    (referrer,) = world.referrers()
    layer = Digest.parse(referrer.layers[0].annotations[ANNOTATION_LAYER])
    content = BytesContent(world.repository.blobs[layer])
    made = await trio.to_thread.run_sync(index_of, content)
    assert made is not None
    monkeypatch.setattr(indexpublish, "index_of", lambda _: pytest.fail("it is known"))
    raw, media_type = world.repository.manifests[committed.digest]
    manifest = small_blob(Descriptor(media_type, Digest.of(raw), len(raw)), raw)
    publisher = IndexPublisher(world.find, LEAST)
    for digests in (made.digests, b""):
        world.known[layer] = replace(made, digests=digests)
        uploaded = Uploaded(manifest, (), EPOCH)
        found = await publisher.prepare(uploaded, world.repository, Progress())
        assert found is not None
        is_same = found.manifest.descriptor.digest == Digest.of(referrer.raw)
        assert is_same == bool(digests), "without digests it is another index"


async def test_copy_has_no_index_but_what_it_was_copied_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = await world.committer.commit(world.draft())
    assert committed is not None
    source = MemorySource()
    source.blobs = dict(world.repository.blobs)
    root = source.add_manifest(world.repository.manifests[committed.digest][0])
    world.repository = MemoryTarget()

    async def fetch(blob: Descriptor) -> StreamContent:
        await trio.lowlevel.checkpoint()
        return StreamContent(source, blob)

    async def prepare(draft: Draft) -> Order:
        await trio.lowlevel.checkpoint()
        return make_order(draft, world.settings, None, fetch, Origin(root, source, fetch))

    monkeypatch.setattr(world, "prepare", prepare)
    base = BaseReference("elsewhere:5000", "team/base", root, is_whole=True)
    draft = world.store.create(DraftKey(HOST, "team/copy", "v1"), base)
    assert await world.new_committer().commit(draft) == root
    assert list(world.repository.manifests) == [root.digest]


async def test_layer_that_cannot_be_read_by_parts_is_a_warning(world: World) -> None:
    class Nothing(IndexPublisher):
        def _make(self, layer: Descriptor, content: object) -> None:
            return None

    world.publisher = Nothing(world.find, LEAST)
    world.committer = world.new_committer()
    assert await world.committer.commit(world.draft()) is not None
    assert "docs: no index of it can be published" in world.warnings()
    assert not world.referrers()


@pytest.mark.parametrize("content", [b"no tar", b"", b"\x1f\x8b\x08 damaged", bytes(1024)])
async def test_what_is_no_layer_has_no_index(content: bytes) -> None:
    assert await trio.to_thread.run_sync(index_of, BytesContent(content)) is None
