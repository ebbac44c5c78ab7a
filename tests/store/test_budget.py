import os
from pathlib import Path

import pytest

from orasfs.errors import InvalidInput
from orasfs.store.content.budget import Budget, parse_budget, shortage


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("123", 123), ("500M", 500 * 2**20), ("2.5g", 5 * 2**29), ("1TiB", 2**40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_budget(text) == Budget(size=size)


def test_share_is_of_the_disk(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    limit = parse_budget("30%").limit(tmp_path)
    assert limit == int(status.f_blocks * status.f_frsize * 0.3)


@pytest.mark.parametrize("text", ["", "many", "-1", "10X", "0%", "101%", "%", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_budget(text)


def test_a_disk_is_never_filled_up(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert shortage(tmp_path, status.f_bavail * status.f_frsize) > 0
    assert shortage(tmp_path, 1) == 0
