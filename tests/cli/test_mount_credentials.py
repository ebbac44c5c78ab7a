"""The flags of `orasfs mount` for credentials, trust and headers."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from orasfs.cli.credentials import (
    credential_options,
    read_secrets,
    trust_options,
    trust_words,
)
from orasfs.daemon.config import MountConfig, parse_options
from orasfs.daemon.connect import connector
from orasfs.daemon.secrets import MountSecrets
from orasfs.errors import InvalidInput
from orasfs.vfs.root import NamespaceRoot, RegistriesRoot, RegistryRoot
from tests.fakes.guarded import GuardedRegistry
from tests.fakes.registry import FakeRegistry


def secrets_of(*words: str, stdin: str = "") -> list[Any]:
    @click.command()
    @credential_options
    def command(**flags: Any) -> None:  # noqa: ANN401 - flags of several types
        click.echo(read_secrets(flags).to_bytes())

    done = CliRunner().invoke(command, list(words), input=stdin)
    if done.exit_code:
        raise click.UsageError(done.output)
    found: list[Any] = json.loads(done.stdout.strip() or "null")
    return found


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        (["-u", "me", "-p", "secret"], "", ["me", "secret", "", []]),
        (["--username", "me", "--password-stdin"], "se cret\r\n", ["me", "se cret", "", []]),
        (["--identity-token", "t"], "", ["", "", "t", []]),
        (["--identity-token-stdin"], "t\n", ["", "", "t", []]),
        (["-p", "t"], "", ["", "", "t", []]),
        (["--password-stdin"], "t", ["", "", "t", []]),
        ([], "", None),
    ],
)
def test_flags_give_credentials_as_the_reference_client_has_them(
    words: list[str], stdin: str, expected: list[Any] | None
) -> None:
    assert secrets_of(*words, stdin=stdin) == expected


def test_flags_of_trust_are_options() -> None:
    found: list[MountConfig] = []

    @click.command()
    @trust_options
    def command(**flags: Any) -> None:  # noqa: ANN401 - flags of several types
        found.append(parse_options(trust_words(flags)))

    words = ["--insecure", "--ca-file", "/a,b", "--cert-file", "/c", "--key-file", "/k"]
    words += ["--registry-config", "/1", "--registry-config", "/2"]
    assert CliRunner().invoke(command, words).exit_code == 0
    [config] = found
    assert (config.ca_file, config.cert_file) == (Path("/a,b"), Path("/c"))
    assert (config.key_file, config.is_insecure) == (Path("/k"), True)
    assert config.credential_files == (Path("/1"), Path("/2"))


def test_credentials_need_a_registry_that_they_are_for() -> None:
    config = MountConfig(secrets=MountSecrets("me", "secret"))
    with pytest.raises(InvalidInput, match="must name the registry"):
        connector(config, RegistriesRoot())
    with pytest.raises(InvalidInput, match="must name the registry"):
        connector(MountConfig(secrets=MountSecrets(headers=[("a", "b")])), RegistriesRoot())


async def test_credentials_and_headers_go_to_no_other_registry(tmp_path: Path) -> None:
    empty = tmp_path / "config.json"
    empty.write_text("{}")
    secrets = MountSecrets("user", "secret", headers=[("X-Mine", "secret")])
    with GuardedRegistry(users={"user": "secret"}) as mine, FakeRegistry() as other:
        config = MountConfig(secrets=secrets, credential_files=(empty,))
        connect = connector(config, NamespaceRoot(mine.host, "a"))
        for registry in (mine, other):
            client = connect(registry.host)
            await client.ping()
            await client.aclose()
    assert mine.request_headers[-1]["x-mine"] == "secret"
    assert mine.request_headers[-1]["authorization"].startswith("Basic ")
    assert not {"x-mine", "authorization"} & set(other.request_headers[-1])


async def test_headers_are_not_redirected_to_another_host(tmp_path: Path) -> None:
    with FakeRegistry() as registry, FakeRegistry() as other:
        registry.fail("/v2/", status=307, headers={"Location": f"http://{other.host}/v2/"})
        config = MountConfig(secrets=MountSecrets(headers=[("X-Mine", "secret")]))
        client = connector(config, RegistryRoot(registry.host))(registry.host)
        await client.ping()
        await client.aclose()
    assert "x-mine" in registry.request_headers[-1]
    assert "x-mine" not in other.request_headers[-1]


def test_a_certificate_that_cannot_be_read_is_said_before_mounting(tmp_path: Path) -> None:
    config = MountConfig(ca_file=tmp_path / "missing.pem")
    with pytest.raises(InvalidInput, match=r"missing\.pem"):
        connector(config, RegistryRoot("registry.example"))


def test_a_proxy_that_cannot_be_used_is_said_before_mounting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@proxy:1080")
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    config = MountConfig()
    with pytest.raises(InvalidInput, match="all_proxy: a proxy by socks5://") as caught:
        connector(config, RegistryRoot("registry.example"))
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", ".example")
    connector(config, RegistryRoot("registry.example"))
