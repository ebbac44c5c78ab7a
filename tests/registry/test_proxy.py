"""Both HTTP paths by way of a proxy that tunnels, and wants credentials itself."""

import gc
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trustme

from orasfs.errors import HostUnreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from tests.fakes.registry import FakeRegistry
from tests.support.connectproxy import ConnectProxy

CONTENT = b"content"
BLOB = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))
PASSWORD = "p@ss:wörd"  # noqa: S105 - of no account
QUOTED = "p%40ss%3Aw%C3%B6rd"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def registry(authority: trustme.CA) -> Iterator[FakeRegistry]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("registry.example").configure_cert(context)
    with FakeRegistry(context) as registry:
        registry.put_blob("a", CONTENT)
        yield registry


@pytest.fixture
def proxy(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectProxy]:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    with ConnectProxy(registry.port, "user", PASSWORD) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{QUOTED}@{proxy.host}")
        yield proxy


def connect(authority: trustme.CA) -> RemoteRegistry:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    settings = RegistrySettings(
        ssl_context=context, retry=RetryPolicy(attempts=3, base_seconds=0.001)
    )
    return RemoteRegistry("registry.example", settings)


async def test_both_paths_tunnel_with_the_proxys_credentials(
    registry: FakeRegistry,
    proxy: ConnectProxy,
    authority: trustme.CA,
    caplog: pytest.LogCaptureFixture,
) -> None:
    remote = connect(authority)
    with caplog.at_level(logging.DEBUG, "orasfs"):
        await remote.ping()
        stream = await trio.to_thread.run_sync(remote.repository("a").open_stream, BLOB)
        assert stream.readinto(memoryview(bytearray(10))) == len(CONTENT)
        stream.close()
        await remote.aclose()
    assert proxy.targets == ["registry.example:443"] * 2
    assert all("proxy-authorization" not in headers for headers in registry.request_headers)
    assert not [word for word in (PASSWORD, QUOTED) if word in caplog.text]


async def refused(work: Callable[[], Awaitable[object]]) -> str:
    """Return what a proxy's refusal is told by, and let go of all that was part of it."""
    try:
        await work()
    except HostUnreachable as error:
        return str(error)
    raise AssertionError("not refused")


# http.client leaves the socket of a tunnel that was refused to the collector of garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_proxy_that_refuses_is_named_and_not_asked_again(
    proxy: ConnectProxy, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrong@{proxy.host}")
    remote = connect(authority)
    open_stream = remote.repository("a").open_stream
    said = [
        await refused(remote.ping),
        await refused(lambda: trio.to_thread.run_sync(open_stream, BLOB)),
    ]
    await remote.aclose()
    gc.collect()
    for words in said:
        assert "the proxy lets nothing through: it wants credentials (407)" in words
        assert "wrong" not in words
    assert proxy.refusals == 2
