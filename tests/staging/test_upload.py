"""Bringing blobs to a target: from where one is tried to be mounted, and how often."""

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.contents import BytesContent
from orasfs.staging.progress import BlobProgress, BlobState
from orasfs.staging.upload import MAX_MOUNTS, MAX_REFUSALS, Uploader
from tests.fakes.target import MemoryTarget


async def bring(uploader: Uploader, content: bytes) -> BlobState:
    progress = BlobProgress("blob", len(content))
    blob = Descriptor("x", Digest.of(content), len(content))
    await uploader.ensure(blob, BytesContent(content), progress)
    return progress.state


async def test_a_blob_is_mounted_from_one_of_a_few_repositories() -> None:
    target = MemoryTarget()
    names = [f"team/{number}" for number in range(100)]
    for name in (names[MAX_MOUNTS - 1], names[MAX_MOUNTS]):
        target.elsewhere[name] = {Digest.of(b"near"): b"near"}
    target.elsewhere[names[MAX_MOUNTS]][Digest.of(b"far")] = b"far"
    uploader = Uploader(target, lambda _digest: names)
    assert await bring(uploader, b"near") is BlobState.MOUNTED
    assert target.counts["mount_blob"] == MAX_MOUNTS
    target.counts.clear()
    assert await bring(uploader, b"far") is BlobState.SENT
    assert target.counts["mount_blob"] == MAX_MOUNTS


async def test_a_repository_that_keeps_refusing_is_not_asked_any_more() -> None:
    target = MemoryTarget()
    uploader = Uploader(target, lambda _digest: ["team/private"])
    for number in range(2 * MAX_REFUSALS):
        assert await bring(uploader, b"%d" % number) is BlobState.SENT
    assert target.counts["mount_blob"] == MAX_REFUSALS


async def test_a_repository_that_has_some_is_asked_for_all() -> None:
    target = MemoryTarget()
    contents = [b"%d" % number for number in range(9)]
    known = {Digest.of(content): content for content in contents if int(content) % 2}
    target.elsewhere["team/near"] = known
    uploader = Uploader(target, lambda _digest: ["team/near"])
    for content in contents:
        await bring(uploader, content)
    assert target.counts["mount_blob"] == len(contents)
    assert target.counts["push_blob"] == len(contents) - len(known)
