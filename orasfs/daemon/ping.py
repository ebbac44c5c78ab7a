"""One question to a registry, outside any mount: does it answer? And how long that may take."""

import trio

from orasfs.daemon.places import Client
from orasfs.errors import TimedOut
from orasfs.oci.reference import parse_registry
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.credentials import user_credentials
from orasfs.registry.settings import RegistrySettings

PING_SECONDS = 20.0


def ping(host: str, *, plain_http: bool | None) -> None:
    """Ask the registry whether it will speak with us.

    Args:
        host: `HOST[:PORT]`.
        plain_http: None lets a loopback host be looked at.

    Raises:
        InvalidName: it is no host.
        RegistryError: it answered no; Unauthorized only says that it wants credentials.
        Unreachable: it did not answer, or not in time.
    """
    trio.run(_ping, parse_registry(host), RegistrySettings(plain_http=plain_http))


async def _ping(host: str, settings: RegistrySettings) -> None:
    registry = RemoteRegistry(host, settings, credentials=user_credentials())
    await ask_once(registry, host, PING_SECONDS)


async def ask_once(registry: Client, host: str, seconds: float) -> None:
    """Ask a registry that is used for nothing else, and close its client.

    Raises:
        TimedOut: it did not answer within so many seconds; and what `ping` of it raises.
    """
    try:
        with trio.move_on_after(seconds) as scope:
            await registry.ping()
    finally:
        with trio.move_on_after(1, shield=True):
            await registry.aclose()
    if scope.cancelled_caught:
        raise TimedOut(f"{host}: no answer within {seconds:g} seconds")
