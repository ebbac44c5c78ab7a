"""The shapes of credential files that are met in the wild, each by name."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.registry.credential import Credential
from orasfs.registry.dockerconfig import (
    credential_in,
    helper_address,
    helper_for,
    parse_config,
)

HOST = "registry.example:5000"


def auth(username: str = "user", password: str = "pass") -> str:  # noqa: S107 - of no account
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def find(document: Any, host: str = HOST, repository: str = "a/b") -> Credential | None:  # noqa: ANN401
    return credential_in(parse_config(json.dumps(document).encode()), host, repository)


def username(document: Any, host: str = HOST, repository: str = "a/b") -> str | None:  # noqa: ANN401
    found = find(document, host, repository)
    return found.username if found else None


def test_base64_of_user_and_password_wins_over_the_plain_fields() -> None:
    entry = {"auth": auth("u", "p:with:colons"), "username": "other", "password": "other"}
    assert find({"auths": {HOST: entry}}) == Credential("u", "p:with:colons")


def test_plain_user_and_password_are_taken() -> None:
    entry = {"username": "u", "password": "p", "email": "x@example"}
    assert find({"auths": {HOST: entry}}) == Credential("u", "p")


def test_identity_token_and_registry_token_are_taken() -> None:
    entry = {"auth": auth("u", ""), "identitytoken": "refresh", "registrytoken": "bearer"}
    assert find({"auths": {HOST: entry}}) == Credential("u", "", "refresh", "bearer")


@pytest.mark.parametrize(
    "key",
    [f"https://{HOST}", f"https://{HOST}/v1/", f"http://{HOST}/v2/", f"{HOST}/v1/", f"{HOST}/"],
)
def test_legacy_keys_with_scheme_and_path_mean_the_host(key: str) -> None:
    assert username({"auths": {key: {"auth": auth()}}}) == "user"


def test_exact_key_wins_over_a_legacy_one() -> None:
    legacy, exact = {"auth": auth("legacy")}, {"auth": auth("exact")}
    assert username({"auths": {f"https://{HOST}/v1/": legacy, HOST: exact}}) == "exact"


def test_a_host_without_its_port_is_another_host() -> None:
    assert username({"auths": {"registry.example": {"auth": auth()}}}) is None
    assert username({"auths": {HOST: {"auth": auth()}}}, "registry.example") is None


@pytest.mark.parametrize("host", ["docker.io", "registry-1.docker.io", "index.docker.io"])
@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_hub_is_known_by_its_old_address(host: str, key: str) -> None:
    assert username({"auths": {key: {"auth": auth()}}}, host, "library/alpine") == "user"


def test_longest_namespace_wins_and_others_have_none_of_it() -> None:
    auths = {
        f"{HOST}/a": {"auth": auth("namespace")},
        f"{HOST}/a/b": {"auth": auth("repository")},
        HOST: {"auth": auth("host")},
    }
    assert username({"auths": auths}, repository="a/b") == "repository"
    assert username({"auths": auths}, repository="a/b/c") == "repository"
    assert username({"auths": auths}, repository="a/c") == "namespace"
    assert username({"auths": auths}, repository="ab") == "host"
    del auths[HOST]
    assert username({"auths": auths}, repository="ab") is None


@pytest.mark.parametrize(
    "entry", [{}, {"auth": ""}, {"username": "u"}, {"auth": auth("u", "")}, None, []]
)
def test_an_entry_without_a_secret_is_none(entry: object) -> None:  # fmt: skip
    """docker leaves empty entries where the secret is in a store."""
    assert find({"auths": {HOST: entry}}) is None


@pytest.mark.parametrize("raw", [b"", b" \n", b"{}", b'{"auths": null}', b'{"auths": {}}'])
def test_an_empty_file_has_no_credentials(raw: bytes) -> None:
    assert credential_in(parse_config(raw), HOST, "a") is None


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b'"x"', b'{"auths": []}', b'{"credsStore": 1}', b"[" * 99999]
)
def test_a_file_of_another_kind_is_refused(raw: bytes) -> None:  # fmt: skip
    with pytest.raises(InvalidContent):
        parse_config(raw)


def test_nul_padding_of_old_passwords_is_taken_off() -> None:
    assert find({"auths": {HOST: {"auth": auth("u", "p\0\0")}}}) == Credential("u", "p")


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"nocolon").decode(), "/w=="])
def test_an_entry_that_cannot_be_decoded_is_named_without_its_content(text: str) -> None:
    with pytest.raises(InvalidContent) as caught:
        find({"auths": {HOST: {"auth": text}}})
    assert HOST in str(caught.value)
    assert text not in str(caught.value)
    assert username({"auths": {HOST: {"auth": text}}}, "other.example") is None


def test_helper_of_a_host_wins_over_the_store() -> None:
    document = {"credHelpers": {HOST: "ecr", "empty.example": ""}, "credsStore": "desktop"}
    config = parse_config(json.dumps(document).encode())
    assert helper_for(config, HOST, "a/b") == "ecr"
    assert helper_for(config, "empty.example", "") == "desktop"
    assert helper_for(parse_config(b"{}"), HOST, "a") == ""


def test_helpers_are_asked_for_docker_hub_by_its_old_address() -> None:
    assert helper_address("docker.io") == "https://index.docker.io/v1/"
    assert helper_address(HOST) == HOST


def test_secrets_are_in_no_repr() -> None:
    found = Credential("user", "sesame", "sesame", "sesame", "file")
    assert "sesame" not in repr(found)
    assert "sesame" not in repr([found])


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["auths", "credHelpers", "auth", HOST]), x)
        ),
    )
)
def test_any_document_is_read_or_refused(document: object) -> None:  # fmt: skip
    try:
        config = parse_config(json.dumps(document).encode())
        helper_for(config, HOST, "a")
        credential_in(config, HOST, "a")
    except InvalidContent:
        return
