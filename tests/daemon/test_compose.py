"""The composition: each option reaches the part that it is for."""

import os
from pathlib import Path

import pytest

from orasfs.daemon import compose
from orasfs.daemon.config import MountConfig, parse_options
from orasfs.errors import StorageFailure
from orasfs.fuse.options import SessionOptions, Transport, may_pass_through
from orasfs.store.options import Verify
from orasfs.tree.views import ViewOptions


def configured(options: str) -> MountConfig:
    return parse_options([options], MountConfig(source="registries", cache=Path("/")))


def test_the_filesystem_gets_its_options() -> None:
    options = compose.filesystem_options(
        configured(
            "tag_ttl=5,wait=7,pin,catalog=complete,mediatype=text/*,images=blobs,platform=linux/arm"
        )
    )
    assert (options.tag_ttl_seconds, options.wait_seconds) == (5.0, 7.0)
    assert options.pin
    assert options.catalog_complete
    assert options.view == ViewOptions(media_type="text/*", images=False, platform="linux/arm")


def test_the_cache_gets_its_options() -> None:
    assert compose.cache_options(configured("")).verify is Verify.LAZY
    assert compose.cache_options(configured("verify=strict")).verify is Verify.STRICT


def test_the_session_gets_its_options() -> None:
    given = configured("ro,allow_other,noexec,transport=device")
    assert compose.session_options(given) == SessionOptions(
        "registries",
        allow_other=True,
        read_only=True,
        flags=("noexec",),
        transport=Transport.DEVICE,
    )


def test_by_default_the_transport_is_the_one_that_fits_the_process() -> None:
    chosen = Transport.DEVICE if may_pass_through() else Transport.PYFUSE3
    assert compose.session_options(configured("")).transport is chosen


def test_statfs_is_that_of_the_disk_of_the_cache(tmp_path: Path) -> None:
    status = compose.filesystem_status(tmp_path)
    disk = os.statvfs(tmp_path)
    assert (status.block_size, status.blocks) == (disk.f_frsize, disk.f_blocks)
    assert (status.files, status.name_max) == (disk.f_files, 255)


def test_statfs_of_a_cache_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageFailure, match="gone: No such file"):
        compose.filesystem_status(tmp_path / "gone")
