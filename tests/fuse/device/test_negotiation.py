"""What is agreed on is what both sides can do."""

import pytest

from orasfs.errors import MountFailed
from orasfs.fuse.device import parsing, wire
from orasfs.fuse.device.negotiation import Agreement, negotiate
from orasfs.fuse.device.wire import Init
from tests.support.fusemessages import init


def agree(message: memoryview, *, wants_passthrough: bool = True) -> Agreement:
    request = parsing.parse_init(*parsing.split(message))
    return negotiate(request, wants_passthrough=wants_passthrough)


def fields_of(agreement: Agreement) -> tuple[int, ...]:
    return wire.INIT_OUT.unpack(agreement.reply)


def flags_of(agreement: Agreement) -> Init:
    fields = fields_of(agreement)
    return Init(fields[3] | fields[10] << 32)


def test_a_kernel_that_can_do_everything_is_asked_for_what_is_used() -> None:
    agreement = agree(init())
    flags = flags_of(agreement)
    assert Init.PASSTHROUGH | Init.PARALLEL_DIROPS | Init.CACHE_SYMLINKS in flags
    assert Init(1 << 16) not in flags  # no write-back cache, which excludes passing through
    fields = fields_of(agreement)
    assert (fields[0], fields[1], fields[6], fields[8]) == (7, 45, 1 << 20, 256)
    assert fields[11] == 1  # the depth of stacking, without which nothing is passed through
    assert agreement.may_pass_through


def test_nothing_is_answered_that_the_kernel_did_not_offer() -> None:
    agreement = agree(init(Init.ASYNC_READ | Init.INIT_EXT, 0))
    assert flags_of(agreement) == Init.ASYNC_READ | Init.INIT_EXT
    assert not agreement.may_pass_through
    assert fields_of(agreement)[11] == 0


def test_whoever_may_not_pass_through_does_not_ask_for_it() -> None:
    agreement = agree(init(), wants_passthrough=False)
    assert Init.PASSTHROUGH not in flags_of(agreement)
    assert not agreement.may_pass_through


def test_a_newer_kernel_is_answered_in_our_version() -> None:
    assert agree(init(minor=99)).minor == wire.MINOR
    assert agree(init(minor=40)).minor == 40


@pytest.mark.parametrize(("major", "minor"), [(7, 30), (6, 40), (8, 0)])
def test_a_kernel_that_is_too_old_is_told_about_the_other_transport(
    major: int, minor: int
) -> None:
    with pytest.raises(MountFailed, match="transport=pyfuse3"):
        agree(init(major=major, minor=minor))
