"""Bytes that are not what their digest says, read through a real mount."""

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.support.mounted import Mounted, run
from tests.support.patience import eventually
from tests.support.publish import descriptor_of, manifest_of

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

REPOSITORY = "team/wrong"
SMALL = 1_000_000
LARGE = 65 * 1024 * 1024  # over the size up to which a blob is verified before it is served


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def publish_wrong(registry: FakeRegistry, size: int) -> None:
    """Push an artifact whose only layer ends in another byte than its digest was made of."""
    right = bytes(size)
    wrong = right[:-1] + b"\1"
    registry.put_blob(REPOSITORY, b"{}")
    layer = descriptor_of(right, title="file")
    registry.put_blob_as(REPOSITORY, layer["digest"], wrong)
    registry.put_manifest(REPOSITORY, "v1", manifest_of(layer))


def fails_with_eio(read: Callable[[], bytes]) -> bool:
    """Tell whether reading fails."""
    try:
        read()
    except OSError as error:
        return error.errno == errno.EIO
    return False


def kept(mounted: Mounted) -> set[int]:
    """Return the sizes of the blobs that the cache keeps under their names."""
    return {path.stat().st_size for path in (mounted.cache / "blobs").rglob("*") if path.is_file()}


def test_wrong_bytes_of_a_small_blob_are_never_served(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    publish_wrong(registry, SMALL)
    with Mounted(f"{registry.host}/{REPOSITORY}:v1", tmp_path) as mounted:
        done = run(["head", "-c", "10", mounted.path / "file"], check=False)
        assert done.stdout == ""
        assert "Input/output error" in done.stderr
        assert "digest" in run(["cat", mounted.path / ".oras/error"]).stdout
        assert SMALL not in kept(mounted)


def test_wrong_bytes_that_were_served_are_dropped_and_reads_fail_from_then_on(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    publish_wrong(registry, LARGE)
    with Mounted(f"{registry.host}/{REPOSITORY}:v1", tmp_path) as mounted:
        path = mounted.path / "file"
        with path.open("rb", buffering=0) as file:
            assert file.read(4096) == bytes(4096), "lazily, from a loopback origin"
            copied = run(["cp", path, tmp_path / "copy"], check=False)
            assert "Input/output error" in copied.stderr, "who reads all of it always learns"
            # The page was cached: it is dropped.
            eventually(lambda: fails_with_eio(partial(os.pread, file.fileno(), 4096, 0)))
            assert "Input/output error" in run(["sha256sum", path], check=False).stderr
        assert os.getxattr(path, "user.oras.verified") == b"false"
        assert LARGE not in kept(mounted)


def test_strict_verification_serves_nothing_unverified(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    publish_wrong(registry, LARGE)
    with Mounted(f"{registry.host}/{REPOSITORY}:v1", tmp_path, "verify=strict") as mounted:
        done = run(["head", "-c", "10", mounted.path / "file"], check=False)
        assert done.stdout == ""
        assert "Input/output error" in done.stderr
