"""Clients of the registries of tests, which repeat what fails a few times, and at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orasfs.registry.client import RemoteRegistry
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings


@asynccontextmanager
async def remote_to(host: str, attempts: int = 2) -> AsyncIterator[RemoteRegistry]:
    """Have a client that tries so often."""
    settings = RegistrySettings(retry=RetryPolicy(attempts=attempts, base_seconds=0.001))
    remote = RemoteRegistry(host, settings)
    try:
        yield remote
    finally:
        await remote.aclose()
