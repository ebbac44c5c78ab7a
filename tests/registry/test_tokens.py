"""Token requests and answers as values, and the realms that get no credentials."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import RegistryFailure
from orasfs.registry.challenge import Challenge
from orasfs.registry.credential import Credential
from orasfs.registry.protocol import Answer
from orasfs.registry.tokens import check_realm, token_of, token_request

CHALLENGE = Challenge("bearer", {"realm": "https://auth.example/token?a=1&b=", "service": "s&t"})
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def answer(document: object, **headers: str) -> Answer:
    return Answer("https://auth.example/token?x", 200, headers, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
        ("http://127.0.0.1:5000", "http://localhost:5001/token"),
        ("https://10.0.0.5:5000", "https://10.0.0.5/token"),
        ("https://10.0.0.5", "https://auth.corp.example/token"),
        ("https://registry.example", "https://8.8.8.8/token"),
        ("http://registry.example", "http://registry.example:81/token"),
    ],
)
def test_realms_that_get_credentials(registry: str, realm: str) -> None:
    check_realm(registry, realm)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry.example", "http://registry.example/token"),
        ("https://10.0.0.5", "http://10.0.0.5/token"),
        ("https://10.0.0.5", "https://10.0.0.6/token"),
        ("http://localhost:5000", "http://127.0.0.1:5001/token"),
        ("https://registry.example", "https://127.0.0.1/token"),
        ("https://registry.example", "https://127.1/token"),
        ("https://registry.example", "https://2130706433/token"),
        ("https://registry.example", "https://0x7f.0.0.1/token"),
        ("https://registry.example", "https://[::ffff:10.0.0.1]/token"),
        ("https://registry.example", "https://100.64.0.1/token"),
        ("https://registry.example", "https://localhost/token"),
        ("https://registry.example", "https://[::1]:5000/token"),
        ("https://registry.example", "https://10.0.0.1/token"),
        ("https://registry.example", "https://169.254.169.254/latest/meta-data"),
        ("http://registry.example", "http://192.168.1.1/token"),
        ("https://registry.example", "https://0.0.0.0/token"),
        ("https://registry.example", "file:///etc/passwd"),
        ("https://registry.example", "/token"),
    ],
)
def test_realms_that_get_none(registry: str, realm: str) -> None:
    with pytest.raises(RegistryFailure):
        check_realm(registry, realm)


def test_the_query_of_a_realm_stays() -> None:
    request = token_request(CHALLENGE, frozenset({"repository:a:pull"}), None)
    assert request.url == (
        "https://auth.example/token?a=1&b=&service=s%26t&scope=repository%3Aa%3Apull"
    )
    assert (request.method, request.body, request.headers) == ("GET", None, {})


def test_no_secret_is_in_the_repr_of_a_request_or_a_token() -> None:
    for credential in (Credential("u", "sesame"), Credential(identity_token="sesame")):  # noqa: S106 - of no account
        request = token_request(CHALLENGE, frozenset(), credential)
        assert "sesame" not in repr(request)
        assert "Basic" not in repr(request)
        assert "sesame" not in request.url
    assert "sesame" not in repr(token_of(answer({"token": "sesame"})))


@pytest.mark.parametrize("name", ["token", "access_token"])
def test_either_name_of_a_token_will_do(name: str) -> None:
    assert token_of(answer({name: "x"})).authorization == "Bearer x"
    both = token_of(answer({"token": "y", "access_token": "x"}))
    assert both.authorization == "Bearer x"


@pytest.mark.parametrize(
    "document", [{}, [], "x", None, {"token": 1}, {"token": ""}, {"token": "a\r\nX: y"}]
)
def test_an_answer_without_a_token_is_a_failure(document: object) -> None:
    with pytest.raises(RegistryFailure, match=r"token service https://auth\.example/token:"):
        token_of(answer(document))
    with pytest.raises(RegistryFailure):
        token_of(Answer("https://auth.example/token", 200, {}, b"<html>"))


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 54),
        ({"expires_in": 300}, 290),
        ({"expires_in": 2}, 1.8),
        ({"expires_in": 0}, 54),
        ({"expires_in": -5}, 54),
        ({"expires_in": "300"}, 54),
        ({"expires_in": True}, 54),
        ({"expires_in": 1e300}, 86_390),
    ],
)
def test_a_token_is_used_until_shortly_before_its_end(
    fields: dict[str, object], seconds: float
) -> None:
    assert token_of(answer({"token": "x", **fields})).seconds == pytest.approx(seconds)


def test_the_age_of_a_token_is_taken_by_the_clock_of_its_service() -> None:
    moment = (NOW - timedelta(seconds=101)).isoformat()
    issued = {"token": "x", "expires_in": 300, "issued_at": moment}
    assert token_of(answer(issued, date=format_datetime(NOW))).seconds == pytest.approx(190)
    assert token_of(answer(issued)).seconds == pytest.approx(290)
    issued["issued_at"] = NOW.replace(tzinfo=None).isoformat() + "Z"
    assert token_of(answer(issued, date=format_datetime(NOW, usegmt=True))).seconds == 290
    issued["issued_at"] = "yesterday"
    assert token_of(answer(issued, date=format_datetime(NOW))).seconds == 290


FIELDS = st.sampled_from(["token", "expires_in", "issued_at"])
VALUES = st.none() | st.text() | st.floats() | st.integers()


@given(st.dictionaries(FIELDS, VALUES), st.text())
def test_any_answer_is_a_token_or_a_failure(document: dict[str, object], date: str) -> None:
    try:
        token = token_of(answer(document, date=date))
    except RegistryFailure:
        return
    assert 0 <= token.seconds <= 86_400
