"""A disk of drafts that is full: said at the write, and nothing that is there is lost."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

import pytest

from tests.support.gestures import LayoutOne, commit
from tests.support.mounted import Mounted, run

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a small disk, which needs root"),
]

MIB = 1024 * 1024
DISK_BYTES = 4 * MIB


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    path.mkdir()
    options = f"size={DISK_BYTES},mode=0700"
    run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path])
    try:
        yield path
    finally:
        run(["umount", "--lazy", path])


@pytest.fixture
def draft(tmp_path: Path) -> Iterator[Path]:
    layout = LayoutOne(tmp_path / "layout")
    with small_disk(tmp_path / "state") as state:
        environ = {"XDG_STATE_HOME": str(state)}
        with Mounted(layout.source, tmp_path / "home", environ=environ) as mounted:
            draft = mounted.path / "v1"
            draft.mkdir()
            yield draft


def _write(file: RawIOBase) -> int:
    """Write a MiB; return the errno, 0 if some of it was written."""
    try:
        file.write(os.urandom(MIB))
    except OSError as error:
        return error.errno or -1
    return 0


def test_df_tells_of_the_disk_of_the_drafts(draft: Path) -> None:
    status = os.statvfs(draft)
    assert status.f_blocks * status.f_frsize == DISK_BYTES
    (draft / "file").write_bytes(bytes(MIB))
    free = os.statvfs(draft)
    assert free.f_bavail * free.f_frsize <= DISK_BYTES - MIB


def test_a_full_disk_is_told_at_the_write_and_loses_nothing(draft: Path) -> None:
    (draft / "before").write_text("before")
    with (draft / "large").open("wb", buffering=0) as file:
        written = [_write(file) for _ in range(2 * DISK_BYTES // MIB)]
    assert written[0] == 0
    assert written[-1] == errno.ENOSPC
    copied = run(["cp", "/bin/sh", draft / "small"], check=False)
    assert copied.returncode or (draft / "small").exists()
    assert (draft / "before").read_text() == "before"
    assert "ull" in (draft / ".oras/error").read_text()
    (draft / "large").unlink()
    (draft / "small").unlink(missing_ok=True)
    (draft / "after").write_text("after")
    commit(draft)
    assert sorted(path.name for path in draft.iterdir()) == ["after", "before"]


def test_a_commit_without_room_leaves_the_draft_and_works_with_it(draft: Path) -> None:
    """A packed directory needs room beside the draft."""
    (draft / "docs").mkdir()
    (draft / "docs/page").write_bytes(os.urandom(2 * MIB))
    (draft / "ballast").write_bytes(bytes(3 * MIB // 2))
    done = run(["sync", draft], check=False)
    assert "No space left" in done.stderr
    assert (draft / "docs/page").stat().st_size == 2 * MIB
    (draft / "ballast").unlink()
    (draft / "docs/page").write_bytes(os.urandom(MIB))
    run(["sync", draft])
    assert (draft / "docs/page").stat().st_size == MIB
