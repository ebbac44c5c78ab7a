"""What is wrong in a cache is found, told, and out of use afterwards."""

import gzip
import os
from pathlib import Path

import pytest
import trio

from orasfs.oci.digest import Digest
from orasfs.store import inspection
from orasfs.store.content.entries import Entry
from orasfs.store.content.room import open_room
from orasfs.store.inspection import Fault
from orasfs.tree.layerindex import OWN_BLOB_BYTES
from orasfs.tree.node import PackedLayer
from tests.fakes.source import MemorySource
from tests.support.archives import directory, files, tar_of
from tests.support.caches import contents, place_of, repository_at
from tests.support.content import flipped
from tests.support.published import Parts

FILES = {f"docs/{number:02}": os.urandom(30_000 + number) for number in range(20)}
FILES["docs/large"] = os.urandom(OWN_BLOB_BYTES)
SLAB_BYTES = sum(len(each) for each in FILES.values() if len(each) < OWN_BLOB_BYTES)
BLOB = gzip.compress(tar_of(directory("docs"), *files(FILES)), 1)


class Unpacked:
    """A cache that has one layer and its blob."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = MemorySource()
        self.layer = PackedLayer(self.source.add_blob(BLOB), "docs")
        trio.run(self._unpack)

    async def _unpack(self) -> None:
        async with repository_at(self.root, self.source) as repository:
            await repository.open_layer(self.layer)

    @property
    def blob(self) -> Path:
        return self.root / "blobs/sha256" / self.layer.descriptor.digest.hex

    @property
    def slab(self) -> Path:
        return place_of(self.root, self.layer.descriptor) / "slab"

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def verify(self) -> tuple[list[Fault], list[str]]:
        """Return what was wrong, and the slabs that could not be compared."""
        room = open_room(self.root)
        unsure: list[Entry] = []
        try:
            room.recover()
            room.scan()
            faults = inspection.verify(room, lambda _: None, unsure.append)
        finally:
            room.ledger.close()
        return [*faults], [entry.path for entry in unsure]

    def check_readable(self, *, fetched: int) -> None:
        """Check that all is read right again, and how much of it comes from the source."""
        before = self.source.bytes_sent

        async def read() -> None:
            async with repository_at(self.root, self.source) as repository:
                assert await contents(await repository.open_layer(self.layer), FILES) == FILES

        trio.run(read)
        assert self.source.bytes_sent - before == fetched
        assert self.verify() == ([], [])


@pytest.fixture
def cache(tmp_path: Path) -> Unpacked:
    return Unpacked(tmp_path / "cache")


def flip(path: Path, *places: int) -> None:
    """Change a bit at each place, as a failing disk does."""
    path.chmod(0o600)
    path.write_bytes(flipped(path.read_bytes(), *places))


def test_what_is_right_is_found_right(cache: Unpacked) -> None:
    assert cache.verify() == ([], [])
    assert cache.slab.exists()


def test_one_bit_of_a_small_file_is_found_named_and_mended_from_the_blob(cache: Unpacked) -> None:
    flip(cache.slab, SLAB_BYTES - 1, 10)
    (fault,), unsure = cache.verify()
    assert (fault.path, fault.files) == (cache.name(cache.slab), ["docs/00", "docs/19"])
    assert fault.reason == "2 of its files are not what the layer has"
    assert unsure == []
    assert not cache.slab.exists()
    moved = cache.root / "orasfs/damaged" / f"{cache.layer.descriptor.digest.hex}-slab"
    assert fault.action == f"moved to {moved}"
    assert moved.stat().st_size == SLAB_BYTES
    cache.check_readable(fetched=0)


def test_without_the_blob_a_slab_is_not_called_right(cache: Unpacked) -> None:
    cache.blob.unlink()
    flip(cache.slab, 10)
    assert cache.verify() == ([], [cache.name(cache.slab)])
    assert cache.slab.exists()


def test_slab_of_another_size_is_found_without_the_blob(cache: Unpacked) -> None:
    cache.blob.unlink()
    os.truncate(cache.slab, SLAB_BYTES - 1)
    (fault,), unsure = cache.verify()
    assert fault.path == cache.name(cache.slab)
    assert fault.reason == f"is not the {SLAB_BYTES} bytes that its index says"
    assert unsure == []
    assert not cache.slab.exists()
    cache.check_readable(fetched=len(BLOB))


def test_a_blob_that_is_wrong_itself_says_nothing_of_the_slab(cache: Unpacked) -> None:
    flip(cache.blob, len(BLOB) // 2)
    (fault,), unsure = cache.verify()
    assert fault.path == cache.name(cache.blob)
    assert unsure == [cache.name(cache.slab)]
    assert cache.slab.exists()


def test_a_wrong_blob_that_cannot_be_moved_says_nothing_of_the_slab(cache: Unpacked) -> None:
    flip(cache.blob, len(BLOB) // 2)
    (cache.root / "orasfs/damaged").write_bytes(b"in the way")
    (fault,), unsure = cache.verify()
    assert (fault.path, fault.action) == (
        cache.name(cache.blob),
        "cannot be moved: File exists",
    )
    assert unsure == [cache.name(cache.slab)]
    assert cache.slab.exists()


def test_one_bit_of_a_large_file_is_found_as_that_of_a_blob(cache: Unpacked) -> None:
    own = cache.root / "blobs/sha256" / Digest.of(FILES["docs/large"]).hex
    flip(own, 5)
    (fault,), unsure = cache.verify()
    assert (fault.path, unsure) == (cache.name(own), [])
    assert fault.files == ("docs/large",)
    cache.check_readable(fetched=0)


def test_index_with_a_wrong_bit_is_removed_and_its_slab_is_read_by_no_one(
    cache: Unpacked,
) -> None:
    flip(cache.slab.parent / "index", 200)
    (fault,), unsure = cache.verify()
    assert (fault.path, fault.action) == (f"{cache.name(cache.slab.parent)}/index", "removed")
    assert unsure == []
    cache.check_readable(fetched=0)


@pytest.mark.parametrize("has_blob", [True, False])
def test_index_that_tells_of_no_slab_there_can_be_is_removed(
    cache: Unpacked, *, has_blob: bool
) -> None:
    """It is what its summary says, and yet wrong."""
    directory = cache.slab.parent
    index = (directory / "index").read_bytes()
    parts = Parts.of(index)
    next(record for record in parts.records if record[2] > 0)[1] += 1
    summary = (directory / "summary").read_text()
    told = summary.replace(str(Digest.of(index)), str(Digest.of(parts.to_bytes())))
    (directory / "index").write_bytes(parts.to_bytes())
    (directory / "summary").write_text(told)
    if not has_blob:
        cache.blob.unlink()
    (fault,), _ = cache.verify()
    assert (fault.path, fault.action) == (f"{cache.name(directory)}/index", "removed")
    cache.check_readable(fetched=0 if has_blob else len(BLOB))


async def test_what_a_mount_has_open_is_read_on(tmp_path: Path) -> None:
    cache = await trio.to_thread.run_sync(Unpacked, tmp_path / "cache")
    async with repository_at(cache.root, cache.source) as repository:
        opened = await repository.open_layer(cache.layer)
        flip(cache.slab, 10)
        (fault,), _ = await trio.to_thread.run_sync(cache.verify)
        assert fault.files == ["docs/00"]
        right = {name: each for name, each in FILES.items() if name != "docs/00"}
        assert await contents(opened, right) == right


def test_many_wrong_files_are_counted_and_some_of_them_named(
    cache: Unpacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_NAMED_FILES", 3)
    cache.slab.chmod(0o600)
    cache.slab.write_bytes(bytes(SLAB_BYTES))
    (fault,), _ = cache.verify()
    assert fault.reason == "20 of its files are not what the layer has"
    assert fault.files == ["docs/00", "docs/01", "docs/02"]
