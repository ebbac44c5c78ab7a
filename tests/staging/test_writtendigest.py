"""Digests that come from writing: right whenever they are given out, whatever was done."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orasfs.errors import Aborted
from orasfs.staging import writtendigest
from orasfs.staging.changes import AttrChanges
from orasfs.staging.identity import Identity
from orasfs.staging.workspace import Workspace
from orasfs.staging.writtendigest import FOLLOWED_BYTES
from tests.support.content import never

PIECE = FOLLOWED_BYTES // 4
NUMBER_OF_PIECES = 6


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def write(workspace: Workspace, name: str, pieces: int = NUMBER_OF_PIECES) -> Identity:
    opened = workspace.make_file(workspace.top, name, 0o644, os.O_WRONLY)
    for number in range(pieces):
        opened.write_now(number * PIECE, bytes([number]) * PIECE)
    opened.close()
    return opened.identity


def known(workspace: Workspace, name: str) -> str | None:
    path = Path(workspace.path(workspace.top)) / name
    return workspace.digests.find(path.stat())


def actual(workspace: Workspace, name: str) -> str:
    return hashlib.sha256((Path(workspace.path(workspace.top)) / name).read_bytes()).hexdigest()


def test_a_file_written_from_beginning_to_end_is_known(workspace: Workspace) -> None:
    write(workspace, "f")
    assert known(workspace, "f") == actual(workspace, "f")


def test_small_files_are_not_followed(workspace: Workspace) -> None:
    write(workspace, "f", pieces=3)
    assert known(workspace, "f") is None
    assert repr(workspace.digests) == "<WrittenDigests of 0 files>"


def test_names_times_and_modes_that_are_set_later_change_nothing(workspace: Workspace) -> None:
    made = write(workspace, "f")
    workspace.change(made, AttrChanges(mode=0o600, mtime_ns=1_000_000_007))
    workspace.rename((workspace.top, "f"), (workspace.top, "g"))
    assert known(workspace, "g") == actual(workspace, "g")


def test_what_is_appended_later_counts(workspace: Workspace) -> None:
    made = write(workspace, "f")
    opened = workspace.open(made, os.O_WRONLY)
    opened.write_now(NUMBER_OF_PIECES * PIECE, b"more")
    opened.close()
    assert known(workspace, "f") == actual(workspace, "f")


def test_writing_in_the_middle_forgets(workspace: Workspace) -> None:
    made = write(workspace, "f")
    opened = workspace.open(made, os.O_WRONLY)
    opened.write_now(PIECE, b"other")
    opened.close()
    assert known(workspace, "f") is None


def test_cutting_off_and_filling_up_with_zeros_forgets(workspace: Workspace) -> None:
    made = write(workspace, "f")
    for size in (PIECE, NUMBER_OF_PIECES * PIECE):
        workspace.change(made, AttrChanges(size=size))
    assert known(workspace, "f") is None


def test_opening_anew_and_writing_behind_a_hole_forgets(workspace: Workspace) -> None:
    made = write(workspace, "f")
    opened = workspace.open(made, os.O_WRONLY | os.O_TRUNC)
    opened.write_now(NUMBER_OF_PIECES * PIECE - 1, b"x")
    opened.close()
    assert known(workspace, "f") is None


def test_somebody_else_having_written_is_noticed(workspace: Workspace, tmp_path: Path) -> None:
    write(workspace, "f")
    with (tmp_path / "f").open("r+b") as file:
        file.write(b"somebody else")
    assert known(workspace, "f") is None


def test_removed_and_replaced_files_are_forgotten(workspace: Workspace) -> None:
    for name in "abc":
        write(workspace, name)
    workspace.rename((workspace.top, "a"), (workspace.top, "b"))
    workspace.unlink(workspace.top, "c")
    assert known(workspace, "b") == actual(workspace, "b")
    assert repr(workspace.digests) == "<WrittenDigests of 1 files>"


def test_no_more_files_are_followed_at_a_time_than_there_may_be_threads(
    workspace: Workspace,
) -> None:
    names = [f"f{number}" for number in range(writtendigest.MAX_THREADS + 1)]
    opened = [workspace.make_file(workspace.top, name, 0o644, os.O_WRONLY) for name in names]
    for each in opened:
        for number in range(NUMBER_OF_PIECES):
            each.write_now(number * PIECE, bytes(PIECE))
    for each in opened:
        each.close()
    found = [known(workspace, name) for name in names]
    assert found[:-1] == [actual(workspace, names[0])] * writtendigest.MAX_THREADS
    assert found[-1] is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 6), st.integers(1, 4)),
        st.tuples(st.just("append"), st.just(0), st.integers(1, 4)),
        st.tuples(st.just("truncate"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("reopen"), st.integers(0, 1), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_a_digest_that_is_given_out_is_right(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writtendigest, "FOLLOWED_BYTES", 2)
        workspace = Workspace(Path(root))
        opened = workspace.make_file(workspace.top, "f", 0o644, os.O_RDWR)
        for number, (what, where, size) in enumerate([*steps, ("append", 0, 3)]):
            content = bytes([number + 1]) * size
            if what == "write":
                opened.write_now(where, content)
            elif what == "append":
                opened.write_now(opened.size, content)
            elif what == "truncate":
                workspace.change(opened.identity, AttrChanges(size=where), opened)
            else:
                opened.close()
                identity = workspace.find(workspace.top, "f")
                assert identity is not None
                opened = workspace.open(identity, os.O_RDWR | (os.O_TRUNC if where else 0))
        opened.close()
        assert known(workspace, "f") in (None, actual(workspace, "f"))


def test_body_that_is_under_way_gets_each_piece_and_ends_with_the_file(
    workspace: Workspace,
) -> None:
    opened = workspace.make_file(workspace.top, "f", 0o644, os.O_WRONLY)
    opened.write_now(0, bytes(PIECE))
    following = workspace.digests.following(opened.identity.number)
    assert following is not None
    sent = following.flow(0, never)
    for number in range(1, NUMBER_OF_PIECES):
        opened.write_now(number * PIECE, bytes([number]) * PIECE)
        sent = following.flow(sent, never)
        assert sent == (number + 1) * PIECE
    opened.close()
    assert following.flow(sent, never) == sent
    assert following.digest_now() == actual(workspace, "f")


def test_body_under_way_ends_when_the_writer_pauses_and_a_request_waits_longer(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writtendigest, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(writtendigest, "PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(writtendigest, "IDLE_SECONDS", 0.004)
    opened = workspace.make_file(workspace.top, "f", 0o644, os.O_WRONLY)
    opened.write_now(0, bytes(FOLLOWED_BYTES))
    following = workspace.digests.following(opened.identity.number)
    assert following is not None
    assert following.flow(FOLLOWED_BYTES, never) == FOLLOWED_BYTES
    assert following.digest_now() is None
    with pytest.raises(Aborted):
        following.wait(FOLLOWED_BYTES, never)
    opened.close()


def test_body_under_way_ends_when_the_file_is_rewritten(workspace: Workspace) -> None:
    opened = workspace.make_file(workspace.top, "f", 0o644, os.O_WRONLY)
    opened.write_now(0, bytes(FOLLOWED_BYTES))
    following = workspace.digests.following(opened.identity.number)
    assert following is not None
    opened.write_now(0, b"another")
    with pytest.raises(Aborted):
        following.flow(FOLLOWED_BYTES, never)
    opened.close()
