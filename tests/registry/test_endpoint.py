import socket
import ssl
import struct
import threading
from collections.abc import Iterator

import pytest
import trustme

from orasfs.errors import ConnectionRefused, TimedOut
from orasfs.registry.endpoint import Endpoint, host_and_port
from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import free_port


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def mute() -> Iterator[str]:
    """A server that accepts and never says anything, until the client ends its side."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)


def test_hosts_elsewhere_are_spoken_with_by_tls_and_not_asked() -> None:
    assert Endpoint("registry.example:5000").url_now() == "https://registry.example:5000"
    assert Endpoint("registry.example").is_trusted


def test_docker_hub_has_another_address() -> None:
    assert Endpoint("docker.io").url_now() == "https://registry-1.docker.io"


def test_plain_http_is_what_was_asked_for() -> None:
    endpoint = Endpoint("registry.example", plain_http=True)
    assert endpoint.url_now() == "http://registry.example"
    assert not endpoint.is_trusted
    assert Endpoint("localhost:5000", plain_http=False).url_now() == "https://localhost:5000"


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("localhost", ("localhost", None)),
        ("localhost:5000", ("localhost", 5000)),
        ("[::1]:5000", ("::1", 5000)),
        ("[::1]", ("::1", None)),
    ],
)
def test_host_and_port(host: str, parts: tuple[str, int | None]) -> None:
    assert host_and_port(host) == parts


def test_loopback_without_tls_is_plain_http() -> None:
    with FakeRegistry() as registry:
        endpoint = Endpoint(registry.host)
        assert endpoint.url_now() is None
        assert endpoint.url() == f"http://{registry.host}"
        assert endpoint.url_now() == f"http://{registry.host}"
        assert registry.count() == 0  # the question was no request


def test_loopback_with_tls_is_tls(tls: ssl.SSLContext) -> None:
    with FakeRegistry(tls) as registry:
        assert Endpoint(registry.host).url() == f"https://{registry.host}"


def test_a_server_that_says_nothing_speaks_no_tls(mute: str) -> None:
    assert Endpoint(mute).url() == f"http://{mute}"


def test_a_loopback_host_that_is_down_is_asked_again() -> None:
    with FakeRegistry() as registry:
        registry.stop()
        endpoint = Endpoint(registry.host)
        with pytest.raises(ConnectionRefused):
            endpoint.url()
        registry.start()
        assert endpoint.url() == f"http://{registry.host}"


def test_without_a_port_the_message_names_the_host() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefused, match=f"127.0.0.1:{port}"):
        Endpoint(f"127.0.0.1:{port}").url()


@pytest.mark.parametrize("listens_at_443", [True, False])
def test_loopback_without_a_port_is_asked_at_both_default_ports(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, *, listens_at_443: bool
) -> None:
    connect = socket.create_connection
    asked: list[int] = []
    with FakeRegistry(tls if listens_at_443 else None) as registry:

        def route(address: tuple[str, int], timeout: float) -> socket.socket:
            asked.append(address[1])
            if address[1] == 443 and not listens_at_443:
                raise ConnectionRefusedError
            return connect(("127.0.0.1", registry.port), timeout=timeout)

        monkeypatch.setattr(socket, "create_connection", route)
        expected = "https://localhost" if listens_at_443 else "http://localhost"
        assert Endpoint("localhost").url() == expected
    assert asked == ([443] if listens_at_443 else [443, 80])


def test_host_that_does_not_answer_the_question_is_timed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(address: tuple[str, int], timeout: float) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", silent)
    endpoint = Endpoint("localhost:5000")
    with pytest.raises(TimedOut, match="localhost:5000"):
        endpoint.url()
    assert repr(endpoint) == "Endpoint(localhost:5000)"


def test_server_that_resets_the_question_speaks_no_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        thread = threading.Thread(target=reset, daemon=True)
        thread.start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        assert Endpoint(host).url() == f"http://{host}"
        thread.join(5)
