"""Uploads to a real docker-registry over a network that fails."""

from collections.abc import Iterator

import pytest
import trio

from orasfs.registry.client import RemoteRegistry
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from tests.support.content import Memory, ignore, never
from tests.support.cutting import CuttingProxy
from tests.support.docker_registry import DockerRegistry

pytestmark = pytest.mark.registry

MIB = 1024 * 1024
SETTINGS = RegistrySettings(retry=RetryPolicy(base_seconds=0.01))


@pytest.fixture(scope="module")
def docker() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.mark.parametrize("cuts", [(MIB,), (9 * MIB, 3 * MIB, 100)])
async def test_a_connection_that_breaks_costs_another_attempt_only(
    docker: DockerRegistry, cuts: tuple[int, ...]
) -> None:
    content = Memory(len(cuts).to_bytes(1, "big") + bytes(12 * MIB))
    with CuttingProxy(docker.port) as proxy:
        remote = RemoteRegistry(proxy.host, SETTINGS)
        repository = remote.repository("a/b")
        proxy.cut_after(*cuts)
        with trio.fail_after(30):
            await trio.to_thread.run_sync(
                repository.push_blob, content.descriptor, content, ignore, never
            )
            assert await repository.has_blob(content.descriptor)
        assert proxy.cuts == len(cuts)
        await remote.aclose()
