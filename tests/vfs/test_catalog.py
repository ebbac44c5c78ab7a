import pytest
import trio
from trio.testing import MockClock

from orasfs.errors import ConnectionRefused, OrasfsError
from orasfs.vfs.catalog import Catalog, RepositoryTree
from tests.fakes.repositories import NO_CATALOG, FakeRegistry


def catalog_of(registry: FakeRegistry, nursery: trio.Nursery) -> Catalog:
    return Catalog(registry, nursery, trio.current_time, 60.0)


def listing(*names: str) -> FakeRegistry:
    registry = FakeRegistry("localhost", [])
    registry.catalog = names
    return registry


def test_a_tree_has_the_namespaces_above_repositories() -> None:
    tree = RepositoryTree()
    for name in ("b/c", "a", "b", "b/a/x"):
        tree.add(name)
    assert list(tree.children("")) == ["b", "a"]
    assert list(tree.children("b")) == ["c", "a"]
    assert "b/a" in tree
    assert "c" not in tree
    assert 7 not in tree


async def test_pages_are_shared_and_invalid_names_skipped(nursery: trio.Nursery) -> None:
    registry = listing("a", "Not Valid", "b", "c")
    registry.catalog_page_size = 2
    catalog = catalog_of(registry, nursery)
    reading = catalog.reading()
    async with trio.open_nursery() as readers:
        for _ in range(5):
            readers.start_soon(reading.grow)
    assert len(registry.calls) == 1
    assert list(catalog.children("")) == ["a"]
    assert not catalog.is_useful_for("a")
    await catalog.finish(1.0)
    assert list(catalog.children("")) == ["a", "b", "c"]
    assert catalog.is_useful_for("a")
    assert catalog.is_useful_for("")
    assert not catalog.is_useful_for("z")


async def test_what_was_read_last_stands_when_reading_again_fails(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry = listing("a")
    catalog = catalog_of(registry, nursery)
    await catalog.finish(1.0)
    await trio.sleep(61)
    registry.catalog_failure = ConnectionRefused("refused")
    assert isinstance((await catalog.finish(1.0)).error, ConnectionRefused)
    assert catalog.contains("a")
    assert not catalog.is_useful_for("a")


@pytest.mark.parametrize(
    ("failure", "calls", "calls_after_retry"), [(NO_CATALOG, 1, 1), (ConnectionRefused("x"), 2, 3)]
)
async def test_a_refusal_is_remembered_and_a_fault_not_long(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    failure: OrasfsError,
    calls: int,
    calls_after_retry: int,
) -> None:
    registry = listing()
    registry.catalog_failure = failure
    catalog = catalog_of(registry, nursery)
    await catalog.finish(1.0)
    await trio.sleep(6)
    await catalog.finish(1.0)
    assert len(registry.calls) == calls
    catalog.retry()
    await catalog.finish(1.0)
    assert len(registry.calls) == calls_after_retry
