"""The tree of a draft against a real directory, and what happens to those who hold its files."""

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orasfs.errors import InvalidName, LocalFailure
from orasfs.staging.changes import AttrChanges
from orasfs.staging.identity import Identity
from orasfs.staging.localdisk import RENAME_EXCHANGE, RENAME_NOREPLACE
from orasfs.staging.workspace import OWN_PREFIX, Workspace

NAMES = st.sampled_from(["a", "b", "c\udce9"])
PATHS = st.lists(NAMES, min_size=1, max_size=3)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def make(workspace: Workspace, name: str, content: bytes = b"") -> Identity:
    opened = workspace.make_file(workspace.top, name, 0o644, os.O_WRONLY)
    opened.write_now(0, content)
    opened.close()
    return opened.identity


def test_modes_are_exactly_those_asked_for(workspace: Workspace, tmp_path: Path) -> None:
    workspace.make_file(workspace.top, "f", 0o466, os.O_WRONLY).close()
    workspace.make_directory(workspace.top, "d", 0o777)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o466
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o777


def test_hard_links_are_one_identity(workspace: Workspace) -> None:
    one = make(workspace, "one")
    workspace.link(one, workspace.top, "two")
    assert workspace.find(workspace.top, "two") is one
    workspace.unlink(workspace.top, "one")
    assert workspace.path(one).endswith("/two")


def test_a_file_whose_only_known_name_is_removed_tells_what_was_known(
    workspace: Workspace, tmp_path: Path
) -> None:
    one = make(workspace, "one", b"content")
    (tmp_path / "two").hardlink_to(tmp_path / "one")  # by nobody who asked us
    workspace.unlink(workspace.top, "one")
    assert one.is_removed
    assert workspace.status(one).st_size == len(b"content")


def test_a_rename_keeps_the_identity_and_those_below(workspace: Workspace) -> None:
    directory = workspace.make_directory(workspace.top, "d", 0o755)
    below = workspace.make_directory(directory, "below", 0o755)
    workspace.rename((workspace.top, "d"), (workspace.top, "e"))
    assert workspace.find(workspace.top, "e") is directory
    assert workspace.path(below).endswith("/e/below")


def test_an_exchange_swaps_two_identities(workspace: Workspace) -> None:
    one, two = make(workspace, "one"), make(workspace, "two")
    workspace.rename((workspace.top, "one"), (workspace.top, "two"), RENAME_EXCHANGE)
    assert workspace.find(workspace.top, "one") is two
    assert workspace.find(workspace.top, "two") is one


def test_a_rename_that_may_not_replace_fails(workspace: Workspace) -> None:
    make(workspace, "one")
    make(workspace, "two")
    with pytest.raises(LocalFailure) as caught:
        workspace.rename((workspace.top, "one"), (workspace.top, "two"), RENAME_NOREPLACE)
    assert caught.value.number == errno.EEXIST


def test_a_removed_file_works_for_who_has_it_open(workspace: Workspace) -> None:
    make(workspace, "f", b"content")
    found = workspace.find(workspace.top, "f")
    assert found is not None
    opened = workspace.open(found, os.O_RDWR)
    workspace.unlink(workspace.top, "f")
    opened.write_now(7, b" more")
    workspace.change(found, AttrChanges(mode=0o600))
    again = workspace.open(found, os.O_RDONLY)
    assert again.read_now(0, 100) == b"content more"
    status = workspace.status(found)
    assert (status.st_nlink, status.st_size, stat.S_IMODE(status.st_mode)) == (0, 12, 0o600)
    again.close()
    opened.close()
    with pytest.raises(LocalFailure):
        workspace.path(found)


def test_an_inode_number_used_again_is_another_identity(workspace: Workspace) -> None:
    old = make(workspace, "f")
    workspace.unlink(workspace.top, "f")
    new = make(workspace, "f")
    assert new is not old
    assert (new.number, new.serial) != (old.number, old.serial)


def test_replacing_a_file_by_a_rename_removes_the_old_one(workspace: Workspace) -> None:
    old, new = make(workspace, "old"), make(workspace, "new")
    workspace.rename((workspace.top, "new"), (workspace.top, "old"))
    assert old.is_removed
    assert workspace.find(workspace.top, "old") is new


def test_no_symlink_is_followed(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path.with_name("outside")
    outside.write_bytes(b"secret")
    link = workspace.make_symlink(workspace.top, "link", str(outside))
    for attempt in (
        lambda: workspace.open(link, os.O_RDWR),
        lambda: workspace.change(link, AttrChanges(size=0)),
        lambda: workspace.change(link, AttrChanges(mode=0o777)),
    ):
        with pytest.raises(LocalFailure):
            attempt()
    workspace.change(link, AttrChanges(mtime_ns=5))
    assert workspace.status(link).st_mtime_ns == 5
    assert outside.read_bytes() == b"secret"
    assert outside.stat().st_mtime_ns != 5


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0"])
def test_a_name_that_leads_elsewhere_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(InvalidName):
        workspace.find(workspace.top, name)


def test_our_own_attributes_are_not_shown(workspace: Workspace) -> None:
    file = make(workspace, "f")
    workspace.set_attribute(file, f"{OWN_PREFIX}x", b"1")
    workspace.set_attribute(file, "user.mine", b"2")
    assert workspace.attributes(file) == ["user.mine"]
    assert workspace.attribute(file, "user.mine") == b"2"
    assert workspace.attribute(file, "user.none") is None


class TreeOperations(RuleBasedStateMachine):
    """The same operations on a workspace and on a plain directory: the same errnos and trees."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.real = self.base / "real"
        staged = self.base / "staged"
        self.real.mkdir()
        staged.mkdir()
        self.workspace = Workspace(staged)
        self.staged = staged
        self.held: dict[tuple[str, ...], Identity] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    def _walk(self, path: list[str]) -> Identity:
        here = self.workspace.top
        for name in path:
            found = self.workspace.find(here, name) if here.is_directory else None
            if found is None:
                # A plain path would follow a link, which leads nowhere here.
                is_file = stat.S_ISREG(here.kind)
                number = errno.ENOTDIR if is_file else errno.ENOENT
                raise LocalFailure("walk", number)
            here = found
        return here

    def _same(self, real: object, staged: object, *, paths: int = 1) -> None:
        """Run both; they succeed or fail alike. Of two paths either may be the one that fails."""
        numbers: list[int] = []
        for action in (real, staged):
            assert callable(action)
            try:
                action()
            except OSError as error:
                numbers.append(error.errno or -1)
            except LocalFailure as error:
                numbers.append(error.number)
            else:
                numbers.append(0)
        if paths == 2:
            numbers = [bool(number) for number in numbers]
        assert numbers[0] == numbers[1], [errno.errorcode.get(n, n) for n in numbers]

    @rule(path=PATHS)
    def mkdir(self, path: list[str]) -> None:
        self._same(
            lambda: (self.real.joinpath(*path)).mkdir(),
            lambda: self.workspace.make_directory(self._walk(path[:-1]), path[-1], 0o755),
        )

    @rule(path=PATHS, content=st.binary(max_size=20))
    def create(self, path: list[str], content: bytes) -> None:
        def real() -> None:
            with self.real.joinpath(*path).open("xb") as file:
                file.write(content)

        def staged() -> None:
            parent = self._walk(path[:-1])
            opened = self.workspace.make_file(parent, path[-1], 0o644, os.O_RDWR)
            opened.write_now(0, content)
            opened.close()

        self._same(real, staged)

    @rule(path=PATHS, leads=NAMES)
    def symlink(self, path: list[str], leads: str) -> None:
        self._same(
            lambda: self.real.joinpath(*path).symlink_to(f"/nowhere/{leads}"),
            lambda: self.workspace.make_symlink(
                self._walk(path[:-1]), path[-1], f"/nowhere/{leads}"
            ),
        )

    @rule(old=PATHS, new=PATHS)
    def link(self, old: list[str], new: list[str]) -> None:
        self._same(
            lambda: os.link(
                self.real.joinpath(*old), self.real.joinpath(*new), follow_symlinks=False
            ),
            lambda: self.workspace.link(self._walk(old), self._walk(new[:-1]), new[-1]),
            paths=2,
        )

    @rule(path=PATHS)
    def unlink(self, path: list[str]) -> None:
        self._same(
            lambda: self.real.joinpath(*path).unlink(),
            lambda: self.workspace.unlink(self._walk(path[:-1]), path[-1]),
        )

    @rule(path=PATHS)
    def rmdir(self, path: list[str]) -> None:
        self._same(
            lambda: self.real.joinpath(*path).rmdir(),
            lambda: self.workspace.remove_directory(self._walk(path[:-1]), path[-1]),
        )

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: list[str], new: list[str]) -> None:
        self._same(
            lambda: self.real.joinpath(*old).rename(self.real.joinpath(*new)),
            lambda: self.workspace.rename(
                (self._walk(old[:-1]), old[-1]), (self._walk(new[:-1]), new[-1])
            ),
            paths=2,
        )

    @rule(path=PATHS)
    def hold(self, path: list[str]) -> None:
        try:
            self.held[tuple(path)] = self._walk(path)
        except LocalFailure:
            return

    @invariant()
    def trees_are_equal(self) -> None:
        assert _tree(self.real) == _tree(self.staged)

    @invariant()
    def who_is_held_has_the_right_path(self) -> None:
        for identity in self.held.values():
            if identity.parts() is not None:
                assert os.lstat(self.workspace.path(identity)).st_ino == identity.number


def _tree(top: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        found[str(path.relative_to(top))] = (status.st_mode, links, content)
    return found


TestTreeOperations = TreeOperations.TestCase
TestTreeOperations.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
