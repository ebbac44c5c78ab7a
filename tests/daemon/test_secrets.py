"""Secrets between the command and its daemon: whole on the pipe, and nowhere else."""

import dataclasses

import pytest

from orasfs.daemon import control
from orasfs.daemon.config import MountConfig
from orasfs.daemon.secrets import MAX_BYTES, MountSecrets, parse_header
from orasfs.errors import InvalidInput

SECRET = "swordfish-7f3a"  # noqa: S105 - of no account


def test_secrets_come_through_the_pipe_whole() -> None:
    told = MountSecrets("user", f"{SECRET}\u00e9\n", "", [("X-A", "b")])
    heard = MountSecrets.from_bytes(told.to_bytes())
    assert (heard.username, heard.password, heard.identity_token, heard.headers) == (
        ("user", f"{SECRET}\u00e9\n", "", (("X-A", "b"),))
    )


def test_nothing_to_tell_is_nothing_on_the_pipe() -> None:
    assert MountSecrets().to_bytes() == b""
    assert not MountSecrets.from_bytes(b"").has_credential


def test_what_a_pipe_does_not_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match="longer"):
        MountSecrets("user", "x" * MAX_BYTES).to_bytes()


def test_secrets_are_in_no_text_of_the_configuration() -> None:
    config = MountConfig(secrets=MountSecrets("user", SECRET, SECRET, [("X-A", SECRET)]))
    status = control.status(config, version="1", pid=1, since=0, registries={}, transport="")
    texts = [repr(config), str(config), repr(dataclasses.asdict(config))]
    texts.append(control.as_json(status).decode())
    assert not any(SECRET in text for text in texts)


@pytest.mark.parametrize(
    ("text", "header"),
    [("X-A: b: c", ("X-A", "b: c")), (" a_b :", ("a_b", "")), ("A:b", ("A", "b"))],
)
def test_headers_are_split_at_the_first_colon(text: str, header: tuple[str, str]) -> None:
    assert parse_header(text) == header


@pytest.mark.parametrize("text", [f"{SECRET}", f"a b: {SECRET}", f"A: {SECRET}\r\nB: c", ": x"])
def test_what_is_no_header_is_refused_without_its_value(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_header(text)
    assert SECRET not in str(caught.value).replace(repr(text), "")
