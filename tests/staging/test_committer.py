"""The service that commits drafts: one at a time each, nobody writing, and nothing lost."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from orasfs.errors import Aborted, Busy, InvalidInput, RegistryFailure, TagMoved
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.mediatype import EMPTY, OCI_MANIFEST
from orasfs.oci.storage import ANY
from orasfs.staging.committer import Committer
from orasfs.staging.contents import StreamContent
from orasfs.staging.copying import Origin
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import BaseReference, DraftKey
from orasfs.staging.drafts import DraftStore
from orasfs.staging.manifest import ManifestFields, build_manifest
from orasfs.staging.order import Order, make_order
from orasfs.staging.pack import PackSettings
from orasfs.staging.progress import Phase
from orasfs.staging.revise import Base
from tests.conftest import ExpectLog
from tests.fakes.keeper import MemoryKeeper
from tests.fakes.source import MemorySource
from tests.fakes.target import MemoryTarget

HOST = "localhost:5000"


class World:
    """Drafts, targets by repository, and the committer."""

    def __init__(self, root: Path) -> None:
        self.store = DraftStore(root / "drafts")
        self.targets: dict[tuple[str, str], MemoryTarget] = {}
        self.keeper = MemoryKeeper()
        self.committer = Committer(self.target, self.prepare, self.keeper, lambda: 1_700_000_000)

    def target(self, registry: str, repository: str) -> MemoryTarget:
        return self.targets.setdefault((registry, repository), MemoryTarget())

    async def prepare(self, draft: Draft) -> Order:
        await trio.lowlevel.checkpoint()
        return make_order(draft, PackSettings())

    def draft(self, name: str = "v1", repository: str = "team/site") -> Draft:
        draft = self.store.create(DraftKey(HOST, repository, name, colon=True))
        (draft.directory / "tree/index.html").write_bytes(b"<html>")
        (draft.directory / "tree/css").mkdir()
        (draft.directory / "tree/css/a.css").write_bytes(b"a{}")
        for path in ("tree/css/a.css", "tree/css"):  # two drafts are equal whenever they are made
            os.utime(draft.directory / path, (0, 0))
        return draft


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


async def test_a_commit_puts_the_tag_and_fills_the_cache(world: World) -> None:
    draft = world.draft()
    descriptor = await world.committer.commit(draft, "mine")
    target = world.target(HOST, "team/site")
    assert descriptor is not None
    assert target.tags == {"v1": descriptor.digest}
    assert world.keeper.kept == {*target.blobs, descriptor.digest}
    assert world.keeper.tags == {f"{HOST}/team/site:v1": descriptor.digest}
    (report,) = world.committer.reports()
    assert (report.ticket, report.progress.phase, report.error) == ("mine", Phase.DONE, None)
    assert report.descriptor == descriptor
    assert draft.is_committing  # until it is dropped


async def test_a_commit_has_ended_when_the_draft_has_been_taken_over(world: World) -> None:
    draft = world.draft()
    seen: list[tuple[bool, Descriptor]] = []

    async def take_over(descriptor: Descriptor) -> None:
        await trio.lowlevel.checkpoint()
        seen.append((world.committer.reports()[-1].is_running, descriptor))

    descriptor = await world.committer.commit(draft, take_over=take_over)
    assert not world.committer.is_committing(draft)
    nameless = world.draft(".new")
    assert await world.committer.commit(nameless, take_over=take_over) is None
    published = await world.committer.publish(nameless, "v2", take_over=take_over)
    assert seen == [(True, descriptor), (True, published)]


async def test_a_failed_commit_leaves_the_draft_and_says_why(
    world: World, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, r"commit failed draft=localhost:5000/team/site:v1")
    draft = world.draft()
    world.target(HOST, "team/site").fail_at = 2
    with pytest.raises(RegistryFailure):
        await world.committer.commit(draft)
    (report,) = world.committer.reports()
    assert report.progress.phase is Phase.FAILED
    assert isinstance(report.error, RegistryFailure)
    assert not draft.is_committing
    assert not world.keeper.kept
    assert await world.committer.commit(draft) is not None
    assert len(world.committer.reports()) == 1


async def test_a_full_cache_does_not_fail_what_is_pushed(
    world: World, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, r"pushed content not kept")
    world.keeper.is_full = True
    assert await world.committer.commit(world.draft()) is not None


async def test_open_files_are_waited_for_and_then_make_it_busy(
    world: World, expect_log: ExpectLog, autojump_clock: trio.testing.MockClock
) -> None:
    expect_log(logging.WARNING, r"open for writing")
    draft = world.draft()
    draft.writers = 1
    with pytest.raises(Busy, match="open for writing"):
        await world.committer.commit(draft)
    assert trio.current_time() >= 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.committer.commit, draft)
        await trio.sleep(1)
        draft.writers = 0
    assert world.target(HOST, "team/site").tags


async def test_a_draft_is_committed_once_at_a_time_and_can_be_cancelled(world: World) -> None:
    draft = world.draft()
    target = world.target(HOST, "team/site")
    target.stalled = True
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                with pytest.raises(Aborted):
                    await world.committer.commit(draft)

            nursery.start_soon(run)
            await trio.to_thread.run_sync(target.pushing.wait)
            assert draft.is_committing
            with pytest.raises(Busy):
                draft.check_writable()
            with pytest.raises(Busy):
                await world.committer.commit(draft)
            world.committer.cancel(draft)
    (report,) = world.committer.reports()
    assert report.progress.phase is Phase.CANCELLED
    assert not target.tags
    target.stalled = False
    assert await world.committer.commit(draft) is not None


async def test_a_draft_without_a_name_is_uploaded_and_then_published(world: World) -> None:
    draft = world.draft(".new")
    target = world.target(HOST, "team/site")
    assert await world.committer.commit(draft) is None
    assert target.blobs
    assert not target.tags
    target.counts.clear()
    descriptor = await world.committer.publish(draft, "v1")
    assert descriptor is not None
    assert target.tags == {"v1": descriptor.digest}
    assert target.counts == {"push_manifest": 1}


async def test_publishing_what_is_not_uploaded_is_busy(
    world: World, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, r"not uploaded")
    expect_log(logging.WARNING, r"changed since")
    draft = world.draft(".new")
    with pytest.raises(Busy, match="not uploaded"):
        await world.committer.publish(draft, "v1")
    await world.committer.commit(draft)
    (draft.directory / "tree/index.html").write_bytes(b"<HTML>")
    with pytest.raises(Busy, match="changed since"):
        await world.committer.publish(draft, "v1")
    assert not world.target(HOST, "team/site").tags
    await world.committer.commit(draft)
    assert await world.committer.publish(draft, "v1") is not None


async def test_what_was_pushed_to_one_repository_is_mounted_into_another(world: World) -> None:
    await world.committer.commit(world.draft())
    source = world.target(HOST, "team/site")
    other = world.target(HOST, "team/other")
    other.elsewhere["team/site"] = source.blobs
    await world.committer.commit(world.draft(repository="team/other"))
    assert other.counts["push_blob"] == 0
    assert other.counts["mount_blob"] == len(source.blobs)


async def test_force_replaces_what_moved(world: World, expect_log: ExpectLog) -> None:
    expect_log(logging.WARNING, r"moved")
    target = world.target(HOST, "team/site")
    await world.committer.commit(world.draft())
    draft = world.store.create(DraftKey(HOST, "team/site", "v1"))
    with pytest.raises(TagMoved):
        await world.committer.commit(draft)
    draft.tree.set_attribute(draft.tree.top, "user.oras.force", b"1")
    assert make_order(draft, PackSettings()).expected is ANY
    descriptor = await world.committer.commit(draft)
    assert descriptor is not None
    assert target.tags["v1"] == descriptor.digest


async def test_layers_of_a_base_in_another_registry_are_streamed_from_there(
    world: World, tmp_path: Path
) -> None:
    await world.committer.commit(world.draft())
    near = world.target(HOST, "team/site")
    raw, media_type = near.manifests[near.tags["v1"]]
    manifest = parse_document(raw, media_type)
    assert isinstance(manifest, Manifest)
    source = MemorySource()
    for content in near.blobs.values():
        source.add_blob(content)
    draft = world.store.create(DraftKey("elsewhere:5000", "team/site", "v1"))
    unchanged = frozenset(range(len(manifest.layers)))

    async def fetch(kept: Descriptor) -> StreamContent:
        await trio.lowlevel.checkpoint()
        return StreamContent(source, kept)

    async def prepare(draft: Draft) -> Order:
        await trio.lowlevel.checkpoint()
        return make_order(draft, PackSettings(), Base(manifest, unchanged), fetch)

    committer = Committer(world.target, prepare, world.keeper, lambda: 0)
    descriptor = await committer.commit(draft)
    far = world.target("elsewhere:5000", "team/site")
    assert descriptor is not None
    assert descriptor.digest == near.tags["v1"]
    assert far.blobs == near.blobs


def test_a_base_in_the_same_registry_is_mounted_from(world: World) -> None:
    base = BaseReference(HOST, "team/base", Descriptor("x", Digest.of(b"x"), 1))
    draft = world.store.create(DraftKey(HOST, "team/site", "v1"), base, None)
    assert make_order(draft, PackSettings()).mounts_from == ("team/base",)
    assert make_order(draft, PackSettings()).near_base is None
    draft.rebase(BaseReference("elsewhere", "a", base.descriptor), None)
    assert make_order(draft, PackSettings()).mounts_from == ()


def test_a_base_in_the_same_repository_is_there_with_all_it_names(world: World) -> None:
    base = BaseReference(HOST, "team/site", Descriptor("x", Digest.of(b"x"), 1))
    draft = world.store.create(DraftKey(HOST, "team/site", "v1"), base, None)
    order = make_order(draft, PackSettings())
    assert order.surroundings(lambda _digest: (), lambda: 0).near_base == Digest.of(b"x")
    draft.rebase(BaseReference("elsewhere", "team/site", base.descriptor), None)
    assert make_order(draft, PackSettings()).near_base is None


def test_a_layout_is_asked_for_each_blob(world: World) -> None:
    """It would take a manifest whose blobs it has lost."""
    base = BaseReference("oci:layout", "", Descriptor("x", Digest.of(b"x"), 1))
    draft = world.store.create(DraftKey("oci:layout", "", "v1"), base, None)
    assert make_order(draft, PackSettings()).near_base is None


async def test_a_crash_behind_the_push_leaves_no_draft(world: World) -> None:
    draft = world.draft()
    await world.committer.commit(draft)
    world.store.close()
    assert DraftStore(draft.directory.parent).drafts() == []
    assert not draft.directory.exists()


class Origins:
    """A source with an artifact that another one refers to, and orders to copy it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source = MemorySource()
        layer = self.source.add_blob(b"content")
        config = self.source.add_blob(b"{}", EMPTY)
        raw = build_manifest(ManifestFields(config=None), [layer], 0)
        assert config.digest in self.source.blobs
        self.root = self.source.add_manifest(raw, "v1")
        fields = ManifestFields(artifact_type="application/vnd.test", subject=self.root)
        self.referrer = self.source.add_manifest(build_manifest(fields, [layer], 0))

    async def fetch(self, blob: Descriptor) -> StreamContent:
        await trio.lowlevel.checkpoint()
        return StreamContent(self.source, blob)

    async def prepare(self, draft: Draft) -> Order:
        await trio.lowlevel.checkpoint()
        origin = Origin(self.root, self.source, self.fetch, with_referrers=draft.wants_referrers)
        parsed = parse_document(self.source.blobs[self.root.digest])
        assert isinstance(parsed, Manifest)
        base = None if draft.is_copy else Base(parsed, frozenset({0}))
        return make_order(draft, PackSettings(), base, self.fetch, origin)

    def draft(self, *, is_whole: bool, name: str = "v1") -> Draft:
        base = BaseReference("elsewhere:5000", "team/base", self.root, is_whole=is_whole)
        return self.world.store.create(DraftKey(HOST, "team/copy", name), base)

    async def commit(self, draft: Draft) -> MemoryTarget:
        keeper = self.world.keeper
        await Committer(self.world.target, self.prepare, keeper, lambda: 0).commit(draft)
        return self.world.target(HOST, "team/copy")


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("value", [b"0", b"1"])
async def test_what_refers_to_the_base_comes_along_if_it_is_wanted(
    world: World,
    is_whole: bool,  # noqa: FBT001
    value: bytes,
) -> None:
    origins = Origins(world)
    draft = origins.draft(is_whole=is_whole)
    draft.tree.set_attribute(draft.tree.top, "user.oras.referrers", value)
    target = await origins.commit(draft)
    assert target.tags == {"v1": origins.root.digest}
    assert (origins.referrer.digest in target.manifests) == (value == b"1")
    assert origins.root.digest in world.keeper.kept


async def test_what_refers_to_a_base_that_was_changed_stays_where_it_is(world: World) -> None:
    origins = Origins(world)
    draft = origins.draft(is_whole=False)
    draft.tree.set_attribute(draft.tree.top, "user.oras.referrers", b"1")
    draft.tree.set_attribute(draft.tree.top, "user.oras.annotation.a", b"b")
    world_committer = Committer(world.target, origins.prepare, world.keeper, lambda: 0)
    await world_committer.commit(draft)
    (report,) = world_committer.reports()
    assert origins.referrer.digest not in world.target(HOST, "team/copy").manifests
    assert "not copied" in report.progress.warnings[0]


async def test_a_copy_without_a_tag_waits_for_one(world: World) -> None:
    origins = Origins(world)
    draft = origins.draft(is_whole=True, name=".new")
    committer = Committer(world.target, origins.prepare, world.keeper, lambda: 0)
    assert await committer.commit(draft) is None
    target = world.target(HOST, "team/copy")
    assert not target.tags
    assert target.blobs
    descriptor = await committer.publish(draft, "v1", expected=None)
    assert descriptor == origins.root
    assert target.tags == {"v1": origins.root.digest}


async def test_what_is_attached_is_put_by_its_digest_and_needs_a_type(
    world: World, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "artifact type")
    expect_log(logging.WARNING, "nothing to attach")
    subject = Descriptor(OCI_MANIFEST, Digest.of(b"subject"), 7)
    key = DraftKey(HOST, "team/site", "sbom", subject=str(subject.digest))
    draft = world.store.create(key, subject=subject)
    with pytest.raises(InvalidInput, match="artifacttype"):
        await world.committer.commit(draft)
    draft.tree.set_attribute(draft.tree.top, "user.oras.artifacttype", b"application/vnd.test")
    with pytest.raises(InvalidInput, match="nothing to attach"):
        await world.committer.commit(draft)
    (draft.directory / "tree/sbom.json").write_bytes(b"{}")
    descriptor = await world.committer.commit(draft)
    target = world.target(HOST, "team/site")
    assert descriptor is not None
    assert not target.tags
    assert not world.keeper.tags
    parsed = parse_document(target.manifests[descriptor.digest][0])
    assert parsed.subject == subject
    assert parsed.artifact_type == "application/vnd.test"
    (report,) = world.committer.reports()
    assert report.reference == f"{HOST}/team/site"
