"""Mount options: what is taken, what is ignored, and which words refuse the rest."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.daemon.config import (
    IGNORED,
    MountConfig,
    default_cache,
    option_names,
    parse_options,
)
from orasfs.errors import InvalidInput

BASE = MountConfig(cache=Path("/cache"))


def test_without_options_the_defaults_of_the_interface_hold() -> None:
    config = parse_options([], BASE)
    assert config == BASE
    assert (config.tag_ttl_seconds, config.wait_seconds) == (30.0, 30.0)
    assert (config.pin, config.is_strict, config.merge_images) == (False, False, True)
    assert config.plain_http is None


def test_all_options_are_taken() -> None:
    config = parse_options(
        [
            "registry=Localhost:5000,registry=ghcr.io,registry=ghcr.io,tag_ttl=5,wait=2.5,pin",
            "platform=linux/arm64/v8,mediatype=text/*,images=blobs,catalog=complete",
            "verify=strict,cache=/big,plain_http,allow_other,ro,log_level=debug,log_file=/l,noexec",
        ],
        BASE,
    )
    assert config == MountConfig(
        cache=Path("/big"),
        registries=("localhost:5000", "ghcr.io"),
        tag_ttl_seconds=5.0,
        wait_seconds=2.5,
        pin=True,
        platform="linux/arm64/v8",
        media_type="text/*",
        merge_images=False,
        catalog_complete=True,
        is_strict=True,
        plain_http=True,
        allow_other=True,
        read_only=True,
        log_level="DEBUG",
        log_file=Path("/l"),
        kernel_flags=("noexec",),
    )


def test_where_mirrors_are_named_and_how_much_is_asked_at_once() -> None:
    config = parse_options(["hosts_dir=/a,concurrency=3", "hosts_dir=/b,hosts_dir=/a"], BASE)
    assert config.hosts_directories == (Path("/a"), Path("/b"))
    assert config.concurrency == 3


@pytest.mark.parametrize("word", [*sorted(IGNORED), "x-systemd.automount", "comment=mine", ""])
def test_words_of_fstab_are_ignored(word: str) -> None:
    assert parse_options([word], BASE) == BASE


def test_the_last_of_two_values_counts() -> None:
    assert parse_options(["tag_ttl=5", "tag_ttl=7,ro,rw"], BASE).tag_ttl_seconds == 7.0
    assert not parse_options(["ro,rw"], BASE).read_only


def test_a_comma_in_a_value_is_escaped() -> None:
    assert parse_options([r"cache=/a\,b,pin"], BASE).cache == Path("/a,b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tagttl=5", "option 'tagttl': not known"),
        ("tag_ttl", "option tag_ttl: needs a value"),
        ("index", "option index: needs a value"),
        ("index=yes", "option index=yes: expected use or publish or ignore"),
        ("tag_ttl=", "expected a number"),
        ("tag_ttl=-1", "expected a number of seconds from 0"),
        ("tag_ttl=nan", "expected a number"),
        ("tag_ttl=inf", "expected a number"),
        ("wait=0", "expected a number of seconds from 0.1"),
        ("pin=1", "option pin: takes no value"),
        ("platform=linux", "expected OS/ARCHITECTURE"),
        ("concurrency=0", "expected a number from 1 to 64"),
        ("concurrency=65", "expected a number from 1 to 64"),
        ("concurrency=many", "expected a number from 1 to 64"),
        ("hosts_dir=", "expected a path"),
        ("images=none", "expected merged or blobs"),
        ("verify=no", "expected lazy or strict"),
        ("catalog=no", "expected complete"),
        ("log_level=loud", "expected one of DEBUG"),
        ("registry=http://x", "expected HOST"),
        ("mediatype=", "expected a pattern"),
        ("cache=", "expected a path"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_options([text], BASE)


@given(st.text(max_size=40))
def test_no_text_ends_in_anything_but_a_config_or_an_error(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert isinstance(parse_options([text], BASE), MountConfig)


def test_the_cache_is_the_reference_clients_where_it_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORAS_CACHE", "/oras")
    assert default_cache() == Path("/oras")
    monkeypatch.delenv("ORAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache() == Path("/xdg/orasfs")


def test_the_names_of_options_can_be_listed() -> None:
    assert {"registry", "tag_ttl", "pin", "ro", "allow_other"} <= set(option_names())
    assert "rw" not in option_names()


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("Registry.Example:443:10.0.0.1", ("registry.example", 443, "10.0.0.1", 0)),
        ("h:443:10.0.0.1:5000", ("h", 443, "10.0.0.1", 5000)),
        ("h:443:[::1]:5000", ("h", 443, "::1", 5000)),
        ("h:443:::1", ("h", 443, "::1", 0)),
        ("[::2]:443:[::1]", ("::2", 443, "::1", 0)),
    ],
)
def test_a_host_can_be_given_an_address(value: str, address: tuple[str, int, str, int]) -> None:
    assert parse_options([f"resolve={value}"]).addresses == (address,)


@pytest.mark.parametrize("value", ["h", "h:443", "h:x:10.0.0.1", "h:443:name", "h:443:10.0.0.1:x"])
def test_what_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="resolve"):
        parse_options([f"resolve={value}"])
