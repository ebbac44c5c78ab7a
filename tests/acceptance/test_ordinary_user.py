"""Mounting as a user who is not root: by either transport, and what is said where it cannot be."""

import sys
from pathlib import Path

import pytest

from tests.support.gestures import LayoutOne
from tests.support.ordinaryuser import missing, run_as_user

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SESSION = """
cd {home}
user mkdir -p mnt
orasfs mount -o transport={transport} oci:layout mnt
grep " $PWD/mnt " /proc/self/mounts
user grep '"transport": ' mnt/.orasfs/status.json
user sh -ec 'cd mnt; mkdir v1; echo content > v1/file; mkdir v1/dir; seq 100000 > v1/dir/numbers'
orasfs commit -q mnt/v1
user sh -c 'seq 100000 | cmp - mnt/v1/dir/numbers && cat mnt/v1/file && stat -c %U mnt/v1/file'
user sh -c 'echo more > mnt/v1/file' || true
ls mnt || true
orasfs status
{root} doctor || true
{root} status
{root} status mnt || echo "of that one: $?"
orasfs umount mnt
user ls -A mnt
"""


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a user who has a layout."""
    LayoutOne(tmp_path / "home/layout")
    return tmp_path / "home"


@pytest.mark.parametrize("transport", ["auto", "device"])
def test_a_user_mounts_writes_commits_reads_and_unmounts(home: Path, transport: str) -> None:
    root = f"{sys.executable} -m orasfs"
    done = run_as_user(SESSION.format(home=home, transport=transport, root=root), home)
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    lines = done.stdout.splitlines()
    assert "user_id=65534" in lines[0]
    used = "pyfuse3" if transport == "auto" else transport
    assert lines[1].strip() == f'"transport": "{used}",'
    assert "content" in lines
    assert "nobody" in lines
    assert lines[-1] == "of that one: 1"  # nothing is mounted any more
    assert "Read-only file system" in done.stderr
    assert "ls: cannot access 'mnt': Permission denied" in done.stderr
    shown = [
        line for line, head in zip(lines[1:], lines, strict=False) if f"on {home}/mnt" in head
    ]
    private = "private to the user who mounted it"
    assert shown[0].startswith("  version ")
    assert shown[1:] == [f"  {private}", f"  {private}"]
    assert f"ok    {home}/mnt: oci:{home}/layout, {private}" in lines


@pytest.mark.parametrize("transport", ["pyfuse3", "device"])
def test_a_user_is_told_why_he_cannot_mount(home: Path, transport: str) -> None:
    script = f"""
cd {home}
user mkdir -p mnt
mkdir -p not-his
set +e
for words in "mnt -o allow_other" "not-his"; do
    orasfs mount -o transport={transport} oci:layout $words
    echo $?
done
grep -c " $PWD/" /proc/self/mounts
"""
    done = run_as_user(script, home, files={"/etc/fuse.conf": "# nothing is allowed\n"})
    assert done.stdout.split() == ["1", "1", "0"]
    said = done.stderr
    assert "allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf" in said
    assert f"no write access to mountpoint {home}/not-his" in said
    assert "Traceback" not in said
    assert "Command" not in said


def test_others_look_in_where_the_system_and_the_user_allow_it(home: Path) -> None:
    script = f"""
cd {home}
user mkdir -p mnt
orasfs mount -o allow_other oci:layout mnt
ls -A mnt
orasfs umount mnt
"""
    done = run_as_user(script, home, files={"/etc/fuse.conf": "user_allow_other\n"})
    assert (done.returncode, done.stderr) == (0, "")


def test_root_of_a_container_without_root_mounts_as_any_user_does(home: Path) -> None:
    script = f"""
cd {home}
user mkdir -p mnt
user unshare --user --map-root-user true || exit 77
user unshare --user --map-root-user --mount sh -ec '
    {sys.executable} -m orasfs mount oci:layout mnt
    mkdir mnt/v1
    echo content > mnt/v1/file
    sync mnt/v1
    cat mnt/v1/file
    grep transport mnt/.orasfs/status.json
    {sys.executable} -m orasfs umount mnt'
"""
    done = run_as_user(script, home)
    if done.returncode == 77:
        pytest.skip(f"no user namespace: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["content", '  "transport": "pyfuse3",']


def test_a_device_that_is_roots_alone_is_said(home: Path) -> None:
    script = f"cd {home}; user mkdir -p mnt; orasfs mount oci:layout mnt"
    done = run_as_user(script, home, device_mode="600")
    assert done.returncode == 1
    assert "/dev/fuse: no permission" in done.stderr
    assert "chmod 666 /dev/fuse" in done.stderr
