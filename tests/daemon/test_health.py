"""Health: what the last outcome says, and that watching changes nothing."""

import pytest

from orasfs.daemon.health import Health, WatchedRegistry, WatchedSource
from orasfs.errors import NotFound, OrasfsError, RegistryFailure, TimedOut, Unauthorized
from orasfs.oci.descriptor import EMPTY_JSON, EMPTY_JSON_DIGEST, Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobStream, Page, Source

DESCRIPTOR = Descriptor("application/json", EMPTY_JSON_DIGEST, len(EMPTY_JSON))


class FakeStream:
    """A stream of nothing."""

    offset = 0

    def readinto(self, buffer: memoryview) -> int:
        return 0

    def close(self) -> None:
        pass


class FakeRegistry:
    """Source and registry in one: answers, or fails with the error it is given."""

    is_trusted = True

    def __init__(self) -> None:
        self.error: OrasfsError | None = None

    def repository(self, name: str) -> Source:
        return self

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error

    async def resolve(self, reference: str) -> Descriptor:
        self._answer()
        return DESCRIPTOR

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        self._answer()
        return EMPTY_JSON

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        self._answer()
        return Page([f"{token} {limit}"])

    async def list_repositories(self, token: str | None = None) -> Page:
        self._answer()
        return Page(["a"])

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        self._answer()
        return (DESCRIPTOR,)

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> BlobStream:
        self._answer()
        return FakeStream()


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def watched(fake: FakeRegistry) -> WatchedRegistry:
    return WatchedRegistry(fake, Health(lambda: 12.5))


async def test_each_call_is_passed_on_and_counted(watched: WatchedRegistry) -> None:
    source = watched.repository("a")
    assert source.is_trusted
    assert await source.resolve("t") == DESCRIPTOR
    assert await source.fetch_manifest(DESCRIPTOR) == EMPTY_JSON
    assert (await source.list_tags("next", limit=1)).names == ["next 1"]
    assert await source.list_referrers(EMPTY_JSON_DIGEST) == (DESCRIPTOR,)
    assert (await watched.list_repositories()).names == ["a"]
    source.open_stream(DESCRIPTOR).close()
    assert watched.health.current.reachable is True
    assert dict(watched.health.current.requests) == dict.fromkeys(
        ["resolve", "fetch_manifest", "list_tags", "list_referrers", "list_repositories",
         "open_stream"], 1,
    )  # fmt: skip


def test_what_was_never_asked_is_unknown() -> None:
    assert Health(lambda: 0.0).current.reachable is None


@pytest.mark.parametrize("error", [TimedOut("late"), RegistryFailure("broken")])
async def test_no_answer_is_noted_with_its_words_and_raised(
    watched: WatchedRegistry, fake: FakeRegistry, error: OrasfsError
) -> None:
    fake.error = error
    source = watched.repository("a")
    with pytest.raises(type(error)):
        await source.resolve("t")
    with pytest.raises(type(error)):
        source.open_stream(DESCRIPTOR)
    now = watched.health.current
    assert (now.reachable, now.failures) == (False, 2)
    assert (now.last_error, now.last_error_time) == (str(error), 12.5)


@pytest.mark.parametrize("error", [NotFound("none"), Unauthorized("who are you")])
async def test_a_no_is_an_answer(
    watched: WatchedRegistry, fake: FakeRegistry, error: OrasfsError
) -> None:
    fake.error = TimedOut("late")
    with pytest.raises(TimedOut):
        await watched.list_repositories()
    fake.error = error
    with pytest.raises(type(error)):
        await watched.repository("a").resolve("t")
    assert watched.health.current.reachable is True
    assert watched.health.current.last_error == "late"


class TwoPlaces(FakeRegistry):
    """A source that can get a blob from elsewhere."""

    def reject(self, descriptor: Descriptor) -> bool:
        return descriptor == DESCRIPTOR


def test_a_rejected_blob_is_told_to_a_source_that_has_other_places() -> None:
    health = Health(lambda: 0.0)
    assert WatchedSource(TwoPlaces(), health).reject(DESCRIPTOR)
    assert not WatchedSource(FakeRegistry(), health).reject(DESCRIPTOR)
