"""Reading, writing and committing by either transport; and who reads what is passed through."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orasfs.fuse.options import may_pass_through
from tests.support.filechecker import check_file
from tests.support.gestures import LayoutOne, commit, orasfs
from tests.support.golden import GOLDEN, golden_tags
from tests.support.mounted import PROJECT, Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

OPERATIONS = 1000
PATTERN = bytes(range(256)) * 16384


@pytest.fixture(scope="module", params=["pyfuse3", "device"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Mounted]:
    """A layout that can be written."""
    home = tmp_path_factory.mktemp(transport)
    source = LayoutOne(home / "layout").source
    with Mounted(source, home, f"transport={transport}") as mounted:
        yield mounted


def test_every_golden_file_has_its_bytes(transport: str, tmp_path: Path) -> None:
    with Mounted(f"oci:{GOLDEN}/layout", tmp_path, f"transport={transport}") as mounted:
        for tag in sorted(golden_tags().keys() - {"index"}):
            entries = json.loads((GOLDEN / f"pulled/{tag}.json").read_text())
            files = {each["path"]: each["sha256"] for each in entries if each["type"] == "file"}
            top = mounted.path / tag
            assert {
                name: hashlib.sha256((top / name).read_bytes()).hexdigest() for name in files
            } == files


def test_the_status_says_which_transport_it_is(layout: Mounted, transport: str) -> None:
    status = json.loads((layout.path / ".orasfs/status.json").read_text())
    assert status["transport"] == transport
    module = "libfuse" if transport == "pyfuse3" else "device"
    assert f"orasfs.fuse.{module}.session mounted" in layout.log()


def test_pyfuse3_is_loaded_only_where_it_is_used(layout: Mounted, transport: str) -> None:
    maps = Path(f"/proc/{layout.process.pid}/maps").read_text()
    assert ("libfuse3" in maps) is (transport == "pyfuse3")


def test_a_draft_is_written_committed_and_read_again(layout: Mounted) -> None:
    draft = layout.path / "v1"
    draft.mkdir()
    (draft / "p/q").mkdir(parents=True)
    (draft / "p/q/file").write_text("content")
    (draft / "raw").write_bytes(PATTERN)
    (draft / "p/link").symlink_to("q/file")
    with (draft / "raw").open("rb") as before:
        commit(draft)
        assert (draft / "raw").read_bytes() == before.read() == PATTERN
    assert (draft / "raw").read_bytes() == PATTERN
    assert (draft / "p/link").read_text() == "content"
    refused = run(["sh", "-c", 'echo x > "$0"', draft / "raw"], check=False)
    assert "Read-only" in refused.stderr


def test_a_file_agrees_with_memory(layout: Mounted) -> None:
    draft = layout.path / "checked"
    draft.mkdir()
    check_file(draft / "file", operations=OPERATIONS, seed=3)
    run(["rm", "-r", draft])


def test_system_calls_answer_as_in_a_directory(layout: Mounted, tmp_path: Path) -> None:
    draft = layout.path / "tried"
    (draft / "dir").mkdir(parents=True)
    program = [sys.executable, "-m", "tests.support.systemcalls"]
    mounted, local = [
        run([*program, top], environ={"PYTHONPATH": str(PROJECT)}).stdout.splitlines()
        for top in (draft / "dir", tmp_path)
    ]
    assert mounted == local
    run(["rm", "-r", draft])


def test_gestures_are_those_of_the_interface(layout: Mounted) -> None:
    """A sync of the directory pushes, one of its data does not; names are moved and linked."""
    draft = layout.path / ".new"
    draft.mkdir()
    (draft / "file").write_text("content")
    run(["sync", "-d", draft])
    assert state(draft) == "draft"
    orasfs("commit", "-q", draft)
    run(["mv", "-T", draft, layout.path / "g1"])
    assert state(layout.path / "g1") == "committed"
    run(["ln", "-s", "g1", layout.path / "latest"])
    run(["setfattr", "-n", "user.oras.edit", "-v", "1", layout.path / "g1"])
    (layout.path / "g1/more").write_text("more")
    assert state(layout.path / "g1") == "modified"
    run(["sync", layout.path / "g1"])
    assert state(layout.path / "g1") == "committed"
    assert sorted(path.name for path in (layout.path / "latest").iterdir()) == ["file"]
    assert sorted(path.name for path in (layout.path / "g1").iterdir()) == ["file", "more"]


def state(path: Path) -> str:
    return os.getxattr(path, "user.oras.state").decode()


@pytest.mark.skipif(not may_pass_through(), reason="takes root and Linux 6.9")
def test_a_cached_layer_is_read_without_the_daemon(tmp_path: Path) -> None:
    """It is stopped, and what nobody has read in this mount can still be read."""
    source = LayoutOne(tmp_path / "layout").source
    with Mounted(source, tmp_path, "transport=device") as mounted:
        draft = mounted.path / "v1"
        draft.mkdir()
        (draft / "raw").write_bytes(PATTERN)
        commit(draft)
    with Mounted(source, tmp_path, "transport=device") as mounted, ExitStack() as stack:
        raw = mounted.path / "v1/raw"
        # A file of a layout is checked when it is first read; reading ahead would keep it open.
        run(["dd", f"if={raw}", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"])
        os.listxattr(raw)  # which waits: that it is closed is put off no longer than until then
        file = stack.enter_context(raw.open("rb"))
        mounted.process.send_signal(signal.SIGSTOP)
        try:
            sha256sum = subprocess.run(
                ["sha256sum"], stdin=file, capture_output=True, timeout=20, check=True
            )
        finally:
            mounted.process.send_signal(signal.SIGCONT)
        assert sha256sum.stdout.startswith(hashlib.sha256(PATTERN).hexdigest().encode())
        assert os.pread(file.fileno(), 5, len(PATTERN)) == b""
