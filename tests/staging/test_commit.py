"""A commit from a staged tree to a target in memory: what arrives, what is sent, what fails."""

import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from orasfs.errors import (
    InvalidInput,
    NotFound,
    OrasfsError,
    RegistryFailure,
    StorageFailure,
    TagMoved,
)
from orasfs.oci.descriptor import ANNOTATION_CONTENT_DIGEST, Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import MAX_MANIFEST_BYTES, Manifest, parse_document
from orasfs.oci.storage import ANY, BlobContent, Expectation
from orasfs.staging import contents
from orasfs.staging.commit import Staged, Uploaded, put, upload
from orasfs.staging.contents import BytesContent
from orasfs.staging.manifest import ManifestFields, config_descriptor
from orasfs.staging.pack import PackSettings
from orasfs.staging.progress import BlobState, Phase, Progress
from orasfs.staging.revise import Base
from orasfs.staging.surroundings import FetchKept, Surroundings
from orasfs.staging.tree import StagedDirectory
from tests.fakes.target import MemoryTarget
from tests.support.golden import golden_tags
from tests.support.staged import GOLDEN_CREATED, commit, golden_inputs, open_path, staged


async def _nothing(_descriptor: Descriptor) -> BlobContent | None:
    await trio.lowlevel.checkpoint()
    return None


class Desk:
    """A draft's tree on disk, and what a commit needs around it."""

    def __init__(self, root: Path) -> None:
        self.tree = root / "tree"
        self.directory = root / "draft"
        self.directory.mkdir(parents=True)
        self.settings = PackSettings()
        self.config: bytes | None = None
        self.base: Base | None = None
        self.mounts: Mapping[Digest, tuple[str, ...]] = {}
        self.fetch_kept: FetchKept = _nothing
        self.near_base: Digest | None = None
        self.now = GOLDEN_CREATED
        self.progress = Progress()

    def staged(self) -> Staged:
        tree = staged(self.tree)
        assert isinstance(tree, StagedDirectory)
        return Staged(
            tree, self.settings, self.directory, open_path, base=self.base, config=self.config
        )

    def around(self) -> Surroundings:
        return Surroundings(
            lambda digest: self.mounts.get(digest, ()),
            self.fetch_kept,
            lambda: self.now,
            self.near_base,
        )

    async def commit(self, target: MemoryTarget, *, expected: Expectation = None) -> Uploaded:
        self.progress = Progress()
        return await commit(
            self.staged(), target, "v1", self.around(), self.progress, expected=expected
        )

    async def upload(self, target: MemoryTarget) -> Uploaded:
        return await upload(self.staged(), target, self.around(), Progress())


async def edit_at_the_target(desk: Desk, target: MemoryTarget) -> Digest:
    """Edit a file of what is at the target; return a blob of it that the target can be without.

    The base's author has it still.
    """
    golden_inputs(desk.tree, "artifact.txt", "docs", "zeros.bin")
    first = await desk.commit(target)
    desk.near_base = first.descriptor.digest
    (desk.tree / "artifact.txt").write_bytes(b"edited")
    desk.base = Base(_manifest(target), frozenset({1, 2}))
    content = dict(target.blobs)

    async def fetch(kept: Descriptor) -> BlobContent | None:
        await trio.lowlevel.checkpoint()
        return BytesContent(content[kept.digest])

    desk.fetch_kept = fetch
    target.counts.clear()
    return desk.base.manifest.layers[2].digest


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget()


def _manifest(target: MemoryTarget, tag: str = "v1") -> Manifest:
    parsed = parse_document(target.manifests[target.tags[tag]][0])
    assert isinstance(parsed, Manifest)
    return parsed


async def test_raw_files_arrive_under_the_reference_clients_digest(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    done = await desk.commit(target)
    assert done.descriptor.digest == golden_tags()["untyped"].digest == target.tags["v1"]
    assert set(target.blobs) == {blob.descriptor.digest for blob in done.blobs}
    assert len(target.blobs) == 2  # the file, and the empty config


async def test_packed_directories_arrive_with_the_reference_clients_content_digest(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "docs", "nested")
    await desk.commit(target)
    golden = parse_document(golden_tags()["two-dirs"].raw)
    assert isinstance(golden, Manifest)
    assert [
        layer.annotations[ANNOTATION_CONTENT_DIGEST] for layer in _manifest(target).layers
    ] == [layer.annotations[ANNOTATION_CONTENT_DIGEST] for layer in golden.layers]


async def test_a_config_of_its_own_is_pushed(desk: Desk, target: MemoryTarget) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    desk.config = b'{"answer":42}'
    descriptor = config_descriptor(desk.config, "application/vnd.acme+json")
    desk.settings = PackSettings(fields=ManifestFields(config=descriptor))
    await desk.commit(target)
    config = _manifest(target).config
    assert config is not None
    assert target.blobs[config.digest] == desk.config


async def test_an_empty_draft_is_an_artifact_without_files(
    desk: Desk, target: MemoryTarget
) -> None:
    desk.tree.mkdir()
    desk.settings = PackSettings(fields=ManifestFields("application/vnd.acme.empty"))
    done = await desk.commit(target)
    assert done.descriptor.digest == golden_tags()["no-layers"].digest


async def test_the_same_content_twice_is_asked_for_and_sent_once(
    desk: Desk, target: MemoryTarget
) -> None:
    desk.tree.mkdir()
    for name in ("a", "b", "c"):
        (desk.tree / name).write_bytes(b"same")
    await desk.commit(target)
    assert target.counts == {"has_blob": 2, "push_blob": 2, "push_manifest": 1}
    assert len(_manifest(target).layers) == 3


async def test_what_the_target_has_is_not_sent(desk: Desk, target: MemoryTarget) -> None:
    golden_inputs(desk.tree, "artifact.txt", "empty.bin")
    content = (desk.tree / "artifact.txt").read_bytes()
    target.blobs[Digest.of(content)] = content
    await desk.commit(target)
    assert target.counts["push_blob"] == 2
    totals = desk.progress.totals()
    assert (totals.blobs, totals.there, totals.skipped) == (3, 3, 1)
    assert totals.skipped_size == len(content)


async def test_what_another_repository_has_is_mounted(desk: Desk, target: MemoryTarget) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    content = (desk.tree / "artifact.txt").read_bytes()
    digest = Digest.of(content)
    target.elsewhere["team/other"] = {digest: content}
    desk.mounts = {digest: ("team/gone", "team/other")}
    await desk.commit(target)
    assert target.counts["mount_blob"] == 2
    assert target.counts["push_blob"] == 1  # the config
    assert [blob.state for blob in desk.progress.blobs] == [BlobState.MOUNTED, BlobState.SENT]


async def test_committing_again_sends_nothing_and_keeps_the_digest(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt", "docs")
    first = await desk.commit(target)
    target.counts.clear()
    desk.now += 1000
    second = await desk.commit(target, expected=first.descriptor.digest)
    assert second.descriptor == first.descriptor
    assert target.counts["push_blob"] == target.counts["push_manifest"] == 0


async def test_a_second_copy_with_an_epoch_sends_nothing(
    desk: Desk, target: MemoryTarget, tmp_path: Path
) -> None:
    copy = Desk(tmp_path / "copy")
    digests = set()
    for number, each in enumerate((desk, copy)):
        golden_inputs(each.tree, "docs")
        each.settings = PackSettings(epoch_seconds=GOLDEN_CREATED - 10**7)
        each.now += number
        digests.add((await each.commit(target)).descriptor.digest)
    assert len(digests) == 1
    assert target.counts["push_blob"] == len(target.blobs) == 2


async def test_a_tag_that_was_to_be_new_and_is_not_moves_nothing(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    first = await desk.commit(target)
    (desk.tree / "artifact.txt").write_bytes(b"another")
    other = Desk(desk.tree.parent / "other")
    golden_inputs(other.tree, "empty.bin")
    with pytest.raises(TagMoved):
        await other.commit(target)
    assert target.tags["v1"] == first.descriptor.digest
    await other.commit(target, expected=ANY)
    assert target.tags["v1"] != first.descriptor.digest


async def test_of_two_commits_on_one_base_the_second_fails(
    desk: Desk, target: MemoryTarget, tmp_path: Path
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    base = (await desk.commit(target)).descriptor.digest
    other = Desk(tmp_path / "other")
    golden_inputs(other.tree, "empty.bin")
    winner = await other.commit(target, expected=base)
    (desk.tree / "artifact.txt").write_bytes(b"changed")
    with pytest.raises(TagMoved):
        await desk.commit(target, expected=base)
    assert target.tags["v1"] == winner.descriptor.digest
    assert (desk.tree / "artifact.txt").read_bytes() == b"changed"


async def test_a_commit_whose_answer_was_lost_is_completed_by_the_next(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    target.lose_answer = True
    with pytest.raises(RegistryFailure):
        await desk.commit(target)
    lost = target.tags["v1"]
    target.counts.clear()
    desk.now += 60
    done = await desk.commit(target)
    assert done.descriptor.digest == lost == target.tags["v1"]
    assert target.counts["push_blob"] == 0


async def test_a_lost_answer_does_not_stop_a_draft_that_went_on(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    target.lose_answer = True
    with pytest.raises(RegistryFailure):
        await desk.commit(target)
    (desk.tree / "more").write_bytes(b"more")
    target.fail_at = len(target.calls) + 3  # asks, sends; then the manifest
    with pytest.raises(RegistryFailure):
        await desk.commit(target)
    (desk.tree / "still more").write_bytes(b"still more")
    done = await desk.commit(target)
    assert target.tags["v1"] == done.descriptor.digest
    assert len(_manifest(target).layers) == 3


def _calls_of_a_commit(desk: Desk) -> Iterator[int]:
    golden_inputs(desk.tree, "artifact.txt", "docs", "zeros.bin")
    fresh = MemoryTarget()
    trio.run(desk.commit, fresh)
    (desk.directory / "attempts.json").unlink()
    yield from range(len(fresh.calls))


async def _threads_ended() -> None:
    limiter = trio.to_thread.current_default_thread_limiter()
    tokens = [object() for _ in range(int(limiter.total_tokens))]
    for each in tokens:  # whoever has them all is alone
        await limiter.acquire_on_behalf_of(each)
    for each in tokens:
        limiter.release_on_behalf_of(each)


def test_a_failure_of_each_call_in_turn_is_the_cause_and_is_mended_by_the_next_commit(
    desk: Desk,
) -> None:
    for number in _calls_of_a_commit(desk):
        target = MemoryTarget()
        target.fail_at = number

        async def fail_then_succeed(target: MemoryTarget) -> None:
            with pytest.raises(RegistryFailure, match="the test ordered it"):
                await desk.commit(target)
            assert not target.tags
            await _threads_ended()  # of those that were told to give up
            arrived = set(target.blobs)
            target.counts.clear()
            await desk.commit(target)
            assert target.counts["push_blob"] == len(target.blobs) - len(arrived)
            assert target.tags

        trio.run(fail_then_succeed, target)


async def test_a_manifest_that_would_be_too_large_is_refused_before_anything_is_asked(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    annotations = {"artifact.txt": {"note": "x" * MAX_MANIFEST_BYTES}}
    desk.settings = PackSettings(layer_annotations=annotations)
    with pytest.raises(InvalidInput, match="over the limit"):
        await desk.commit(target)
    assert target.calls == []


async def test_what_cannot_be_an_artifact_is_refused_before_anything_is_asked(
    desk: Desk, target: MemoryTarget
) -> None:
    desk.tree.mkdir()
    (desk.tree / "shadow").symlink_to("/etc/shadow")
    with pytest.raises(InvalidInput, match="shadow"):
        await desk.commit(target)
    assert target.calls == []


async def test_a_file_that_changes_its_size_meanwhile_fails_the_commit(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    before = desk.staged()
    (desk.tree / "artifact.txt").write_bytes(b"longer than it was before, surely, by some bytes")
    with pytest.raises(StorageFailure, match=r"artifact\.txt"):
        await commit(before, target, "v1", desk.around(), Progress(), expected=None)
    assert not target.tags


async def test_a_file_that_is_gone_meanwhile_fails_the_commit(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    before = desk.staged()
    (desk.tree / "artifact.txt").unlink()
    with pytest.raises(OrasfsError, match=r"artifact\.txt"):
        await commit(before, target, "v1", desk.around(), Progress(), expected=None)


async def test_an_edit_sends_the_changed_layer_only_and_keeps_all_else(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt", "docs", "zeros.bin")
    first = await desk.commit(target)
    (desk.tree / "artifact.txt").write_bytes(b"edited")
    desk.base = Base(_manifest(target), frozenset({1, 2}))
    target.counts.clear()
    await desk.commit(target, expected=first.descriptor.digest)
    assert target.counts["push_blob"] == 1
    layers = _manifest(target).layers
    assert layers[1:] == desk.base.manifest.layers[1:]
    assert layers[0].digest == Digest.of(b"edited")


async def test_what_a_base_at_the_target_names_is_not_asked_for(
    desk: Desk, target: MemoryTarget
) -> None:
    await edit_at_the_target(desk, target)
    await desk.commit(target, expected=desk.near_base)
    assert target.counts == {"resolve": 1, "has_blob": 1, "push_blob": 1, "push_manifest": 1}
    totals = desk.progress.totals()
    assert (totals.there, totals.skipped) == (totals.blobs, totals.blobs - 1)


async def test_all_is_asked_for_when_the_base_has_gone_from_the_target(
    desk: Desk, target: MemoryTarget
) -> None:
    gone = await edit_at_the_target(desk, target)
    del target.blobs[gone]
    target.manifests.clear()
    target.tags.clear()
    await desk.commit(target)
    assert target.counts["has_blob"] == 4
    assert {Digest.of(b"edited"), gone} <= target.blobs.keys()


@pytest.mark.parametrize("is_put_later", [False, True])
async def test_a_blob_of_the_base_that_the_target_has_lost_is_brought_when_it_says_so(
    desk: Desk,
    target: MemoryTarget,
    is_put_later: bool,  # noqa: FBT001
) -> None:
    gone = await edit_at_the_target(desk, target)
    del target.blobs[gone]
    if is_put_later:
        uploaded = await desk.upload(target)
        await put(uploaded, target, "v1", expected=desk.near_base)
    else:
        await desk.commit(target, expected=desk.near_base)
    assert {Digest.of(b"edited"), gone} <= target.blobs.keys()
    assert target.counts["push_blob"] == 2
    assert target.counts["push_manifest"] == 2


async def test_a_refusal_for_another_blob_is_no_reason_to_ask_again(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    uploaded = await desk.upload(target)
    target.blobs.clear()
    with pytest.raises(RegistryFailure, match="BLOB_UNKNOWN"):
        await put(uploaded, target, "v1", expected=None)
    assert target.counts["push_manifest"] == 1


async def test_kept_layers_of_a_base_elsewhere_are_brought_along(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt", "zeros.bin")
    elsewhere = MemoryTarget()
    await desk.commit(elsewhere)
    desk.base = Base(_manifest(elsewhere), frozenset({0, 1}))
    with pytest.raises(NotFound):
        await desk.commit(target)

    async def fetch(kept: Descriptor) -> BlobContent | None:
        await trio.lowlevel.checkpoint()
        return BytesContent(elsewhere.blobs[kept.digest])

    desk.fetch_kept = fetch
    await desk.commit(target)
    assert target.tags == elsewhere.tags
    assert target.blobs == elsewhere.blobs


async def test_uploading_leaves_the_tag_alone_and_putting_sends_no_blob(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    uploaded = await desk.upload(target)
    assert not target.tags
    assert not target.manifests
    target.counts.clear()
    await put(uploaded, target, "v1", expected=None)
    assert target.counts == {"push_manifest": 1}
    assert target.tags["v1"] == uploaded.descriptor.digest


async def test_a_cancelled_commit_ends_its_uploads(desk: Desk, target: MemoryTarget) -> None:
    golden_inputs(desk.tree, "artifact.txt", "docs")
    target.stalled = True
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.commit, target)
            await trio.to_thread.run_sync(target.pushing.wait)
            nursery.cancel_scope.cancel()
    assert not target.tags


async def test_a_cancelled_commit_waits_for_no_answer(
    desk: Desk, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    answer = threading.Event()

    def push_blob(*_: object) -> None:
        target.pushing.set()
        answer.wait(60)

    monkeypatch.setattr(target, "push_blob", push_blob)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.commit, target)
            await trio.to_thread.run_sync(target.pushing.wait)
            nursery.cancel_scope.cancel()
    assert not answer.is_set()
    answer.set()


async def test_spooled_layers_of_an_earlier_commit_are_removed(
    desk: Desk, target: MemoryTarget
) -> None:
    golden_inputs(desk.tree, "docs")
    for _ in range(2):
        await desk.upload(target)
        assert len(list((desk.directory / "spool").iterdir())) == 1


async def test_warnings_and_phases_are_told(desk: Desk, target: MemoryTarget) -> None:
    golden_inputs(desk.tree, "artifact.txt")
    (desk.tree / "hollow" / "inner").mkdir(parents=True)
    os.utime(desk.tree, (0, 0))
    await desk.commit(target)
    assert desk.progress.phase is Phase.TAGGING
    assert all(blob.is_there for blob in desk.progress.blobs)
    assert list(itertools.islice(desk.progress.active(), 1)) == []


async def test_a_file_whose_digest_is_known_from_writing_it_is_not_hashed_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.tree.mkdir()
    (desk.tree / "large.bin").write_bytes(b"large")
    digest = Digest.of(b"large")
    staged = replace(desk.staged(), known=lambda status: digest.hex if status.st_size else None)

    def refuse(_content: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(contents, "_hash", refuse)
    target = MemoryTarget()
    uploaded = await upload(staged, target, desk.around(), Progress())
    assert digest in [blob.descriptor.digest for blob in uploaded.blobs]
