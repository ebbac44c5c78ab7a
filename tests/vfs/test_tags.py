import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from orasfs.errors import ConnectionRefused, Forbidden
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.vfs import tags as module
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.tags import Tags

ExpectLog = Callable[[int, str], None]


def descriptor(text: str) -> Descriptor:
    return Descriptor("a/b", Digest.of(text.encode()), len(text))


class SlowResolver:
    """Answers after so many seconds what it knew when it was asked."""

    def __init__(self) -> None:
        self.answer: Descriptor | Exception = descriptor("one")
        self.delay_seconds = 0.0
        self.asked = 0

    async def resolve(self, reference: str) -> Descriptor:
        self.asked += 1
        answer = self.answer
        await trio.sleep(self.delay_seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer


def tags_of(resolver: SlowResolver, *, pin: bool = False) -> Tags:
    return Tags(resolver, FilesystemOptions(pin=pin), trio.current_time, "localhost/a")


async def test_an_age_counts_from_before_the_request(autojump_clock: MockClock) -> None:
    resolver = SlowResolver()
    resolver.delay_seconds = 12.0
    resolution = await tags_of(resolver).resolve("v1")
    assert resolution is not None
    assert resolution.seconds == pytest.approx(18.0)


async def test_an_answer_slower_than_its_time_to_live_is_still_an_answer(
    autojump_clock: MockClock,
) -> None:
    resolver = SlowResolver()
    resolver.delay_seconds = 60.0
    resolution = await tags_of(resolver).resolve("v1")
    assert resolution is not None
    assert 0 < resolution.seconds < 1


async def test_a_late_answer_does_not_replace_a_newer_one(autojump_clock: MockClock) -> None:
    resolver = SlowResolver()
    tags = tags_of(resolver)
    async with trio.open_nursery() as nursery:
        resolver.delay_seconds = 20.0
        nursery.start_soon(tags.resolve, "v1")
        await trio.sleep(10)
        resolver.answer, resolver.delay_seconds = descriptor("two"), 0.0
        await tags.resolve("v1")
    known = tags.known("v1")
    assert known is not None
    assert known.descriptor == descriptor("two")


async def test_the_last_answer_stands_and_that_is_said_once(
    autojump_clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "tag keeps its last digest")
    resolver = SlowResolver()
    tags = tags_of(resolver)
    await tags.resolve("v1")
    resolver.answer = ConnectionRefused("refused")
    for _ in range(3):
        await trio.sleep(31)
        resolution = await tags.resolve("v1")
        assert resolution is not None
        assert resolution.seconds == 5.0
    resolver.answer = descriptor("two")
    await trio.sleep(6)
    resolution = await tags.resolve("v1")
    assert resolution is not None
    assert resolution.descriptor == descriptor("two")


async def test_a_refused_tag_that_was_never_seen_does_not_exist() -> None:
    resolver = SlowResolver()
    resolver.answer = Forbidden("denied", status=403)
    assert await tags_of(resolver).resolve("v1") is None


async def test_a_listing_vouches_for_its_tags_for_the_time_to_live(
    autojump_clock: MockClock,
) -> None:
    tags = tags_of(SlowResolver())
    tags.note_listed(["v1"])
    await trio.sleep(10)
    assert tags.listed_seconds("v1") == pytest.approx(20)
    assert tags.listed_seconds("v2") == 0
    await trio.sleep(21)
    assert tags.listed_seconds("v1") == 0


@pytest.mark.parametrize("pin", [True, False])
async def test_the_oldest_of_very_many_is_asked_for_again_unless_it_is_pinned(
    monkeypatch: pytest.MonkeyPatch, *, pin: bool
) -> None:
    monkeypatch.setattr(module, "_RESOLVED", 2)
    resolver = SlowResolver()
    tags = tags_of(resolver, pin=pin)
    for tag in ("v1", "v2", "v3"):
        await tags.resolve(tag)
    assert (tags.known("v1") is None) != pin
    await tags.resolve("v1")
    assert resolver.asked == (3 if pin else 4)


def test_a_listing_vouches_for_the_last_of_very_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LISTED", 2)
    tags = Tags(SlowResolver(), FilesystemOptions(), lambda: 0.0, "localhost/a")
    tags.note_listed(["v1", "v2", "v3"])
    assert [tags.listed_seconds(tag) > 0 for tag in ("v1", "v2", "v3")] == [False, True, True]
