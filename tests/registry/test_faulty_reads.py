"""Random reads over a network that fails at random, below FUSE: see tests/support/faultyreads.py.

ORASFS_FAULTY_READS says how many, ORASFS_SEED which.
"""

import logging
import os
from collections.abc import Iterator

import pytest

from orasfs.store.options import Verify
from tests.support.faultyreads import read_faultily

READS = int(os.environ.get("ORASFS_FAULTY_READS", "600"))
SEED = int(os.environ.get("ORASFS_SEED", "1"))


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is said of wrong bytes that were served, which depends on who was faster."""
    messages: list[str] = []

    def take(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("orasfs.store.fetching.blobs")
    logger.addFilter(take)
    yield messages
    logger.removeFilter(take)


@pytest.mark.slow
@pytest.mark.parametrize("verify", Verify)
async def test_no_wrong_byte_where_none_is_promised_and_no_hang(
    verify: Verify, told: list[str]
) -> None:
    tally = await read_faultily(SEED, READS // 2, verify)
    assert tally.faults > tally.reads // 10
    assert tally.errnos["EIO"] > 0
    if verify is Verify.STRICT:
        assert tally.served_wrong == 0
        assert told == []
