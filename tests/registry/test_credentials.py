"""Where credentials come from: the files in their order, read again, and helpers."""

import base64
import json
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from orasfs.errors import CredentialsUnusable
from orasfs.registry.credential import Credential
from orasfs.registry.credentials import GivenCredential, UserCredentials, credential_files
from orasfs.registry.helpers import erase_credential, get_credential, store_credential

HOST = "registry.example"
Helper = Callable[[str, str], None]


def write(path: Path, username: str, **more: object) -> Path:
    auth = base64.b64encode(f"{username}:pass".encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {HOST: {"auth": auth}}, **more}))
    return path


def username(credentials: UserCredentials) -> str | None:
    found = credentials.find(HOST, "a")
    return found.username if found else None


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """Install a credential helper: a shell script that gets its question on stdin."""

    def install(name: str, script: str) -> None:
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return install


def test_docker_comes_before_podman(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/me", "XDG_CONFIG_HOME": "/conf"}
    assert [str(path) for path in credential_files((), environ, Path("/h"))] == [
        "/h/.docker/config.json",
        "/run/me/containers/auth.json",
        "/conf/containers/auth.json",
    ]


def test_files_that_the_environment_names_replace_their_defaults() -> None:
    environ = {"DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/r.json", "XDG_RUNTIME_DIR": "/run"}
    found = [str(path) for path in credential_files((), environ, Path("/h"))]
    assert found == ["/d/config.json", "/r.json"]


def test_files_that_were_chosen_are_all_there_are(tmp_path: Path) -> None:
    chosen = (Path("/x"), Path("/y"))
    assert credential_files(chosen, {"DOCKER_CONFIG": "/d"}, Path("/h")) == chosen


def test_the_first_file_with_a_credential_decides(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"auths": {"other.example": {"auth": "dTpw"}}}')
    first, second = write(tmp_path / "1", "first"), write(tmp_path / "2", "second")
    assert username(UserCredentials([tmp_path / "missing", other, first, second])) == "first"
    found = UserCredentials([first]).find(HOST, "a")
    assert found is not None
    assert found.origin == str(first)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    credentials = UserCredentials([path])
    assert username(credentials) is None
    write(path, "early")
    assert username(credentials) == "early"
    os.replace(write(tmp_path / "new", "later"), path)  # noqa: PTH105 - as tools do it
    assert username(credentials) == "later"
    path.unlink()
    assert username(credentials) is None


def test_a_file_that_has_not_changed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "config.json", "user")
    credentials = UserCredentials([path])
    assert username(credentials) == "user"
    monkeypatch.setattr(Path, "open", None)
    assert username(credentials) == "user"


@pytest.mark.parametrize("text", ["{", '{"auths": 1}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    credentials = UserCredentials([path])
    for _ in range(2):  # and is not forgotten to be broken
        with pytest.raises(CredentialsUnusable, match=r"config\.json"):
            credentials.find(HOST, "a")
    write(path, "mended")
    assert username(credentials) == "mended"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsUnusable, match=str(tmp_path)):
        UserCredentials([tmp_path]).find(HOST, "a")


def test_a_given_credential_is_for_its_host_only(tmp_path: Path) -> None:
    files = UserCredentials([write(tmp_path / "c", "file")])
    given = GivenCredential("other.example", Credential("me", "p"), files)
    for host, expected in (("other.example", "me"), (HOST, "file")):
        found = given.find(host, "a")
        assert found is not None
        assert found.username == expected


def test_a_store_is_asked_in_place_of_the_file(tmp_path: Path) -> None:
    asked = []

    def ask(name: str, address: str) -> Credential | None:
        asked.append((name, address))
        return Credential("stored", "p") if name == "mine" else None

    store = write(tmp_path / "1", "file", credsStore="mine")
    assert username(UserCredentials([store], ask_helper=ask)) == "stored"
    empty = write(tmp_path / "2", "file", credsStore="empty")
    fallback = write(tmp_path / "3", "fallback")
    assert username(UserCredentials([empty, fallback], ask_helper=ask)) == "fallback"
    assert asked == [("mine", HOST), ("empty", HOST)]


def test_a_helper_is_asked_by_its_protocol(tmp_path: Path, helper: Helper) -> None:
    helper("ok", f'echo "$1 $(cat)" > {tmp_path}/asked; echo \'{{"Username":"u","Secret":"s"}}\'')
    found = get_credential("ok", HOST)
    assert found == Credential("u", "s", origin="docker-credential-ok")
    assert (tmp_path / "asked").read_text() == f"get {HOST}\n"


def test_a_helper_may_have_a_refresh_token(helper: Helper) -> None:
    helper("token", 'echo \'{"Username":"<token>","Secret":"refresh"}\'')
    found = get_credential("token", HOST)
    assert found is not None
    assert (found.identity_token, found.basic) == ("refresh", "")


def test_a_helper_that_knows_nothing_means_anonymous(helper: Helper) -> None:
    helper("none", "echo credentials not found in native keychain; exit 1")
    assert get_credential("none", HOST) is None


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo the vault is locked; exit 1", "the vault is locked"),
        ("exit 3", "status 3"),
        ("echo no json", "something else"),
        ("echo '{}'", "something else"),
        ('echo \'{"Username":1,"Secret":2}\'', "something else"),
    ],
)
def test_a_helper_that_fails_is_an_error_in_words(helper: Helper, script: str, words: str) -> None:
    helper("bad", script)
    with pytest.raises(CredentialsUnusable, match=words):
        get_credential("bad", HOST)


@pytest.mark.parametrize("name", ["missing", "../evil", "", "a b"])
def test_a_helper_that_is_missing_is_an_error_in_words(helper: Helper, name: str) -> None:
    with pytest.raises(CredentialsUnusable, match="not installed"):
        get_credential(name, HOST)


def test_a_helper_that_hangs_is_ended_with_its_children(tmp_path: Path, helper: Helper) -> None:
    pid = tmp_path / "pid"
    helper("hang", f"sleep 300 & echo $! > {pid}.new; mv {pid}.new {pid}; wait")
    for seconds in (0.5, 2.0, 8.0, 30.0):  # until it has had the time to begin
        with pytest.raises(CredentialsUnusable, match="no answer within"):
            get_credential("hang", HOST, seconds=seconds)
        if pid.exists():
            break
    assert has_ended(int(pid.read_text()))


def has_ended(pid: int) -> bool:
    """Wait for the end of a process of ours that is nobody's child any more."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(fd):
        return bool(select.select([fd], [], [], 30)[0])


def test_a_helper_keeps_and_forgets(tmp_path: Path, helper: Helper) -> None:
    helper("store", f'echo "$1 $(cat)" >> {tmp_path}/asked')
    store_credential("store", HOST, Credential("u", "p"))
    store_credential("store", HOST, Credential(identity_token="t"))  # noqa: S106 - of no account
    erase_credential("store", HOST)
    lines = (tmp_path / "asked").read_text().splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["store", "store", "erase"]
    stored = [json.loads(line.partition(" ")[2]) for line in lines[:2]]
    assert stored[0] == {"ServerURL": HOST, "Username": "u", "Secret": "p"}
    assert stored[1] == {"ServerURL": HOST, "Username": "<token>", "Secret": "t"}
