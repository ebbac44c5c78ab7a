"""The mount table as the kernel writes it."""

from orasfs.fuse.mountinfo import Mount, mount_at, parse_mountinfo, read_mounts

TEXT = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:40 / /mnt rw,nosuid shared:7 master:3 - fuse.orasfs oci:/a\040b rw,user_id=0
91 22 0:41 / /mnt rw - tmpfs tmpfs rw
92 22 0:42 / /with\040space\134\351 rw - fuse.orasfs registries rw
no separator in this line
"""


def test_each_line_is_a_mount() -> None:
    mounts = parse_mountinfo(TEXT)
    assert mounts[1] == Mount("/mnt", "fuse.orasfs", "oci:/a b", "0:40")
    assert mounts[3] == Mount("/with space\\\udce9", "fuse.orasfs", "registries", "0:42")
    assert len(mounts) == 4


def test_of_two_mounts_at_a_path_the_later_is_on_top() -> None:
    found = mount_at("/mnt", parse_mountinfo(TEXT))
    assert found is not None
    assert found.type == "tmpfs"


def test_nothing_is_mounted_at_a_path_of_no_mount() -> None:
    assert mount_at("/mn", parse_mountinfo(TEXT)) is None


def test_this_process_sees_a_root() -> None:
    assert mount_at("/", read_mounts()) is not None
