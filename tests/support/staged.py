"""Staged trees from real directories, and what committing a plan does without a registry."""

import io
import os
import stat
from pathlib import Path

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import Expectation, Target
from orasfs.staging.commit import Staged, Uploaded, conclude, upload
from orasfs.staging.layerblob import write_layer
from orasfs.staging.layers import DirectoryLayer, FileLayer
from orasfs.staging.manifestedit import KeptLayer
from orasfs.staging.pack import Plan
from orasfs.staging.progress import Progress
from orasfs.staging.surroundings import Surroundings
from orasfs.staging.tree import (
    StagedDirectory,
    StagedFile,
    StagedNode,
    StagedSpecial,
    StagedSymlink,
)
from tests.support.golden import GOLDEN

GOLDEN_MTIME_NS = 1_709_210_096_000_000_000  # 2024-02-29 12:34:56 UTC
GOLDEN_CREATED = 1_709_251_200  # 2024-03-01 00:00:00 UTC
_GOLDEN_MODES = {"run.sh": 0o755, "private": 0o600}
_GOLDEN_LINKS = {"dirlink": "sub/deep", "link.md": "readme.md"}


def staged(path: Path) -> StagedNode:
    """Return what is on disk; the key of a content is its `Path`."""
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return StagedSymlink(str(path.readlink()), status.st_mtime_ns)
    if stat.S_ISDIR(status.st_mode):
        entries = {child.name: staged(child) for child in path.iterdir()}
        return StagedDirectory(entries, mode, status.st_mtime_ns)
    if stat.S_ISREG(status.st_mode):
        return StagedFile(path, status.st_size, mode, status.st_mtime_ns)
    return StagedSpecial("special file")


def golden_inputs(destination: Path, *names: str) -> StagedDirectory:
    """Make the golden inputs so named below `destination` as they were when they were packed."""
    destination.mkdir()
    for name in names:
        _copy(GOLDEN / "inputs" / name, destination / name)
    tree = staged(destination)
    assert isinstance(tree, StagedDirectory)
    return tree


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name in _GOLDEN_LINKS:
        target.symlink_to(_GOLDEN_LINKS[source.name])
    elif source.name == "hard.md":
        target.hardlink_to(target.with_name("readme.md"))
    elif source.is_dir():
        target.mkdir(mode=0o755)
        for child in sorted(source.iterdir(), key=lambda child: child.name == "hard.md"):
            _copy(child, target / child.name)
        if source.name == "docs":
            (target / "empty").mkdir()
            _settle(target / "empty", 0o755)
        _settle(target, 0o755)
    else:
        target.write_bytes(source.read_bytes())
        _settle(target, _GOLDEN_MODES.get(source.name, 0o644))
    os.utime(target, ns=(GOLDEN_MTIME_NS, GOLDEN_MTIME_NS), follow_symlinks=False)


def _settle(path: Path, mode: int) -> None:
    path.chmod(mode)
    os.utime(path, ns=(GOLDEN_MTIME_NS, GOLDEN_MTIME_NS))


def open_path(key: object) -> io.BufferedReader:
    """Open a content whose key is its path."""
    assert isinstance(key, Path)
    return key.open("rb")


def descriptors_of(plan: Plan) -> list[KeptLayer | Descriptor]:
    """Return what each layer of the plan becomes."""
    return [_descriptor(layer) for layer in plan.layers]


def _descriptor(layer: KeptLayer | FileLayer | DirectoryLayer) -> KeptLayer | Descriptor:
    match layer:
        case KeptLayer():
            return layer
        case FileLayer():
            assert isinstance(layer.content, Path)
            content = layer.content.read_bytes()
            assert len(content) == layer.size
            return layer.descriptor(Digest.of(content))
        case DirectoryLayer():
            output = io.BytesIO()
            blob = write_layer(layer.pieces(), layer.compression, output, open_path)
            assert blob.digest == Digest.of(output.getvalue())
            assert blob.size == len(output.getvalue())
            return layer.descriptor(blob)


async def commit(
    before: Staged,
    target: Target,
    tag: str,
    around: Surroundings,
    progress: Progress,
    *,
    expected: Expectation,
) -> Uploaded:
    """Upload a staged tree and put its manifest, as the service that commits drafts does."""
    uploaded = await upload(before, target, around, progress)
    await conclude(uploaded, target, tag, before.directory, progress, expected=expected)
    return uploaded


async def threads_to_end() -> None:
    """Wait for the threads that a failed commit has left behind: they may still push."""
    limiter = trio.to_thread.current_default_thread_limiter()
    with trio.fail_after(10):
        while limiter.borrowed_tokens:  # noqa: ASYNC110 - trio tells nobody of it
            await trio.sleep(0.001)
