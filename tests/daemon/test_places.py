"""The clients that files of mirrors lead to, and what each place is given."""

import logging
from pathlib import Path

import pytest
import trustme

from orasfs.daemon.places import Client, Makings, check_file, is_own, make_client
from orasfs.errors import InvalidInput
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.credential import NoCredentials
from orasfs.registry.hosts import Place
from orasfs.registry.mirrors import MirroredRegistry
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.trust import TrustOptions
from tests.conftest import ExpectLog

HOST = "registry.example:5000"


def write(directory: Path, text: str, name: str = HOST) -> Path:
    path = directory / name / "hosts.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def make(directory: Path, host: str = HOST, settings: RegistrySettings | None = None) -> Client:
    makings = Makings(settings or RegistrySettings(), TrustOptions(), NoCredentials())
    return make_client(host, makings, [directory])


def settings_of(client: RemoteRegistry) -> RegistrySettings:
    return client._transport._settings


def test_without_a_file_there_are_no_mirrors(tmp_path: Path) -> None:
    client = make(tmp_path)
    assert isinstance(client, RemoteRegistry)
    assert client.reader is client


def test_a_file_leads_to_its_places_in_order(tmp_path: Path) -> None:
    write(tmp_path, '[host."https://a.example"]\n[host."http://b.example:5000"]\n', "_default")
    assert repr(make(tmp_path)) == f"MirroredRegistry(a.example, b.example:5000, {HOST})"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[host", "not TOML"),
        ('[host."https://a.example"]\nca = "missing.crt"', "missing.crt: No such file"),
        ('[host."https://a.example"]\nclient = "missing.pem"', "missing.pem: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_the_registry_is_read(
    tmp_path: Path, expect_log: ExpectLog, text: str, reason: str
) -> None:
    expect_log(logging.ERROR, f"mirrors are not used host={HOST} reason=.*{reason}")
    path = write(tmp_path, text)
    assert isinstance(make(tmp_path), RemoteRegistry)
    with pytest.raises(InvalidInput, match=reason):
        check_file(path)


def test_an_entry_for_the_registry_itself_says_how_to_speak_with_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    (tmp_path / HOST).mkdir()
    authority.cert_pem.write_to_path(tmp_path / HOST / "ca.crt")
    (tmp_path / HOST / "hosts.toml").write_text(
        f'[host."http://{HOST}"]\nca = "ca.crt"\nskip_verify = true\ndial_timeout = "3s"\n'
        'header = {x = "1"}\n'
    )
    client = make(tmp_path, settings=RegistrySettings(headers=(("y", "2"),)))
    assert isinstance(client, RemoteRegistry)
    settings = settings_of(client)
    assert settings.ssl_context is not None
    assert not settings.verifies_tls
    assert settings.headers == (("x", "1"), ("y", "2"))
    assert settings.connect_seconds == 3
    assert client._transport._endpoint.url_now() == f"http://{HOST}"


def test_a_mirror_gets_nothing_that_is_meant_for_the_registry(tmp_path: Path) -> None:
    write(tmp_path, '[host."https://a.example"]\n')
    client = make(tmp_path, settings=RegistrySettings(headers=(("secret", "1"),), concurrency=3))
    assert isinstance(client, MirroredRegistry)
    mirror, origin = (place.registry for place in client._places)
    assert settings_of(mirror).headers == ()
    assert settings_of(origin).headers == (("secret", "1"),)
    assert settings_of(mirror).concurrency == 3


def test_the_registrys_own_certificate_is_not_shown_to_a_mirror(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("user")
    pem = tmp_path / "own.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(pem)
    write(tmp_path, '[host."https://a.example"]\n')
    trust = TrustOptions(cert_file=pem)
    client = make_client(HOST, Makings(RegistrySettings(), trust, NoCredentials()), [tmp_path])
    assert isinstance(client, MirroredRegistry)
    mirror, origin = (place.registry for place in client._places)
    assert settings_of(origin).ssl_context is not None
    assert settings_of(mirror).ssl_context is None


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("https://registry.example:5000", HOST, True),
        ("http://registry.example:5000", HOST, True),
        ("https://registry.example", HOST, False),
        ("https://registry.example", "registry.example:443", True),
        ("https://registry-1.docker.io", "docker.io", True),
        ("https://docker.io", "docker.io", True),
        ("https://mirror.example", "docker.io", False),
    ],
)
def test_which_place_is_the_registry_itself(url: str, host: str, *, expected: bool) -> None:
    assert is_own(Place(url), host) == expected
