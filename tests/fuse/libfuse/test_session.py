"""What is pyfuse3's own about the end of a session."""

import errno
import logging

import pyfuse3
import pytest
import trio

from orasfs.fuse.libfuse import session
from orasfs.fuse.libfuse.adapter import FuseAdapter
from orasfs.fuse.libfuse.session import unheard_answers_ignored
from orasfs.fuse.notifier import SessionNotifier
from orasfs.fuse.options import SessionOptions
from orasfs.fuse.service import Service
from tests.conftest import ExpectLog
from tests.fakes.operations import FakeOperations


def test_an_answer_that_nobody_waits_for_is_no_error(expect_log: ExpectLog) -> None:
    log = logging.getLogger("pyfuse3")
    with unheard_answers_ignored():
        log.error("fuse_release(): fuse_reply_* failed with %s", "No such file or directory")
        log.error("fuse_read(): fuse_reply_* failed with %s", "Invalid argument")
    expect_log(logging.ERROR, r"^fuse_read\(\): fuse_reply_\* failed with Invalid argument$")
    log.error("fuse_open(): fuse_reply_* failed with %s", "No such file or directory")
    expect_log(logging.ERROR, r"^fuse_open\(\)")


async def test_requests_that_an_unmount_overtakes_are_the_end_of_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel has then ECONNABORTED for who reads requests, in place of the usual ENODEV."""

    async def main(**_: int) -> None:
        async with trio.open_nursery():
            raise ConnectionAbortedError(errno.ECONNABORTED, "fuse_session_receive_buf failed")

    monkeypatch.setattr(pyfuse3, "main", main)
    notifier = SessionNotifier()
    operations, options = FakeOperations(notifier), SessionOptions("nothing")
    service = Service(operations, "/nowhere", options, notifier, lambda: None, trio.Event())
    await session._answer(FuseAdapter(operations, 0, 0), service)
