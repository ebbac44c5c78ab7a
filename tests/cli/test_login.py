"""`orasfs login` and `logout`: the real command against a registry that wants to know."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.guarded import GuardedRegistry
from tests.support.mounted import environment
from tests.support.token_server import Rules, TokenServer

SECRET = "swordfish-7f3a"  # noqa: S105 - of no account


@pytest.fixture(params=["basic", "bearer"])
def registry(request: pytest.FixtureRequest) -> Iterator[GuardedRegistry]:
    if request.param == "basic":
        with GuardedRegistry(users={"user": SECRET}) as registry:
            yield registry
        return
    with (
        TokenServer(Rules({"user": SECRET}, {SECRET: "user"})) as tokens,
        GuardedRegistry(tokens) as registry,
    ):
        yield registry


def orasfs(home: Path, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "orasfs", *words],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
        env=environment(home), cwd=home,
    )  # fmt: skip


def test_good_credentials_are_kept_and_forgotten(
    registry: GuardedRegistry, tmp_path: Path
) -> None:
    words = ("login", "-u", "user", "--password-stdin", registry.host)
    done = orasfs(tmp_path, *words, stdin=f"{SECRET}\n")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / ".docker/config.json"
    assert done.stdout == f"{registry.host}: logged in; kept in {path}, not encrypted\n"
    assert list(json.loads(path.read_text())["auths"]) == [registry.host]
    assert orasfs(tmp_path, "doctor", registry.host).stdout.endswith("answers\n")
    assert orasfs(tmp_path, "logout", registry.host).returncode == 0
    assert json.loads(path.read_text())["auths"] == {}
    done = orasfs(tmp_path, "logout", registry.host)
    assert (done.returncode, "no credentials to forget" in done.stderr) == (1, True)


def test_wrong_credentials_are_not_kept(registry: GuardedRegistry, tmp_path: Path) -> None:
    config = tmp_path / "other.json"
    words = ("login", "-u", "user", "-p", "wrong", "--registry-config", str(config))
    done = orasfs(tmp_path, *words, registry.host)
    assert done.returncode == 1
    assert "does not take the credentials" in done.stderr
    assert "wrong" not in done.stderr
    assert not config.exists()


def test_an_identity_token_is_kept(tmp_path: Path) -> None:
    rules = Rules(refresh_tokens={SECRET: "user"})
    with TokenServer(rules) as tokens, GuardedRegistry(tokens) as registry:
        done = orasfs(tmp_path, "login", registry.host, "--identity-token-stdin", stdin=SECRET)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / ".docker/config.json").read_text())
    assert document["auths"] == {registry.host: {"identitytoken": SECRET}}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "give credentials"),
        (["-u", "user"], "a password is needed"),
        (["-u", "user", "--password-stdin"], "no password came on stdin"),
        (["-p", "a", "--identity-token", "b"], "give one of them"),
    ],
)
def test_flags_that_do_not_suffice_are_wrong_usage(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    done = orasfs(tmp_path, "login", *flags, "registry.example")
    assert (done.returncode, words in done.stderr) == (2, True)
