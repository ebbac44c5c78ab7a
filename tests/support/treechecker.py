"""Random tree operations on two directories that should stay equal: a hypothesis state machine.

Each operation is done in both, with the same outcome: done, or the same errno.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

_NAMES = st.sampled_from(["a", "b", "c", "d"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_CONTENT = st.binary(max_size=5000)
# A user who is not root could not look into a directory that he may not enter.
_MODES = st.sampled_from([0o700, 0o755, 0o711] if os.getuid() else [0o600, 0o644, 0o700, 0o755])


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    """Return what is below a directory; of hard links, how many names they have."""
    found: dict[str, tuple[object, ...]] = {}
    for path in top.rglob("*"):
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = (path.read_bytes(), status.st_size, status.st_nlink)
        elif stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        found[str(path.relative_to(top))] = (status.st_mode, content)
    return found


class TreeMachine(RuleBasedStateMachine):
    """Two directories that begin equal; the first is the one under test."""

    def __init__(self, one: Path, two: Path, end: Callable[[], None]) -> None:
        super().__init__()
        self._tops = (one, two)
        self._end = end

    def _both(self, work: Callable[[Path], object]) -> None:
        outcomes: list[object] = []
        for top in self._tops:
            try:
                outcomes.append(work(top))
            except OSError as error:
                outcomes.append(os.strerror(error.errno or 0))
        assert outcomes[0] == outcomes[1]

    @rule(path=_PATHS, mode=_MODES)
    def make_directory(self, path: str, mode: int) -> None:
        self._both(lambda top: (top / path).mkdir(mode))

    @rule(path=_PATHS)
    def remove_directory(self, path: str) -> None:
        self._both(lambda top: (top / path).rmdir())

    @rule(path=_PATHS, content=_CONTENT)
    def replace_content(self, path: str, content: bytes) -> None:
        self._both(lambda top: (top / path).write_bytes(content))

    @rule(path=_PATHS, content=_CONTENT, offset=st.integers(0, 10_000))
    def overwrite(self, path: str, content: bytes, offset: int) -> None:
        def work(top: Path) -> None:
            with (top / path).open("r+b") as file:
                file.seek(offset)
                file.write(content)

        self._both(work)

    @rule(path=_PATHS, content=_CONTENT)
    def append(self, path: str, content: bytes) -> None:
        def work(top: Path) -> None:
            with (top / path).open("ab") as file:
                file.write(content)

        self._both(work)

    @rule(path=_PATHS, size=st.integers(0, 10_000))
    def truncate(self, path: str, size: int) -> None:
        self._both(lambda top: os.truncate(top / path, size))

    @rule(path=_PATHS)
    def unlink(self, path: str) -> None:
        self._both(lambda top: (top / path).unlink())

    @rule(old=_PATHS, new=_PATHS)
    def rename(self, old: str, new: str) -> None:
        self._both(lambda top: os.rename(top / old, top / new))  # noqa: PTH104 - returns nothing

    @rule(old=_PATHS, new=_PATHS)
    def link(self, old: str, new: str) -> None:
        self._both(lambda top: os.link(top / old, top / new, follow_symlinks=False))

    @rule(path=_PATHS, leads_to=_PATHS)
    def symlink(self, path: str, leads_to: str) -> None:
        self._both(lambda top: (top / path).symlink_to(leads_to))

    @rule(path=_PATHS, mode=_MODES)
    def change_mode(self, path: str, mode: int) -> None:
        self._both(lambda top: (top / path).chmod(mode))

    @rule(path=_PATHS, seconds=st.integers(0, 2**31))
    def change_times(self, path: str, seconds: int) -> None:
        def work(top: Path) -> int:
            os.utime(top / path, ns=(seconds * 10**9, seconds * 10**9 + 1))
            return (top / path).stat().st_mtime_ns

        self._both(work)

    @rule(path=_PATHS)
    def list_names(self, path: str) -> None:
        self._both(lambda top: sorted(each.name for each in (top / path).iterdir()))

    @rule(path=_PATHS, new=_PATHS, content=_CONTENT)
    def rename_while_open(self, path: str, new: str, content: bytes) -> None:
        def work(top: Path) -> bytes:
            with (top / path).open("r+b") as file:
                (top / path).rename(top / new)
                file.write(content)
                file.seek(0)
                return file.read()

        self._both(work)

    @invariant()
    def trees_are_equal(self) -> None:
        assert facts(self._tops[0]) == facts(self._tops[1])

    def teardown(self) -> None:
        self._end()
