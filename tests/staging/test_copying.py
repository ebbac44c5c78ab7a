"""Copying artifacts as they are: what goes first, what is left out, and what a failure leaves."""

import json
from pathlib import Path

import pytest
import trio

from orasfs.errors import NotFound, RegistryFailure
from orasfs.oci import mediatype
from orasfs.oci.descriptor import EMPTY_JSON, Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, parse_document
from orasfs.oci.storage import BlobContent
from orasfs.staging.contents import StreamContent
from orasfs.staging.copying import Copier, Origin, part_of
from orasfs.staging.progress import BlobState, Progress
from orasfs.store.layout import LayoutSource
from orasfs.store.layoutwriter import LayoutTarget, create_layout
from tests.fakes.source import MemorySource
from tests.fakes.target import MemoryTarget
from tests.support.publish import GOLDEN_LAYOUT
from tests.support.staged import threads_to_end

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def value(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


class Shelf:
    """A source with artifacts, and the way to copy from it."""

    def __init__(self) -> None:
        self.source = MemorySource()
        self.config = self.source.add_blob(EMPTY_JSON, mediatype.EMPTY)
        self.progress = Progress()

    def manifest(
        self, *layers: Descriptor, subject: Descriptor | None = None, tag: str | None = None
    ) -> Descriptor:
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "artifactType": "application/vnd.test",
            "config": value(self.config),
            "layers": [value(layer) for layer in layers],
        }
        if subject is not None:
            document["subject"] = value(subject)
        return self.source.add_manifest(json.dumps(document).encode(), tag)

    def index(self, *children: Descriptor, tag: str | None = None) -> Descriptor:
        document = {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_INDEX,
            "manifests": [value(child) for child in children],
        }
        raw = json.dumps(document).encode()
        return self.source.add_manifest(raw, tag, mediatype.OCI_INDEX)

    def layer(self, content: bytes) -> Descriptor:
        return self.source.add_blob(content)

    async def fetch(self, blob: Descriptor) -> BlobContent | None:
        await trio.lowlevel.checkpoint()
        return StreamContent(self.source, blob)

    async def copy(
        self, root: Descriptor, target: MemoryTarget, *, with_referrers: bool = False
    ) -> bytes:
        self.progress = Progress()
        origin = Origin(root, self.source, self.fetch, with_referrers=with_referrers)
        copier = Copier(origin, target, lambda _digest: ("team/near",), self.progress)
        raw = await copier.bring()
        await target.push_manifest(raw, root.media_type, "v1")
        return raw


class OrderedTarget(MemoryTarget):
    """Refuses an index whose children it lacks, as registries do."""

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, **kw: object
    ) -> None:
        parsed = parse_document(raw, media_type)
        if isinstance(parsed, Index):
            lacking = [
                one
                for one in parsed.manifests
                if one.media_type in mediatype.INDEX_TYPES
                or one.media_type in mediatype.MANIFEST_TYPES
            ]
            if any(one.digest not in self.manifests for one in lacking):
                raise RegistryFailure("MANIFEST_UNKNOWN", status=404)
        await super().push_manifest(raw, media_type, reference)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def nested(shelf: Shelf) -> Descriptor:
    """Make an index of a manifest, an index with two, one of them the first, and a plain blob."""
    one = shelf.manifest(shelf.layer(b"one"))
    two = shelf.manifest(shelf.layer(b"two"), shelf.layer(b"shared"))
    return shelf.index(one, shelf.index(one, two), shelf.layer(b"a plain blob"))


async def test_an_index_comes_with_all_below_it_and_every_digest_stays(shelf: Shelf) -> None:
    root, target = nested(shelf), OrderedTarget()
    await shelf.copy(root, target)
    assert target.tags == {"v1": root.digest}
    assert target.manifests.keys() == shelf.source.manifests.keys()
    assert {**target.blobs} == {
        digest: content
        for digest, content in shelf.source.blobs.items()
        if digest not in shelf.source.manifests
    }
    assert target.counts["push_blob"] == len(target.blobs)  # each once
    assert target.counts["push_manifest"] == 4
    assert {blob.state for blob in shelf.progress.blobs} == {BlobState.SENT}


async def test_what_the_target_has_is_not_looked_into(shelf: Shelf) -> None:
    root, target = nested(shelf), OrderedTarget()
    await shelf.copy(root, target)
    target.calls.clear()
    shelf.source.calls.clear()
    await shelf.copy(root, target)
    assert target.calls == ["resolve", "push_manifest"]
    assert shelf.source.calls == [("fetch_manifest", str(root.digest))]


async def test_blobs_are_mounted_where_they_can_be(shelf: Shelf) -> None:
    root, target = nested(shelf), OrderedTarget()
    target.elsewhere["team/near"] = dict(shelf.source.blobs)
    await shelf.copy(root, target)
    assert target.counts["push_blob"] == 0
    assert not shelf.source.streams


def test_a_failure_at_each_call_is_mended_by_the_next_copy_which_sends_the_rest(
    shelf: Shelf,
) -> None:
    root = nested(shelf)

    async def at(number: int) -> bool:
        target = OrderedTarget()
        target.fail_at = number
        try:
            await shelf.copy(root, target)
        except RegistryFailure:
            assert not target.tags
        else:
            return False
        await threads_to_end()
        sent = len(target.blobs)
        target.counts.clear()
        await shelf.copy(root, target)
        assert target.tags == {"v1": root.digest}
        assert target.counts["push_blob"] == len(target.blobs) - sent
        return True

    numbers = 0
    while trio.run(at, numbers):
        numbers += 1
    assert numbers > 15


async def test_layers_that_must_not_be_distributed_stay_where_they_are(shelf: Shelf) -> None:
    foreign = Descriptor(FOREIGN, Digest.of(b"elsewhere"), 9, urls=("https://example/l",))
    root = shelf.manifest(shelf.layer(b"own"), foreign)
    raw = await shelf.source.fetch_manifest(root)
    assert [one.size for one in part_of(parse_document(raw), root).blobs] == [2, 3]


async def test_a_subject_comes_along_and_need_not_exist(shelf: Shelf) -> None:
    subject = shelf.manifest(shelf.layer(b"subject"))
    target = OrderedTarget()
    await shelf.copy(shelf.manifest(subject=subject), target)
    assert subject.digest in target.manifests
    assert not shelf.progress.warnings
    dangling = Descriptor(mediatype.OCI_MANIFEST, Digest.of(b"nowhere"), 7)
    root = shelf.manifest(subject=dangling)
    await shelf.copy(root, target)
    assert target.tags == {"v1": root.digest}
    assert str(dangling.digest) in shelf.progress.warnings[0]


async def test_a_child_that_is_missing_fails_the_copy(shelf: Shelf) -> None:
    gone = Descriptor(mediatype.OCI_MANIFEST, Digest.of(b"nowhere"), 7)
    with pytest.raises(NotFound):
        await shelf.copy(shelf.index(gone), OrderedTarget())


async def test_what_refers_to_it_comes_along_when_it_is_wanted(shelf: Shelf) -> None:
    child = shelf.manifest(shelf.layer(b"child"))
    root = shelf.index(child)
    signature = shelf.manifest(shelf.layer(b"signature"), subject=root)
    of_child = shelf.manifest(shelf.layer(b"bill"), subject=child)
    again = shelf.manifest(shelf.layer(b"of a signature"), subject=signature)
    target = OrderedTarget()
    await shelf.copy(root, target)
    assert signature.digest not in target.manifests
    await shelf.copy(root, target, with_referrers=True)
    assert {signature.digest, of_child.digest, again.digest} <= target.manifests.keys()
    fresh = OrderedTarget()
    await shelf.copy(root, fresh, with_referrers=True)
    assert {signature.digest, of_child.digest, again.digest} <= fresh.manifests.keys()
    assert fresh.tags == {"v1": root.digest}


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_a_streamed_blob_can_be_read_from_anywhere(ignores_ranges: bool) -> None:  # noqa: FBT001
    source = MemorySource()
    source.ignores_ranges = ignores_ranges
    source.chunk_bytes = 1000
    content = bytes(range(256)) * 40
    with StreamContent(source, source.add_blob(content)).open() as file:
        assert not source.streams  # nothing is asked for before it is read
        assert file.read(10) == content[:10]
        file.seek(5000)
        assert file.read() == content[5000:]
        assert file.read(1) == b""
        file.seek(0)
        assert file.read() == content


async def test_every_golden_artifact_is_copied_as_it_is(tmp_path: Path) -> None:
    create_layout(tmp_path / "copy")
    source, target = LayoutSource(GOLDEN_LAYOUT), LayoutTarget(tmp_path / "copy")

    async def fetch(blob: Descriptor) -> BlobContent | None:
        await trio.lowlevel.checkpoint()
        return StreamContent(source, blob)

    tags = (await source.list_tags()).names
    for tag in tags:
        root = await source.resolve(tag)
        origin = Origin(root, source, fetch, with_referrers=True)
        raw = await Copier(origin, target, lambda _digest: (), Progress()).bring()
        await target.push_manifest(raw, root.media_type, tag, expected=None)
        assert await target.resolve(tag) == root
    assert len(tags) > 10
    assert _blobs(tmp_path / "copy") == _blobs(GOLDEN_LAYOUT)


def _blobs(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}
