"""Only signals that are to end a thread end what it waits for."""

import signal
from pathlib import Path

import pytest

from orasfs.fuse.device.signals import is_told_to_end, wants_to_end


def status(*, own: int = 0, shared: int = 0, blocked: int = 0, ignored: int = 0) -> str:
    def mask(number: int) -> str:
        return f"{1 << (number - 1) if number else 0:016x}"

    return (
        f"Name:\tcat\nSigPnd:\t{mask(own)}\nShdPnd:\t{mask(shared)}\n"
        f"SigBlk:\t{mask(blocked)}\nSigIgn:\t{mask(ignored)}\nSigCgt:\t0000000000000000\n"
    )


@pytest.mark.parametrize("number", [1, 2, 3, 9, 15])
def test_a_pending_signal_to_end_is_one_whoever_it_was_sent_to(number: int) -> None:
    assert is_told_to_end(status(own=number))
    assert is_told_to_end(status(shared=number))


@pytest.mark.parametrize(
    "number", [signal.SIGALRM, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGPROF]
)
def test_other_signals_only_disturb(number: int) -> None:
    assert not is_told_to_end(status(own=number))


def test_signals_that_are_blocked_or_ignored_end_nothing() -> None:
    assert not is_told_to_end(status(shared=2, blocked=2))
    assert not is_told_to_end(status(shared=2, ignored=2))


def test_without_signals_nothing_ends() -> None:
    assert not is_told_to_end(status())


def test_a_thread_that_is_gone_wants_no_answer(tmp_path: Path) -> None:
    assert wants_to_end(12345, tmp_path)
    (tmp_path / "12345").mkdir()
    (tmp_path / "12345/status").write_text(status())
    assert not wants_to_end(12345, tmp_path)
