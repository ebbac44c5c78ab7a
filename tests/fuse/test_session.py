"""The life of a mount: it ends cleanly whoever ends it, and what is stale is what it should be."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orasfs.fuse.place import READ_AHEAD_KIB
from tests.fakes.operations import PLAIN, REPLACED
from tests.support.mounted import Mounted, is_mounted, run
from tests.support.patience import eventually

FAKE = ("tests.support.fake_mount",)


@pytest.fixture(params=["pyfuse3", "device"])
def transport(request: pytest.FixtureRequest) -> str:
    return f"transport={request.param}"


@pytest.fixture
def mounted(tmp_path: Path, transport: str) -> Mounted:
    return Mounted(None, tmp_path, transport, program=FAKE)


@pytest.mark.fuse
def test_sigterm_unmounts_cleanly(mounted: Mounted) -> None:
    with mounted:
        assert mounted.stop() == 0
        assert not is_mounted(mounted.path)
        assert "unmounted" in mounted.log()


@pytest.mark.fuse
def test_fusermount_ends_the_daemon_with_status_0(mounted: Mounted) -> None:
    with mounted:
        run(["fusermount3", "-u", mounted.path])
        assert mounted.wait() == 0


@contextmanager
def fuse_control(directory: Path) -> Iterator[Path]:
    """Mount the control filesystem of FUSE; skips the test where that is not allowed."""
    directory.mkdir()
    if run(["mount", "-t", "fusectl", "none", directory], check=False).returncode:
        pytest.skip("only root may abort a connection")
    try:
        yield directory
    finally:
        run(["umount", directory])


@pytest.mark.fuse
def test_a_connection_that_the_kernel_aborts_is_the_end_of_the_session(
    mounted: Mounted, tmp_path: Path
) -> None:
    """And leaves no dead mount behind, though libfuse would."""
    with fuse_control(tmp_path / "control") as control, mounted:
        device = mounted.path.stat().st_dev
        (control / f"{os.minor(device)}/abort").write_text("1")
        assert mounted.wait() == 0
        assert not is_mounted(mounted.path)


@pytest.mark.fuse
def test_a_lazy_unmount_serves_what_is_open_and_then_ends(mounted: Mounted) -> None:
    with mounted:
        with (mounted.path / "plain").open("rb") as file:
            run(["fusermount3", "-u", "-z", mounted.path])
            assert not is_mounted(mounted.path)
            assert file.read() == PLAIN
        assert mounted.wait() == 0


@pytest.mark.fuse
def test_a_detached_mount_does_not_unmount_what_came_after_it(
    tmp_path: Path, transport: str
) -> None:
    with (
        Mounted(None, tmp_path, transport, program=FAKE) as first,
        (first.path / "plain").open("rb") as file,
    ):
        run(["fusermount3", "-u", "-z", first.path])
        with Mounted(None, tmp_path, transport, program=FAKE) as second:
            first.process.terminate()
            assert first.wait() == 0
            assert is_mounted(second.path)
            assert (second.path / "plain").read_bytes() == PLAIN
        with pytest.raises(OSError, match=r"not connected|aborted|Input/output"):
            os.pread(file.fileno(), 10, 0)


@pytest.mark.fuse
@pytest.mark.slow
def test_a_request_that_never_ends_does_not_keep_the_daemon(mounted: Mounted) -> None:
    with mounted:
        reader = subprocess.Popen(["cat", mounted.path / "hang"], stderr=subprocess.PIPE)
        while "hang" not in run(["ls", "-l", f"/proc/{reader.pid}/fd"], check=False).stdout:
            assert reader.poll() is None
        started = time.monotonic()
        assert mounted.stop() == 0
        assert time.monotonic() - started < 10
        assert reader.wait(10) != 0
        reader.communicate()
        assert not is_mounted(mounted.path)


@pytest.mark.fuse
def test_sigkill_leaves_a_stale_mount_and_another_can_follow(mounted: Mounted) -> None:
    with mounted:
        mounted.kill9()
        assert is_mounted(mounted.path)
        said = run(["ls", mounted.path], check=False).stderr
        assert "Transport endpoint is not connected" in said
        run(["fusermount3", "-u", "-z", mounted.path])
        with mounted:
            assert (mounted.path / "plain").read_bytes() == PLAIN


@pytest.mark.fuse
@pytest.mark.skipif(os.getuid() != 0, reason="only root may set the read-ahead")
def test_the_kernel_reads_ahead_a_mebibyte(mounted: Mounted) -> None:
    with mounted:
        device = mounted.path.stat().st_dev
        knob = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        if not os.access(knob, os.W_OK):
            pytest.skip("/sys is read-only here")
        assert int(knob.read_text()) == READ_AHEAD_KIB


@pytest.mark.fuse
def test_the_kernel_drops_the_pages_it_is_told_to_drop(mounted: Mounted) -> None:
    with mounted:
        plain = mounted.path / "plain"
        assert plain.read_bytes() == PLAIN
        assert not (mounted.path / "replace-plain").exists()
        eventually(lambda: plain.read_bytes() == REPLACED, seconds=10)


@pytest.mark.fuse
def test_the_kernel_drops_the_name_it_is_told_to_drop(mounted: Mounted) -> None:
    with mounted:
        late = mounted.path / "late"
        assert not late.exists()
        assert not (mounted.path / "let-late-appear").exists()
        eventually(late.exists, seconds=10)
