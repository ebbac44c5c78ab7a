"""Listings without open directories: each reader goes on where it was, whatever others do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import NotFound
from orasfs.fuse.device import wire
from orasfs.fuse.device.handlers import Answer
from orasfs.fuse.device.listings import KEPT, Listings
from orasfs.fuse.device.replies import Encoder
from orasfs.fuse.device.requests import List
from orasfs.vfs.operations import Attr, DirectoryEntry, Entry, Fh, Ino, MemberRow
from tests.fakes.operations import FakeOperations

CHANGING, STAYING, MEMBERS = Ino(50), Ino(51), Ino(52)
NAMES = [f"name{number}" for number in range(9)]
DOTS = [".", ".."]
ROOM = 2 * 320  # bytes: of four entries or so with attributes, ten or so without


@dataclass(slots=True)
class _Open:
    ino: Ino
    names: list[str]
    keeps: bool


class Directories(FakeOperations):
    """Three directories: of names that may change, of names that stay, of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.names = {CHANGING: list(NAMES), STAYING: list(NAMES), MEMBERS: list(NAMES)}
        self.opened: dict[Fh, _Open] = {}
        self.waits = False
        self.opens_at_once = True
        self.fails: Exception | None = None
        self.gate = trio.Event()

    def opendir_now(self, ino: Ino) -> Fh | None:
        return self._open(ino) if self.opens_at_once else None

    async def opendir(self, ino: Ino) -> Fh:
        await trio.lowlevel.checkpoint()
        return self._open(ino)

    def _open(self, ino: Ino) -> Fh:
        fh = Fh(next(self._numbers))
        self.opened[fh] = _Open(ino, list(self.names[ino]), ino != CHANGING)
        return fh

    def keeps_names(self, fh: Fh) -> bool:
        return self.opened[fh].keeps

    def readdir_now(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry] | None:
        return None if self.waits else self._entries(fh, start_id)

    async def readdir(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry]:
        await self.gate.wait()
        return self._entries(fh, start_id)

    def _entries(self, fh: Fh, start_id: int) -> Sequence[DirectoryEntry]:
        if self.fails:
            raise self.fails
        rows = list(self._rows(self.opened[fh], start_id))
        return [
            DirectoryEntry(name.decode(), Entry(Attr(ino, mode, size, mtime), 1.0, 1.0), at + 1)
            for at, (name, ino, mode, size, mtime, _) in enumerate(rows, start_id)
        ]

    @staticmethod
    def _rows(opened: _Open, start: int) -> Iterator[MemberRow]:
        for place, name in enumerate(opened.names[start:], start):
            yield name.encode(), Ino(100 + place), 0o100644, 0, 0, 1

    def list_members(
        self, fh: Fh, start_id: int, consume: Callable[[Iterator[MemberRow]], Sequence[Ino]]
    ) -> bool:
        opened = self.opened[fh]
        if opened.ino != MEMBERS:
            return False
        for ino in consume(self._rows(opened, start_id)):
            self.count_lookup(ino)
        return True

    def releasedir(self, fh: Fh) -> None:
        del self.opened[fh]


@dataclass(slots=True)
class Reader:
    """Someone in the kernel who reads a directory."""

    listings: Listings
    ino: Ino
    is_plus: bool = False
    size: int = ROOM
    position: int = 0
    names: list[str] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)  # the position behind each name

    def request(self) -> List:
        return List(self.ino, self.position, self.size, is_plus=self.is_plus)

    async def step(self) -> bool:
        """Ask once, as the transport does; tell whether there was anything."""
        request = self.request()
        return self.take(self.listings.list_now(request) or await self.listings.list(request))

    def take(self, answer: Answer) -> bool:
        body = answer.body
        assert len(body) <= self.size
        head = wire.ENTRY_OUT.size + wire.ATTR.size if self.is_plus else 0
        while body:
            _, self.position, length, _ = wire.DIRENT.unpack_from(body, head)
            start = head + wire.DIRENT.size
            name = body[start : start + length].decode()
            self.names.append(name)
            self.at[name] = self.position
            body = body[start + (length + 7 & ~7) :]
        return bool(answer.body)

    async def read(self) -> list[str]:
        """Read to the end; return all that was read."""
        while await self.step():
            pass
        return self.names


class World:
    """Directories, who answers for them, and what the kernel was told to drop."""

    def __init__(self) -> None:
        self.directories = Directories()
        self.dropped: list[Ino] = []
        self.listings = Listings(self.directories, Encoder(0, 0), self.dropped.append)

    def reader(self, ino: Ino, *, is_plus: bool = False, size: int = ROOM) -> Reader:
        return Reader(self.listings, ino, is_plus, size)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize("ino", [CHANGING, STAYING, MEMBERS])
async def test_all_names_are_read_with_dots_and_nothing_stays_open(
    world: World, ino: Ino, *, is_plus: bool
) -> None:
    assert await world.reader(ino, is_plus=is_plus).read() == DOTS + NAMES
    assert not world.directories.opened
    expected = {Ino(100 + place): 1 for place in range(9)} if is_plus else {}
    assert world.directories.lookups == expected


@given(sizes=st.lists(st.integers(330, 900), min_size=1), is_plus=st.booleans())
def test_answers_of_any_size_make_the_same_listing(*, sizes: list[int], is_plus: bool) -> None:
    async def read() -> None:
        for ino in (CHANGING, STAYING, MEMBERS):
            world = World()
            reader = world.reader(ino, is_plus=is_plus)
            for size in sizes:
                reader.size = size
                await reader.step()
            assert await reader.read() == DOTS + NAMES

    trio.run(read)


async def test_the_kernel_drops_names_that_may_change_before_it_knows_of_the_end(
    world: World,
) -> None:
    reader = world.reader(CHANGING)
    while reader.names != DOTS + NAMES:
        assert await reader.step()
        assert not world.dropped
    assert not await reader.step()
    assert world.dropped == [CHANGING]


@pytest.mark.parametrize("ino", [STAYING, MEMBERS])
async def test_the_kernel_keeps_names_that_stay(world: World, ino: Ino) -> None:
    await world.reader(ino).read()
    assert not world.dropped


async def test_an_empty_directory_is_not_taken_for_empty_for_ever(world: World) -> None:
    world.directories.names[CHANGING] = []
    assert await world.reader(CHANGING).read() == DOTS
    world.directories.names[CHANGING] = ["new"]
    assert await world.reader(CHANGING).read() == [*DOTS, "new"]
    assert world.dropped == [CHANGING, CHANGING]


async def test_each_reader_sees_the_names_that_were_there_when_it_began(world: World) -> None:
    first, second = world.reader(CHANGING, is_plus=True), world.reader(CHANGING, is_plus=True)
    assert await first.step()
    world.directories.names[CHANGING] = ["another"]
    assert await second.step()
    assert await first.read() == DOTS + NAMES
    assert await second.read() == [*DOTS, "another"]
    assert not world.directories.opened


async def test_a_reader_goes_back_to_a_place_that_it_has_seen(world: World) -> None:
    for ino in (CHANGING, STAYING, MEMBERS):
        reader = world.reader(ino)
        await reader.read()
        for name, after in (("..", NAMES), ("name3", NAMES[4:]), ("name8", [])):
            reader.position, reader.names = reader.at[name], []
            assert await reader.read() == after
        reader.position, reader.names = reader.at["."], []
        assert await reader.read() == ["..", *NAMES]
        assert not world.directories.opened


@pytest.mark.parametrize("ino", [CHANGING, STAYING])
async def test_listings_that_nobody_ends_are_bounded_and_go_on_where_they_were(
    world: World, ino: Ino
) -> None:
    readers = [world.reader(ino, is_plus=True) for _ in range(KEPT + 5)]
    for reader in readers:
        assert await reader.step()
        assert len(world.directories.opened) <= KEPT
    for reader in readers:
        assert await reader.read() == DOTS + NAMES


async def test_who_begins_a_listing_of_what_stays_does_not_go_on_in_an_old_one(
    world: World,
) -> None:
    """It may have become something else: an artifact that is edited keeps its inode."""
    old = world.reader(STAYING, is_plus=True)
    assert await old.step()
    world.directories.names[STAYING] = ["edited"]
    assert await world.reader(STAYING).read() == [*DOTS, "edited"]


@pytest.mark.parametrize("opens_at_once", [True, False])
async def test_who_must_wait_has_one_listing_open(world: World, *, opens_at_once: bool) -> None:
    world.directories.waits, world.directories.opens_at_once = True, opens_at_once
    reader = world.reader(CHANGING, is_plus=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.read)
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.directories.opened) == 1
        world.directories.gate.set()
    assert reader.names == DOTS + NAMES
    assert not world.directories.opened


@pytest.mark.parametrize("steps", [0, 1])
async def test_who_stops_waiting_leaves_nothing_open(world: World, steps: int) -> None:
    reader = world.reader(CHANGING, is_plus=True)
    for _ in range(steps):
        assert await reader.step()
    world.directories.waits = True
    with trio.move_on_after(0):
        await reader.step()
    assert not world.directories.opened


@pytest.mark.parametrize("waits", [True, False])
async def test_a_failure_leaves_nothing_open_and_the_next_begins_anew(
    world: World, *, waits: bool
) -> None:
    world.directories.waits = waits
    world.directories.gate.set()
    world.directories.fails = NotFound("gone")
    with pytest.raises(NotFound):
        await world.reader(STAYING).step()
    assert not world.directories.opened
    world.directories.fails = None
    assert await world.reader(STAYING).read() == DOTS + NAMES


async def test_one_of_two_in_the_same_listing_goes_away_and_the_other_gets_its_answer(
    world: World,
) -> None:
    first = world.reader(STAYING, is_plus=True)
    assert await first.step()
    second = world.reader(STAYING, is_plus=True)
    second.position, second.names = first.position, list(first.names)
    world.directories.waits = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.read)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await second.read()
        world.directories.gate.set()
    assert first.names == DOTS + NAMES
    assert await second.read() == DOTS + NAMES
    assert not world.directories.opened


async def test_a_listing_that_is_begun_while_another_is_waited_for_takes_nothing_from_it(
    world: World,
) -> None:
    first = world.reader(STAYING, is_plus=True)
    assert await first.step()
    world.directories.waits = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.read)
        await trio.testing.wait_all_tasks_blocked()
        world.directories.waits = False
        second = world.reader(STAYING)
        assert await second.read() == DOTS + NAMES
        world.directories.gate.set()
    assert first.names == DOTS + NAMES
    assert not world.directories.opened


async def test_references_are_taken_back_of_an_answer_that_nobody_takes(world: World) -> None:
    for ino in (CHANGING, MEMBERS):
        answer = world.listings.list_now(world.reader(ino, is_plus=True).request())
        assert answer is not None
        assert answer.take_back is not None
        assert sum(world.directories.lookups.values())
        answer.take_back()
        assert not sum(world.directories.lookups.values())
