"""How to mount: the options that all transports give, and the choice among them."""

from pathlib import Path

import pytest

from orasfs.fuse.options import (
    SessionOptions,
    Transport,
    chosen_transport,
    may_pass_through,
    mount_options,
)


def test_mount_options_are_those_the_interface_promises() -> None:
    plain = mount_options(SessionOptions("localhost:5000"))
    assert plain == {
        "default_permissions", "fsname=localhost:5000", "subtype=orasfs", "nosuid", "nodev",
    }  # fmt: skip
    more = mount_options(SessionOptions("x", allow_other=True, read_only=True, flags=("noexec",)))
    assert {"allow_other", "ro", "noexec"} <= more


def test_a_source_with_commas_and_newlines_adds_no_option() -> None:
    options = mount_options(SessionOptions("oci:/a,suid\nb\\c\udcff"))
    assert "fsname=oci:/a\\,suid?b\\\\c?" in options
    assert all(option.isascii() for option in options)


@pytest.mark.parametrize("transport", [Transport.PYFUSE3, Transport.DEVICE])
def test_a_transport_that_is_asked_for_is_taken(transport: Transport) -> None:
    assert chosen_transport(transport, lambda: True) is transport
    assert chosen_transport(transport, lambda: False) is transport


def test_by_itself_the_device_is_taken_where_files_may_be_passed_through() -> None:
    assert chosen_transport(Transport.AUTO, lambda: True) is Transport.DEVICE
    assert chosen_transport(Transport.AUTO, lambda: False) is Transport.PYFUSE3


def proc(
    directory: Path,
    release: str = "6.18.44-fc",
    effective: str = "000001ffffffffff",
    users: str = "         0          0 4294967295",
) -> Path:
    """Make the files of /proc that are looked at."""
    (directory / "sys/kernel").mkdir(parents=True)
    (directory / "self").mkdir()
    (directory / "sys/kernel/osrelease").write_text(f"{release}\n")
    (directory / "self/status").write_text(f"Name:\tpython\nCapEff:\t{effective}\nSeccomp:\t0\n")
    (directory / "self/uid_map").write_text(f"{users}\n")
    return directory


def test_root_on_a_new_kernel_may_pass_files_through(tmp_path: Path) -> None:
    assert may_pass_through(proc(tmp_path))


@pytest.mark.parametrize("release", ["6.8.12", "5.15.0-100-generic", "strange"])
def test_an_old_kernel_passes_nothing_through(tmp_path: Path, release: str) -> None:
    assert not may_pass_through(proc(tmp_path, release=release))


def test_whoever_is_not_privileged_passes_nothing_through(tmp_path: Path) -> None:
    assert not may_pass_through(proc(tmp_path, effective="000001ffffdfffff"))


def test_root_of_a_user_namespace_passes_nothing_through(tmp_path: Path) -> None:
    assert not may_pass_through(proc(tmp_path, users="0 1000 1"))


def test_without_proc_nothing_is_passed_through(tmp_path: Path) -> None:
    assert not may_pass_through(tmp_path)
