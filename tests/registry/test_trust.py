"""Whom to trust by TLS: options, and docker's certs.d."""

import ssl
from pathlib import Path

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization

from orasfs.errors import InvalidInput, TLSFailure, Unreachable
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.lanes import Lane, context_for, lane_of, proxy_context_for
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.trust import TrustOptions, make_context
from tests.fakes.registry import FakeRegistry
from tests.support.loopback import Exchange
from tests.support.publish import publish_files

HOST = "registry.example:5000"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(tmp_path: Path, authority: trustme.CA) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def ping(registry: FakeRegistry, context: ssl.SSLContext | None) -> None:
    settings = RegistrySettings(ssl_context=context, retry=RetryPolicy(attempts=1))
    remote = RemoteRegistry(registry.host, settings)
    try:
        await remote.ping()
    finally:
        await remote.aclose()


def test_without_a_choice_the_systems_store_is_taken(tmp_path: Path) -> None:
    assert make_context(TrustOptions(), HOST, certificates=[tmp_path]) is None


async def test_an_authority_that_was_chosen_is_trusted(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    with FakeRegistry(server_context(authority)) as registry:
        with pytest.raises(TLSFailure):
            await ping(registry, None)
        await ping(registry, make_context(TrustOptions(ca_file), HOST, certificates=[tmp_path]))
        other = TrustOptions(ca_file)
        context = make_context(other, HOST, certificates=[tmp_path])
        assert context is not None
        assert context.verify_mode == ssl.CERT_REQUIRED


async def test_insecure_verifies_nothing_and_is_not_trusted(
    authority: trustme.CA, tmp_path: Path
) -> None:
    context = make_context(TrustOptions(is_insecure=True), HOST, certificates=[tmp_path])
    with FakeRegistry(server_context(authority)) as registry:
        await ping(registry, context)
    settings = RegistrySettings(ssl_context=context, verifies_tls=False)
    assert not RemoteRegistry(HOST, settings).repository("a").is_trusted
    assert RemoteRegistry(HOST, RegistrySettings()).repository("a").is_trusted


async def test_certificates_are_found_by_the_registrys_name_in_every_directory(
    authority: trustme.CA, tmp_path: Path
) -> None:
    docker, containers = (tmp_path / name / "certs.d" for name in ("docker", "containers"))

    def context(host: str) -> ssl.SSLContext | None:
        return make_context(TrustOptions(), host, certificates=[docker, containers])

    server = server_context(authority)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server)
    with FakeRegistry(server) as registry:
        for directory in (docker, containers):
            (directory / registry.host).mkdir(parents=True)
        authority.cert_pem.write_to_path(docker / registry.host / "own.crt")
        with pytest.raises(Unreachable):
            await ping(registry, context(registry.host))
        client = authority.issue_cert("me@example")
        client.cert_chain_pems[0].write_to_path(containers / registry.host / "client.cert")
        client.private_key_pem.write_to_path(containers / registry.host / "client.key")
        await ping(registry, context(registry.host))
        assert context("another.example") is None


class Watched(FakeRegistry):
    """Notes who showed a certificate."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(tls)
        self.shown: list[bool] = []

    def respond(self, exchange: Exchange) -> None:
        assert isinstance(exchange.connection, ssl.SSLSocket)
        self.shown.append(bool(exchange.connection.getpeercert()))
        super().respond(exchange)


def asking_context(authority: trustme.CA, mode: ssl.VerifyMode) -> ssl.SSLContext:
    """A server's context that asks for a client certificate."""
    context = server_context(authority)
    context.verify_mode = mode
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("what", ["blob", "manifest"])
async def test_client_certificates_are_shown_to_the_registry_and_to_no_redirect_target(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, what: str
) -> None:
    client = authority.issue_cert("me@example")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    options = TrustOptions(ca_file, tmp_path / "me.pem")
    content = b"content"
    blob = Descriptor("application/octet-stream", Digest.of(content), len(content))
    with (
        Watched(asking_context(authority, ssl.CERT_REQUIRED)) as registry,
        Watched(asking_context(authority, ssl.CERT_OPTIONAL)) as storage,
    ):
        for server in (registry, storage):
            publish_files(server, "a", "v1", **{"f.txt": content})
        location = f"https://{storage.host}/v2/a/manifests/v1"
        registry.fail("/manifests/", status=307, headers={"Location": location})
        registry.blob_location = f"https://{storage.host}/storage/"
        settings = RegistrySettings(
            ssl_context=make_context(options, registry.host, certificates=[tmp_path]),
            foreign_ssl_context=make_context(
                options, registry.host, certificates=[tmp_path], is_foreign=True
            ),
            retry=RetryPolicy(attempts=1),
        )
        remote = RemoteRegistry(registry.host, settings)
        if what == "manifest":
            await remote.repository("a").resolve("v1")
        else:
            stream = await trio.to_thread.run_sync(remote.repository("a").open_stream, blob)
            assert stream.readinto(memoryview(bytearray(10))) == len(content)
            stream.close()
        await remote.aclose()
        assert registry.shown == [True]
        assert storage.shown == [False]


def test_the_token_service_of_another_origin_gets_no_client_certificate() -> None:
    own, foreign = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    settings = RegistrySettings(ssl_context=own, foreign_ssl_context=foreign)
    endpoint = Endpoint("registry.example")
    for url, expected in (
        ("https://registry.example:443/token", own),
        ("https://REGISTRY.example/token", own),
        ("https://registry.example:8443/token", foreign),
        ("https://auth.example/token", foreign),
    ):
        assert context_for(lane_of(url, endpoint), settings) is expected


def test_a_proxy_is_shown_no_client_certificate() -> None:
    own, foreign = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    settings = RegistrySettings(ssl_context=own, foreign_ssl_context=foreign)
    for is_own in (True, False):
        lane = Lane(is_tls=True, is_own=is_own, proxy="https://proxy.example:3128")
        assert proxy_context_for(lane, settings) is foreign


def test_files_that_are_no_use_are_named(tmp_path: Path, ca_file: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for options in (
        TrustOptions(ca_file=tmp_path / "missing.pem"),
        TrustOptions(ca_file=empty),
        TrustOptions(cert_file=tmp_path / "missing.pem"),
        TrustOptions(cert_file=ca_file, key_file=empty),
    ):
        with pytest.raises(InvalidInput, match=str(tmp_path)):
            make_context(options, HOST, certificates=[tmp_path])


def test_an_encrypted_key_is_refused_without_asking(authority: trustme.CA, tmp_path: Path) -> None:
    leaf = authority.issue_cert("me@example")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    )
    (tmp_path / "key.pem").write_bytes(encrypted)
    options = TrustOptions(cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem")
    with pytest.raises(InvalidInput, match="encrypted"):
        make_context(options, HOST, certificates=[tmp_path])


async def test_a_host_is_reached_at_the_address_given_and_verified_by_its_name(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("registry.example").configure_cert(server)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = make_context(TrustOptions(tmp_path / "ca.pem"), HOST, certificates=[tmp_path])
    content = b"content"
    blob = Descriptor("application/octet-stream", Digest.of(content), len(content))
    with FakeRegistry(server) as registry:
        registry.put_blob("a", content)
        for host, is_good in ((HOST, True), ("other.example:5000", False)):
            settings = RegistrySettings(
                ssl_context=context,
                retry=RetryPolicy(attempts=1),
                addresses={(host.partition(":")[0], 5000): ("127.0.0.1", registry.port)},
            )
            remote = RemoteRegistry(host, settings)
            open_stream = remote.repository("a").open_stream
            if is_good:
                await remote.ping()
                stream = await trio.to_thread.run_sync(open_stream, blob)
                assert stream.readinto(memoryview(bytearray(10))) == len(content)
                stream.close()
                assert {h["host"] for h in registry.request_headers} == {host}
            else:
                with pytest.raises(TLSFailure):
                    await remote.ping()
                with pytest.raises(TLSFailure):
                    await trio.to_thread.run_sync(open_stream, blob)
            await remote.aclose()
