"""Files that are written from their beginning to their end: what is in them, and their holes."""

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orasfs.store.files import disk
from orasfs.store.files.holes import HoleyFile

BLOCK = 4096
_RUNS = st.tuples(st.sampled_from([b"\0", b"\0", b"a", b"\0b"]), st.integers(0, 3 * BLOCK))
_CONTENTS = st.lists(_RUNS.map(lambda run: (run[0] * run[1])[: run[1]]), max_size=6).map(b"".join)


def written(
    path: Path, content: bytes, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, int]]:
    """Append a content in steps, of which the last is repeated; return what was written where."""
    places: list[tuple[int, int]] = []
    write = disk.write_fully

    def note(fd: int, part: memoryview, offset: int) -> None:
        if part:
            places.append((offset, offset + len(part)))
        write(fd, part, offset)

    monkeypatch.setattr(disk, "write_fully", note)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    file, done = HoleyFile(fd), 0
    while done < len(content):
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        file.append(memoryview(content)[done : done + step])
        done += step
    assert file.size == os.fstat(fd).st_size == len(content)
    os.close(fd)
    monkeypatch.undo()
    return places


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=_CONTENTS, steps=st.lists(st.integers(700, 3 * BLOCK), min_size=1, max_size=4))
def test_blocks_of_zeros_are_left_out_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, steps: list[int]
) -> None:
    cuts = {0, len(content)}
    done = 0
    for step in [*steps, *[steps[-1]] * (len(content) // steps[-1] + 1)]:
        done += step
        cuts |= {done} if done < len(content) else set()
    cuts |= set(range(0, len(content), BLOCK))
    places = written(tmp_path / "file", content, steps, monkeypatch)
    assert (tmp_path / "file").read_bytes() == content
    blocks = sorted(cuts)
    for start, stop in itertools.pairwise(blocks):
        is_written = any(begin <= start and stop <= end for begin, end in places)
        assert is_written == any(content[start:stop]), (start, stop)


def test_what_has_no_zeros_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a\0" * BLOCK * 8
    assert written(tmp_path / "file", content, [len(content)], monkeypatch) == [(0, len(content))]
