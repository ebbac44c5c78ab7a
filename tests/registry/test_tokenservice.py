"""Requests to token services: how often, and what of their answers is read."""

from collections.abc import Iterator

import pytest

from orasfs.errors import ConnectionRefused
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.pools import Pools
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.tokens import MAX_TOKEN_BYTES, TokenRequest
from orasfs.registry.tokenservice import TokenService
from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import free_port

SETTINGS = RegistrySettings(read_seconds=2, retry=RetryPolicy(attempts=3))


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def service(waits: list[float]) -> Iterator[TokenService]:
    pools = Pools(Endpoint("registry.example"), SETTINGS)
    yield TokenService(SETTINGS, pools, wait=waits.append, clock=lambda: sum(waits))
    pools.clear()


def request(server: FakeRegistry) -> TokenRequest:
    return TokenRequest("GET", f"http://{server.host}/v2/", {"Authorization": "Basic x"})


def test_retry_after_is_heeded(
    server: FakeRegistry, service: TokenService, waits: list[float]
) -> None:
    server.fail("/v2/", status=429, headers={"Retry-After": "7"})
    assert service.send(request(server), "token service").status == 200
    assert waits == [7.0]


def test_a_service_that_stays_busy_is_given_up(
    server: FakeRegistry, service: TokenService, waits: list[float]
) -> None:
    server.fail("/v2/", status=503, times=-1)
    assert service.send(request(server), "token service").status == 503
    assert len(waits) == 2


def test_a_refusal_is_not_repeated(server: FakeRegistry, service: TokenService) -> None:
    server.fail("/v2/", status=401, times=-1)
    assert service.send(request(server), "token service").status == 401
    assert server.count() == 1


def test_a_redirect_is_not_followed(server: FakeRegistry, service: TokenService) -> None:
    server.fail("/v2/", status=302, headers={"Location": f"http://{server.host}/elsewhere"})
    assert service.send(request(server), "token service").status == 302
    assert server.count(path="elsewhere") == 0


def test_no_more_is_read_than_a_token_can_be(server: FakeRegistry, service: TokenService) -> None:
    server.fail("/v2/", replace=b"x" * (MAX_TOKEN_BYTES * 4))
    assert len(service.send(request(server), "token service").body) == MAX_TOKEN_BYTES


def test_a_service_that_is_not_there_is_named(service: TokenService) -> None:
    gone = TokenRequest("GET", f"http://127.0.0.1:{free_port()}/token?secret=1")
    with pytest.raises(ConnectionRefused, match="the token service") as caught:
        service.send(gone, "the token service")
    assert "secret" not in str(caught.value)
