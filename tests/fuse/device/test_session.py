"""What only the device offers, on a real mount: passing through, and interrupts that arrive."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.fuse.options import may_pass_through
from tests.fakes.operations import ASKED, BACKING, GIVEN, PLAIN
from tests.support.mounted import Mounted, run

pytestmark = pytest.mark.fuse
privileged = pytest.mark.skipif(
    not may_pass_through(), reason="passing through takes root and Linux 6.9"
)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    home = tmp_path_factory.mktemp("device")
    fake = ("tests.support.fake_mount",)
    with Mounted(None, home, "transport=device", program=fake) as mount:
        yield mount


@pytest.fixture
def top(mounted: Mounted) -> Iterator[Path]:
    yield mounted.path
    assert not (mounted.path / "show-backing").exists()


def ask(top: Path, name: str) -> None:
    """Use a knob of the fake filesystem."""
    assert not (top / name).exists()


@privileged
def test_the_kernel_reads_a_file_with_a_backing_file_by_itself(top: Path) -> None:
    assert (top / "backed").read_bytes() == BACKING
    with (top / "backed").open("rb") as first, (top / "backed").open("rb") as second:
        assert first.read() == second.read() == BACKING
        assert os.pread(first.fileno(), 7, len(BACKING) - 3) == BACKING[-3:]


@privileged
def test_a_file_that_was_given_with_its_open_is_not_asked_for(top: Path) -> None:
    assert (top / "given").read_bytes() == GIVEN
    assert (top / "given").read_bytes() == GIVEN


def test_opens_that_live_together_agree(top: Path) -> None:
    """A file that was opened to be cached is cached until its last one is closed."""
    ask(top, "hide-backing")
    with (top / "backed").open("rb") as cached:
        ask(top, "show-backing")
        with (top / "backed").open("rb") as also_cached:
            assert also_cached.read() == ASKED
        assert cached.read() == ASKED
    with (top / "backed").open("rb") as passed:
        assert passed.read() == (BACKING if may_pass_through() else ASKED)


@privileged
def test_a_file_that_is_passed_through_can_be_mapped(top: Path) -> None:
    code = (
        "import mmap, sys; f = open(sys.argv[1], 'rb');"
        "print(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:24].decode())"
    )
    assert (
        run([sys.executable, "-c", code, top / "backed"]).stdout.strip() == BACKING[:24].decode()
    )


@privileged
def test_a_file_that_loses_its_backing_file_is_read_from_us_meanwhile(top: Path) -> None:
    """And is not written, which the kernel would fail after the file was opened."""
    with (top / "backed").open("rb") as passed:
        ask(top, "hide-backing")
        assert (top / "backed").read_bytes() == ASKED
        assert passed.read() == BACKING
        refused = run(["sh", "-c", 'echo >> "$0"', top / "backed"], check=False)
        assert "busy" in refused.stderr
    assert (top / "backed").read_bytes() == ASKED
    refused = run(["sh", "-c", 'echo >> "$0"', top / "backed"], check=False)
    assert "Read-only" in refused.stderr


def test_a_directory_whose_names_stay_is_listed_once(top: Path) -> None:
    def listings(name: str) -> int:
        requests = os.getxattr(top, "user.fake.requests").decode().splitlines()
        return requests.count(f"readdir {name}")

    first = sorted(path.name for path in (top / "dir").iterdir())
    asked = listings("dir")
    assert asked > 0
    assert sorted(path.name for path in (top / "dir").iterdir()) == first
    assert listings("dir") == asked
    before = listings("")
    assert top / "dir" in list(top.iterdir())
    assert listings("") > before


def wait_for_request(top: Path, request: str) -> None:
    """Wait until the filesystem has been asked for something."""
    while request not in os.getxattr(top, "user.fake.requests").decode().splitlines():
        run(["true"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_a_lookup_can_be_ended(top: Path, number: int) -> None:
    waiting = subprocess.Popen(["stat", top / "hang-lookup"], stderr=subprocess.PIPE)
    wait_for_request(top, "lookup hang-lookup")
    waiting.send_signal(number)
    assert waiting.wait(10) == -number
    waiting.communicate()
    assert (top / "plain").read_bytes() == PLAIN


def test_a_handler_of_a_signal_that_ends_hears_of_it_at_once(top: Path) -> None:
    code = (
        "import os, sys\n"
        "try:\n    os.stat(sys.argv[1])\n"
        "except (KeyboardInterrupt, InterruptedError):\n    sys.exit(7)"
    )
    before = os.getxattr(top, "user.fake.requests").count(b"hang-lookup")
    waiting = subprocess.Popen([sys.executable, "-c", code, top / "hang-lookup"])
    while os.getxattr(top, "user.fake.requests").count(b"hang-lookup") <= before:
        assert waiting.poll() is None
        run(["true"])
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(10) == 7


def test_a_signal_that_only_disturbs_fails_nothing(top: Path) -> None:
    """No disk fails a stat because a timer goes off."""
    code = (
        "import os, signal, sys\n"
        "fired = []\n"
        "signal.signal(signal.SIGALRM, lambda *_: fired.append(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)\n"
        "print(os.stat(sys.argv[1]).st_size, len(fired) > 0)\n"
    )
    done = run([sys.executable, "-c", code, top / "slow-lookup"])
    assert done.stdout.split() == [str(len(PLAIN)), "True"]
