"""The counting front that mount tests put before a real registry."""

import pytest

from orasfs.errors import RegistryFailure, Unsupported
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from tests.fakes.registry import FakeRegistry
from tests.support.front import Front
from tests.support.publish import publish_files

SETTINGS = RegistrySettings(retry=RetryPolicy(attempts=1))
CONTENT = b"content" * 100_000


async def test_front_forwards_counts_and_overrides() -> None:
    with FakeRegistry() as registry, Front(registry.port) as front:
        publish_files(registry, "team/hello", "v1", **{"artifact.txt": CONTENT})
        remote = RemoteRegistry(front.host, SETTINGS)
        repository = remote.repository("team/hello")
        await repository.fetch_manifest(await repository.resolve("v1"))
        assert list((await remote.list_repositories()).names) == ["team/hello"]
        front.override(r"^/v2/_catalog", status=401)
        front.override(r"/tags/list", body=b'{"name": "x", "tags": []}')
        with pytest.raises(Unsupported):
            await remote.list_repositories()
        assert list((await repository.list_tags()).names) == []
        front.clear()
        assert list((await repository.list_tags()).names) == ["v1"]
        assert (front.count("HEAD"), front.count("GET", "_catalog"), front.count()) == (1, 2, 6)
        front.forget_requests()
        assert front.count() == 0
        await remote.aclose()


async def test_front_relays_blobs_and_ranges() -> None:
    with FakeRegistry() as registry, Front(registry.port) as front:
        registry.put_blob("a", CONTENT)
        remote = RemoteRegistry(front.host, SETTINGS)
        blob = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))
        buffer = memoryview(bytearray(len(CONTENT)))
        with_range = remote.repository("a").open_stream(blob, 100, 200)
        assert with_range.offset == 100
        assert with_range.readinto(buffer) == 100
        assert front.bytes_sent == 100
        await remote.aclose()


async def test_front_of_a_registry_that_is_away_says_so() -> None:
    with FakeRegistry() as registry, Front(registry.port) as front:
        registry.stop()
        remote = RemoteRegistry(front.host, SETTINGS)
        with pytest.raises(RegistryFailure, match="the registry is away"):
            await remote.ping()
        await remote.aclose()
