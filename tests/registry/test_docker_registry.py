"""The real registry that tests fill: it keeps what it got, and comes back where it was."""

from collections.abc import Iterator

import pytest

from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.settings import RegistrySettings
from tests.support.docker_registry import DockerRegistry
from tests.support.publish import GOLDEN_LAYOUT, layout_tags, publish_files

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.mark.parametrize("tag", [tag for tag in layout_tags() if tag != "index"])
def test_layouts_are_pushed_as_they_are(registry: DockerRegistry, tag: str) -> None:
    expected = layout_tags()[tag]["digest"]
    assert registry.push_layout(GOLDEN_LAYOUT, tag, "pushed") == expected


async def test_skopeo_keeps_digests(registry: DockerRegistry) -> None:
    remote = RemoteRegistry(registry.host, RegistrySettings())
    for tag in ("multi", "config-and-type", "no-layers"):
        registry.copy_from_layout(GOLDEN_LAYOUT, tag, "copied")
        found = await remote.repository("copied").resolve(tag)
        assert str(found.digest) == layout_tags()[tag]["digest"]
    await remote.aclose()


async def test_restart_keeps_host_and_content(registry: DockerRegistry) -> None:
    digest = publish_files(registry, "kept", "v1", **{"artifact.txt": b"kept"})
    host = registry.host
    registry.stop()
    registry.start()
    assert registry.host == host
    remote = RemoteRegistry(host, RegistrySettings())
    assert (await remote.repository("kept").resolve("v1")).digest == Digest.parse(digest)
    await remote.aclose()


async def test_catalog_of_many_pages_is_read_to_its_end(registry: DockerRegistry) -> None:
    """docker-registry gives a hundred names a page."""
    names = [f"many/r{number:03}" for number in range(120)]
    for name in names:
        publish_files(registry, name, "v1")
    remote = RemoteRegistry(registry.host, RegistrySettings())
    page = await remote.list_repositories()
    found = list(page.names)
    assert len(found) <= 100
    while page.next_token is not None:
        page = await remote.list_repositories(page.next_token)
        found += page.names
    assert [name for name in found if name.startswith("many/")] == names
    await remote.aclose()
