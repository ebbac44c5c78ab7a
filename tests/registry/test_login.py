"""Keeping credentials in the file that others keep theirs in."""

import json
import os
from pathlib import Path

import pytest

from orasfs.errors import CredentialsUnusable
from orasfs.registry import login
from orasfs.registry.credential import Credential
from orasfs.registry.credentials import UserCredentials

HOST = "registry.example:5000"
CREDENTIAL = Credential("user", "p\u00e4ss:word")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


def find(path: Path, host: str = HOST) -> Credential | None:
    found = UserCredentials([path]).find(host, "a")
    return found.named("") if found else None


@pytest.mark.parametrize(
    "credential",
    [CREDENTIAL, Credential(identity_token="refresh")],  # noqa: S106 - of no account
)
@pytest.mark.parametrize("host", [HOST, "docker.io"])
def test_what_is_kept_is_found_and_forgotten(
    path: Path, host: str, credential: Credential
) -> None:
    assert login.store(path, host, credential) == f"{path}, not encrypted"
    assert find(path, host) == credential
    assert login.remove(path, host)
    assert find(path, host) is None
    assert not login.remove(path, host)


def test_the_file_is_the_users_alone(path: Path) -> None:
    login.store(path, HOST, CREDENTIAL)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["config.json"]  # noqa: PTH208 - names


def test_what_others_wrote_stays(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"psFormat": "x", "auths": {"other.example": {"auth": "dTpw"}}, "a": [1]}')
    login.store(path, HOST, CREDENTIAL)
    login.remove(path, HOST)
    document = json.loads(path.read_text())
    assert list(document) == ["psFormat", "auths", "a"]
    assert document["auths"] == {"other.example": {"auth": "dTpw"}}


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "real.json")
    login.store(path, HOST, CREDENTIAL)
    assert path.is_symlink()
    assert find(tmp_path / "real.json") == CREDENTIAL


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 1}'])
def test_a_broken_file_is_left_as_it_is(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CredentialsUnusable, match=r"config\.json"):
        login.store(path, HOST, CREDENTIAL)
    assert path.read_text() == text


def test_a_file_that_cannot_be_replaced_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CredentialsUnusable, match="Not a directory"):
        login.store(tmp_path / "file" / "config.json", HOST, CREDENTIAL)


def test_the_configured_store_is_preferred(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-kept"
    helper.write_text(
        f"""#!/bin/sh
case $1 in
store) cat > {tmp_path}/kept;;
erase) rm -f {tmp_path}/kept;;
get)
    cat {tmp_path}/kept 2>/dev/null && exit
    echo credentials not found in native keychain
    exit 1;;
esac
"""
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path.parent.mkdir()
    path.write_text('{"credsStore": "kept"}')
    assert login.store(path, HOST, CREDENTIAL) == "docker-credential-kept"
    assert json.loads(path.read_text())["auths"] == {HOST: {}}
    found = find(path)
    assert found is not None
    assert (found.username, found.password) == (CREDENTIAL.username, CREDENTIAL.password)
    assert login.remove(path, HOST)
    assert not login.remove(path, HOST)
