"""Writing into a layout: whole or not at all, and exact about tags whoever else writes."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from orasfs.errors import Busy, InvalidName, NotEmpty, StorageFailure, TagMoved
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.store.layout import LayoutRegistry
from orasfs.store.layoutwriter import LayoutTarget, create_layout, remove_empty_layout
from tests.support.content import Memory, ignore, never
from tests.support.publish import OCI_MANIFEST, manifest_of

ROUNDS = 100
PROCESS_SECONDS = 100
EMPTY = Memory(b"{}")

# Moves the tag so many times, each time from where it found it, and says what stood in its way.
RACER = """
import sys, trio
from orasfs.errors import TagMoved
from orasfs.store.layoutwriter import LayoutTarget
from tests.support.publish import OCI_MANIFEST, manifest_of

async def main(path, name, rounds):
    target, won, lost = LayoutTarget(path), 0, 0
    while won < rounds:
        base = (await target.resolve("v1")).digest
        raw = manifest_of(annotations={"by": name, "base": str(base), "n": str(won)})
        try:
            await target.push_manifest(raw, OCI_MANIFEST, "v1", expected=base)
            won += 1
        except TagMoved:
            lost += 1
    print(lost)

from pathlib import Path
print("ready", flush=True)
sys.stdin.readline()
trio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    create_layout(tmp_path / "layout")
    return tmp_path / "layout"


@pytest.fixture
def target(layout: Path) -> LayoutTarget:
    return LayoutTarget(layout)


async def put(target: LayoutTarget, tag: str, **annotations: str) -> Digest:
    raw = manifest_of(annotations=annotations)
    await target.push_manifest(raw, OCI_MANIFEST, tag)
    return Digest.of(raw)


def files(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*") if found.is_file()}


def test_an_empty_directory_becomes_a_layout(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "deep"
    create_layout(directory)
    marker = json.loads((directory / "oci-layout").read_bytes())
    assert marker == {"imageLayoutVersion": "1.0.0"}
    LayoutRegistry(directory)
    before = files(tmp_path)
    create_layout(directory)
    assert files(tmp_path) == before


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidName):
        create_layout(tmp_path)
    assert files(tmp_path) == {"notes.txt"}


def test_a_layout_that_was_not_finished_is_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / ".index.json.tmp").write_bytes(b"{")
    create_layout(tmp_path)
    assert {"index.json", "oci-layout"} <= files(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailure, match="make the layout"):
        create_layout(tmp_path / "file" / "layout")


async def test_blobs_are_where_the_specification_has_them(
    target: LayoutTarget, layout: Path
) -> None:
    content = Memory(b"content" * 100_000)
    await trio.to_thread.run_sync(target.push_blob, content.descriptor, content, ignore, never)
    path = layout / "blobs" / "sha256" / content.descriptor.digest.hex
    assert path.read_bytes() == content.content
    assert path.stat().st_mode & 0o777 == 0o444
    assert list((layout / "ingest").iterdir()) == []


async def test_a_layout_has_no_other_repository(target: LayoutTarget) -> None:
    assert not await target.mount_blob(EMPTY.descriptor, "other")


async def test_index_json_is_replaced_at_once(target: LayoutTarget, layout: Path) -> None:
    await put(target, "v1")
    with (layout / "index.json").open("rb") as reader:
        await put(target, "v2", n="2")
        assert b"v2" not in reader.read()
    assert b"v2" in (layout / "index.json").read_bytes()
    assert not (layout / ".index.json.tmp").exists()


async def test_an_index_that_is_missing_is_made(target: LayoutTarget, layout: Path) -> None:
    (layout / "index.json").unlink()
    digest = await put(target, "v1")
    assert (await target.resolve("v1")).digest == digest


async def test_the_manifest_that_lost_its_tag_is_found_by_digest(target: LayoutTarget) -> None:
    first, second = await put(target, "v1"), await put(target, "v1", n="2")
    assert (await target.resolve(str(first))).digest == first
    assert (await target.resolve("v1")).digest == second


async def test_another_writer_is_waited_for_and_not_for_ever(layout: Path) -> None:
    target = LayoutTarget(layout, lock_seconds=0.05)
    fd = os.open(layout / "index.json.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(Busy, match="another process"):
            await put(target, "v1")
    finally:
        os.close(fd)
    await put(target, "v1")


async def test_of_two_who_move_a_tag_from_the_same_base_one_loses(layout: Path) -> None:
    targets = [LayoutTarget(layout), LayoutTarget(layout)]
    base = await put(targets[0], "v1")
    for number in range(ROUNDS):
        raws = [manifest_of(annotations={"n": str(number), "by": by}) for by in "ab"]
        losers: list[int] = []

        async def move(which: int, raws: list[bytes] = raws, base: Digest = base) -> None:
            try:
                await targets[which].push_manifest(raws[which], OCI_MANIFEST, "v1", expected=base)
            except TagMoved:
                losers.append(which)  # noqa: B023 - awaited before the next round

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move, 0)
            nursery.start_soon(move, 1)
        assert len(losers) == 1
        base = (await targets[0].resolve("v1")).digest
        assert base == Digest.of(raws[1 - losers[0]])


def race(commands: list[list[str]], environment: dict[str, str]) -> list[str]:
    """Let processes begin at the same moment; return what they say in the end."""
    racers = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        return [racer.communicate(timeout=PROCESS_SECONDS)[0] for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()


@pytest.mark.slow
async def test_of_two_processes_that_move_a_tag_no_move_is_lost(
    target: LayoutTarget, layout: Path
) -> None:
    """Each manifest names the one it replaced, so that the chain must have them all."""
    first = await put(target, "v1")
    command = [sys.executable, "-c", RACER, str(layout)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    said = await trio.to_thread.run_sync(
        race, [[*command, name, str(ROUNDS)] for name in "ab"], environment
    )
    moves = {"a": 0, "b": 0}
    at = (await target.resolve("v1")).digest
    while at != first:
        document = parse_document(await target.fetch_manifest(await target.resolve(str(at))))
        assert isinstance(document, Manifest)
        moves[document.annotations["by"]] += 1
        at = Digest.parse(document.annotations["base"])
    assert moves == {"a": ROUNDS, "b": ROUNDS}
    assert sum(int(output) for output in said) > 0, "they never met, so this showed nothing"


async def test_skopeo_reads_what_was_written(target: LayoutTarget, layout: Path) -> None:
    for blob in (config := Memory(b"{}"), layer := Memory(b"layer" * 1000)):
        await trio.to_thread.run_sync(target.push_blob, blob.descriptor, blob, ignore, never)
    raw = manifest_of(
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": str(layer.descriptor.digest),
            "size": layer.size,
        },
        config={
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(config.descriptor.digest),
            "size": config.size,
        },
    )
    await target.push_manifest(raw, OCI_MANIFEST, "v1")
    await put(target, "v2")
    copied = layout.parent / "copied"
    for command in (
        ["skopeo", "inspect", "--raw", f"oci:{layout}:v1"],
        ["skopeo", "copy", f"oci:{layout}:v1", f"dir:{copied}"],
    ):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
    assert (copied / "manifest.json").read_bytes() == raw
    assert (copied / layer.descriptor.digest.hex).read_bytes() == layer.content


async def test_only_a_layout_in_which_nothing_is_can_be_removed(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    create_layout(layout)
    (layout / "notes").write_text("mine")
    with pytest.raises(NotEmpty):
        remove_empty_layout(layout)
    (layout / "notes").unlink()
    raw = manifest_of()
    target = LayoutTarget(layout)
    await target.push_manifest(raw, OCI_MANIFEST, str(Digest.of(raw)))
    with pytest.raises(NotEmpty):
        remove_empty_layout(layout)
    await target.delete_manifest(Digest.of(raw))
    remove_empty_layout(layout)
    assert not layout.exists()
