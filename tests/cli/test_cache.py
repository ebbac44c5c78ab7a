"""`orasfs cache`, on a cache that was filled without a mount."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from orasfs.cli.main import orasfs
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.draftrecord import BaseReference, DraftKey, DraftRecord, write_record
from orasfs.store.content.cas import ContentStore
from orasfs.store.content.room import Room, open_room
from orasfs.store.files.chunkmapfile import path_of
from orasfs.store.packed.pointfile import seal
from orasfs.store.references import References
from orasfs.tree.chunktable import ChunkTable, Form
from orasfs.tree.node import PackedLayer
from tests.fakes.source import MemorySource
from tests.support.archives import file, tar_of
from tests.support.caches import place_of, repository_at

SIZE = 40 * 1024


class Filled:
    """A cache with five blobs: one of a tag, one of a repository, three of nobody knows whom."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.room: Room = open_room(root)
        self.store = ContentStore(root, self.room)
        self.blobs = [self._add(bytes([number]) * SIZE) for number in range(5)]
        references = References(root / "orasfs/references.sqlite")
        references.remember_tag("host:5000", "team/a", "v1", self.blobs[0])
        references.close()
        self.room.ledger.note_origin(str(self.blobs[1].digest), ("host:5000", "team/b"))
        self.room.ledger.close()

    def _add(self, content: bytes) -> Descriptor:
        descriptor = Descriptor("application/octet-stream", Digest.of(content), len(content))
        self.store.ingest_bytes(descriptor, content)
        return descriptor

    def path(self, number: int) -> Path:
        return self.store.path_of(self.blobs[number].digest)

    def present(self) -> list[int]:
        return [number for number in range(5) if self.path(number).exists()]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filled:
    monkeypatch.setenv("ORAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Filled(tmp_path / "cache")


def call(*words: str) -> Result:
    return CliRunner().invoke(orasfs, ["cache", *words], catch_exceptions=False)


def as_json(*words: str) -> Any:  # noqa: ANN401 - a document
    return json.loads(call(*words, "--json").stdout)


def test_ls_tells_what_is_there_and_of_what_it_is(cache: Filled) -> None:
    lines = call("ls").stdout.splitlines()
    assert lines[0].split() == ["DIGEST", "SIZE", "USED", "KIND", "REFERENCES"]
    rows = {line.split()[0]: line.split() for line in lines[1:]}
    assert set(rows) == {str(blob.digest) for blob in cache.blobs}
    assert rows[str(cache.blobs[0].digest)][-1] == "host:5000/team/a:v1"
    assert rows[str(cache.blobs[1].digest)][-1] == "host:5000/team/b"
    assert rows[str(cache.blobs[2].digest)][-1] == "blob"
    found = {each["digest"]: each for each in as_json("ls")}
    assert found[str(cache.blobs[0].digest)]["size"] == SIZE


def test_du_adds_up_by_kind_and_repository(cache: Filled) -> None:
    found = as_json("du")
    assert found["total"] == 5 * SIZE
    assert found["kinds"] == {"blob": 5 * SIZE}
    assert found["repositories"] == {"host:5000/team/a": SIZE, "host:5000/team/b": SIZE}
    assert "total" in call("du").stdout


def test_prune_to_a_size_takes_the_oldest(cache: Filled) -> None:
    for number, path in enumerate(map(cache.path, range(5))):
        os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
    (cache.root / "orasfs/ledger.sqlite").unlink()
    done = call("prune", "--to", "130K")
    assert (done.exit_code, done.stdout) == (0, "freed 81.9 kB, left 123 kB\n")
    assert cache.present() == [2, 3, 4]


def test_prune_by_age(cache: Filled) -> None:
    assert as_json("prune", "--older-than", "1h") == {"freed": 0, "left": 5 * SIZE}
    for number in (1, 3):
        os.utime(cache.path(number), (1_600_000_000, 1_600_000_000))
    (cache.root / "orasfs/ledger.sqlite").unlink()
    assert as_json("prune", "--older-than", "7d") == {"freed": 2 * SIZE, "left": 3 * SIZE}
    assert cache.present() == [0, 2, 4]


def test_prune_all_leaves_what_is_in_use_or_a_draft_is_based_on(
    cache: Filled, tmp_path: Path
) -> None:
    fd = cache.store.open(cache.blobs[2])
    draft = tmp_path / "state/orasfs/drafts/one"
    draft.mkdir(parents=True)
    base = BaseReference("host:5000", "team/a", cache.blobs[0])
    write_record(draft, DraftRecord(DraftKey("host:5000", "team/a", "v1"), base, None, 0.0))
    assert call("prune", "--all").exit_code == 0
    assert cache.present() == [0, 2]
    assert call("prune", "--to", "0").exit_code == 1
    assert fd is not None
    os.close(fd)
    assert call("prune", "--all").exit_code == 0
    assert cache.present() == [0]


@pytest.mark.parametrize("words", [[], ["--all", "--to", "1G"], ["--older-than", "1y"]])
def test_prune_wants_to_be_told_what(cache: Filled, words: list[str]) -> None:
    assert call("prune", *words).exit_code in (1, 2)
    assert cache.present() == [0, 1, 2, 3, 4]


def test_verify_finds_what_is_wrong_and_takes_it_away(cache: Filled) -> None:
    assert call("verify").exit_code == 0
    cache.path(3).chmod(0o644)
    cache.path(3).write_bytes(b"?" + bytes([3]) * (SIZE - 1))
    done = call("verify")
    assert done.exit_code == 1
    assert "1 wrong" in done.stdout
    assert cache.present() == [0, 1, 2, 4]
    moved = list((cache.root / "orasfs/damaged").iterdir())
    assert [path.name for path in moved] == [f"sha256-{cache.blobs[3].digest.hex}"]
    assert call("verify").exit_code == 0
    cache.store.ingest_bytes(cache.blobs[3], bytes([3]) * SIZE)


def test_verify_removes_a_partial_file_that_its_map_does_not_fit(cache: Filled) -> None:
    partial = cache.root / "ingest" / f"sha256-{'0' * 64}.partial"
    partial.write_bytes(b"x" * SIZE)
    assert as_json("verify")["faults"] == []
    path_of(partial).write_bytes(b"no map" * 100)
    assert [each["reason"] for each in as_json("verify")["faults"]] != []
    assert list((cache.root / "ingest").iterdir()) == []


def test_verify_removes_damaged_seek_points(cache: Filled) -> None:
    directory = cache.root / "orasfs/layers/sha256" / ("0" * 64)
    directory.mkdir(parents=True)
    path = directory / "index.points"
    table = ChunkTable(Form.WINDOWS)
    table.add_point(5, 80, bytes(32), b"")
    table.close(100, is_exact=True)
    right = seal(table.to_bytes())
    for content in (right, b""):
        path.write_bytes(content)
        cache.room.scan()
        assert as_json("verify")["faults"] == []
    path.write_bytes(right[:-1] + b"?")
    assert [each["path"] for each in as_json("verify")["faults"]] == [
        f"orasfs/layers/sha256/{'0' * 64}/index.points"
    ]
    assert not path.exists()


def test_verify_tells_the_names_of_files_of_a_packed_layer(cache: Filled) -> None:
    source = MemorySource()
    tar = tar_of(file("docs/\n", b"one"), file("docs/b", b"2"))
    layer = PackedLayer(source.add_blob(tar), "docs")

    async def unpack() -> None:
        async with repository_at(cache.root, source) as repository:
            await repository.open_layer(layer)

    trio.run(unpack)
    slab = place_of(cache.root, layer.descriptor) / "slab"
    name = slab.relative_to(cache.root).as_posix()
    slab.chmod(0o600)
    slab.write_bytes(b"ond2")
    assert call("verify").stderr.splitlines()[1:] == [r"  'docs/\n'"]
    slab.write_bytes(b"ond2")
    (fault,) = as_json("verify")["faults"]
    assert (fault["path"], fault["files"]) == (name, ["docs/\n"])
    slab.write_bytes(b"ond2")
    cache.store.path_of(layer.descriptor.digest).unlink()
    done = call("verify")
    assert done.exit_code == 0
    assert done.stdout.endswith("not compared: 1 unpacked layers, whose blobs are not here\n")
    assert as_json("verify")["not_compared"] == [name]


def test_no_cache_is_said_so(tmp_path: Path) -> None:
    done = call("du", "--cache", str(tmp_path / "none"))
    assert (done.exit_code, "there is no cache" in done.stderr) == (1, True)
